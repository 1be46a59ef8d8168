"""Fields of requests to what the model is asked."""

from __future__ import annotations

import json
from dataclasses import fields as fields_of

import pytest

from edge_server.api.fields import FieldsError, read_json, read_query
from edge_server.api.requests import (
    InferBody,
    LegacyQuery,
    check_task,
    json_request,
    legacy_request,
)
from edge_server.errors import RequestError
from edge_server.vision.params import InferParams


def from_json(**values):
    body = {"model_id": "a/1", "image": {"type": "base64", "value": ""}, **values}
    return json_request(read_json(json.dumps(body).encode(), InferBody))


def from_query(**values):
    texts = {name: str(value) for name, value in values.items()}
    return legacy_request(read_query(texts, LegacyQuery), "a/1")


both = pytest.mark.parametrize("ask", [from_json, from_query], ids=["json", "query"])


def changed(params):
    """What differs from the defaults."""
    default = InferParams()
    return {
        field.name: getattr(params, field.name)
        for field in fields_of(params)
        if getattr(params, field.name) != getattr(default, field.name)
    }


@both
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param(
            {"disable_preproc_contrast": "True"}, {"disable_contrast": True}, id="contrast"
        ),
        pytest.param({"disable_preproc_grayscale": "on"}, {"disable_grayscale": True}, id="grey"),
        pytest.param(
            {"disable_preproc_static_crop": "1"}, {"disable_static_crop": True}, id="crop"
        ),
        pytest.param({"keypoint_confidence": "0.3"}, {"keypoint_confidence": 0.3}, id="keypoints"),
        pytest.param(
            {"keypoint_confidence": "0"}, {"keypoint_confidence": 0.0}, id="all keypoints"
        ),
        pytest.param({"max_detections": "7"}, {"max_detections": 7}, id="max detections"),
        pytest.param({"response_mask_format": "rle"}, {"rle_masks": True}, id="run lengths"),
        pytest.param({"response_mask_format": "polygon"}, {}, id="polygons"),
        pytest.param({"confidence": "best"}, {"confidence": "best"}, id="best"),
        pytest.param({"include_anomaly_map": "True", "max_candidates": "5"}, {}, id="not ours"),
    ],
)
def test_fields_reach_the_model(ask, values, expected):
    assert changed(ask(**values).params) == expected


@both
@pytest.mark.parametrize(
    ("values", "resolution"),
    [
        pytest.param({}, None, id="not allowed"),
        pytest.param({"mask_decode_mode": "fast"}, None, id="fast, not allowed"),
        pytest.param({"mask_decode_mode": "tradeoff", "tradeoff_factor": "0.5"}, None, id="no"),
        pytest.param({"allow_reduced_mask_resolution": "True"}, None, id="accurate by default"),
        pytest.param(
            {"allow_reduced_mask_resolution": "True", "mask_decode_mode": "accurate"},
            None,
            id="accurate",
        ),
        pytest.param(
            {
                "allow_reduced_mask_resolution": "True",
                "mask_decode_mode": "fast",
                "tradeoff_factor": "1",
            },
            0.0,
            id="fast",
        ),
        pytest.param(
            {
                "allow_reduced_mask_resolution": "True",
                "mask_decode_mode": "tradeoff",
                "tradeoff_factor": "0.5",
            },
            0.5,
            id="tradeoff",
        ),
        pytest.param(
            {"allow_reduced_mask_resolution": "True", "mask_decode_mode": "tradeoff"},
            0.0,
            id="tradeoff without a factor",
        ),
    ],
)
def test_masks_are_as_coarse_as_the_caller_allows(ask, values, resolution):
    assert ask(**values).params.mask_resolution == resolution


@both
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mask_decode_mode": "best"},
            "mask_decode_mode is 'best'; expected one of accurate, fast",
        ),
        ({"mask_decode_mode": "Fast"}, "mask_decode_mode is 'Fast'"),
        ({"tradeoff_factor": "1.01"}, "tradeoff_factor is 1.01; expected a number from 0 to 1"),
        ({"tradeoff_factor": "-0.1", "mask_decode_mode": "fast"}, "tradeoff_factor is -0.1"),
    ],
)
@pytest.mark.parametrize("allowed", ["True", "False"])
def test_modes_are_checked_even_when_they_have_no_effect(ask, values, message, allowed):
    with pytest.raises(RequestError, match=message):
        ask(**values, allow_reduced_mask_resolution=allowed)


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_mask_format", "dense"),
        ("response_mask_format", "RLE"),
        ("response_mask_format", 7),
        ("response_mask_format", ["rle"]),
        ("tradeoff_factor", "half"),
        ("allow_reduced_mask_resolution", "perhaps"),
        ("disable_preproc_contrast", "perhaps"),
        ("keypoint_confidence", "sure"),
    ],
)
def test_wrong_types_are_named(ask, name, value):
    with pytest.raises(FieldsError) as refused:
        ask(**{name: value})
    (detail,) = refused.value.details
    assert detail["loc"] in (["body", name], ["query", name])
    assert name in detail["msg"]


def test_null_is_as_good_as_absent():
    nulls = dict.fromkeys(
        [
            "keypoint_confidence", "mask_decode_mode", "tradeoff_factor", "response_mask_format",
            "disable_preproc_contrast", "allow_reduced_mask_resolution",
        ]
    )  # fmt: skip
    assert changed(from_json(**nulls).params) == {}


@pytest.mark.parametrize(
    ("task", "fields", "location"),
    [
        ("keypoint-detection", {"confidence": "best"}, "confidence"),
        ("instance-segmentation", {"response_mask_format": "base64_png"}, "response_mask_format"),
        ("instance-segmentation", {"response_mask_format": "numpy"}, "response_mask_format"),
        ("semantic-segmentation", {"response_mask_format": "rle"}, "response_mask_format"),
        ("semantic-segmentation", {"response_mask_format": "polygon"}, "response_mask_format"),
    ],
)
def test_what_a_task_does_not_have_is_refused(task, fields, location):
    with pytest.raises(FieldsError) as refused:
        check_task(from_json(**fields), task)
    (detail,) = refused.value.details
    assert detail["loc"] == ["body", location]
    assert location in detail["msg"]


def test_the_legacy_route_refuses_best_keypoints_too():
    with pytest.raises(FieldsError) as refused:
        check_task(from_query(confidence="best"), "keypoint-detection")
    assert refused.value.details[0]["loc"] == ["query", "confidence"]


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("keypoint-detection", {"confidence": "default", "response_mask_format": "rle"}),
        ("object-detection", {"confidence": "best", "response_mask_format": "numpy"}),
        ("classification", {"confidence": "best"}),
        ("instance-segmentation", {"response_mask_format": "rle"}),
        ("instance-segmentation", {}),
        ("semantic-segmentation", {"response_mask_format": "base64_png"}),
        ("semantic-segmentation", {"response_mask_format": "numpy"}),
        ("semantic-segmentation", {}),
    ],
)
def test_what_a_task_has_or_ignores_is_fine(task, fields):
    check_task(from_json(**fields), task)


def test_the_legacy_route_knows_no_formats_of_class_maps_and_ignores_the_others_there():
    check_task(from_query(response_mask_format="rle"), "semantic-segmentation")
    with pytest.raises(FieldsError, match="response_mask_format"):
        from_query(response_mask_format="base64_png")
