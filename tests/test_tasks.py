"""A demo model of every task over HTTP and in process: the same answers on every way."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_server.cli import main
from tests.support import ROOT

ROUTES = {
    "demo-parts/1": "object_detection",
    "demo-parts-seg/1": "instance_segmentation",
    "demo-wrenches/1": "keypoints_detection",
    "demo-surfaces/1": "classification",
    "demo-trays/1": "classification",
    "demo-corrosion/1": "semantic_segmentation",
}
every_model = pytest.mark.parametrize("model", ROUTES)
JPEG = b"\xff\xd8\xff"


def example(model: str) -> Path:
    return sorted((ROOT / "edge_server" / "bundled" / model / "examples").glob("*.jpg"))[0]


def send(url: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture
def infer(server):
    """Ask by JSON: the answer, or the status and the answer."""

    def ask(model: str, *, status: int = 200, route: str | None = None, **fields: object):
        picture = base64.b64encode(example(model).read_bytes()).decode()
        body = {"model_id": model, "image": {"type": "base64", "value": picture}, **fields}
        url = f"{server}/infer/{route or ROUTES[model]}"
        found, answer = send(url, json.dumps(body).encode())
        assert found == status, answer
        return json.loads(answer)

    return ask


@pytest.fixture
def legacy(server):
    """Ask by the legacy route: the body."""

    def ask(model: str, query: str = "", status: int = 200) -> bytes:
        picture = base64.b64encode(example(model).read_bytes())
        found, answer = send(f"{server}/{model}{query}", picture)
        assert found == status, answer
        return answer

    return ask


def without_chance(answer: dict) -> dict:
    """The answer without times and random ids."""
    kept = {key: value for key, value in answer.items() if key not in ("time", "inference_id")}
    if isinstance(kept["predictions"], list):
        kept["predictions"] = [
            {key: value for key, value in item.items() if key != "detection_id"}
            for item in kept["predictions"]
        ]
    return kept


def none_is_null(value: object) -> bool:
    if isinstance(value, dict):
        return all(none_is_null(item) for item in value.values())
    if isinstance(value, list):
        return all(none_is_null(item) for item in value)
    return value is not None


@every_model
def test_every_way_gives_the_same_answer(infer, legacy, model: str):
    answer = infer(model)
    assert none_is_null(answer)
    assert without_chance(json.loads(legacy(model))) == without_chance(answer)
    assert without_chance(infer(model, route="object_detection")) == without_chance(answer)


@every_model
def test_the_drawing_shows_something(infer, legacy, model: str):
    original = cv2.imread(str(example(model)))
    jpeg = legacy(model, "?format=image&labels=on&stroke=3")
    assert jpeg.startswith(JPEG)
    drawn = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == original.shape
    assert (cv2.absdiff(drawn, original) > 40).sum() > 500
    fields = {"visualization_labels": True, "visualization_stroke_width": 3}
    answer = infer(model, visualize_predictions=True, **fields)
    assert base64.b64decode(answer["visualization"]) == jpeg


@every_model
def test_the_command_gives_the_same_with_and_without_a_server(
    server, model: str, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setenv("EDGE_SERVER_DATA", str(tmp_path))
    command = ["infer", str(example(model)), "--model", model]
    tables, drawn = [], []
    for way in ([], ["--url", server]):
        out = tmp_path / f"{len(way)}.jpg"
        assert main([*command, "--out", str(out), *way]) == 0
        tables.append(capsys.readouterr().out.splitlines()[:-1])
        drawn.append(out.read_bytes())
    assert tables[0] == tables[1]
    assert len(tables[0]) > 1
    assert drawn[0] == drawn[1]


def test_best_keypoints_are_refused_on_both_routes(infer, legacy):
    refusals = [
        infer("demo-wrenches/1", status=422, confidence="best"),
        json.loads(legacy("demo-wrenches/1", "?confidence=best", status=422)),
    ]
    for refusal, place in zip(refusals, ("body", "query"), strict=True):
        (detail,) = refusal["detail"]
        assert detail["loc"] == [place, "confidence"]


@pytest.mark.parametrize(
    ("model", "form", "status"),
    [
        ("demo-corrosion/1", "base64_png", 200),
        ("demo-corrosion/1", "numpy", 200),
        ("demo-corrosion/1", "rle", 422),
        ("demo-parts-seg/1", "rle", 200),
        ("demo-parts-seg/1", "base64_png", 422),
        ("demo-surfaces/1", "rle", 200),
    ],
)
def test_masks_are_written_as_their_task_can(infer, model: str, form: str, status: int):
    infer(model, status=status, response_mask_format=form)


@pytest.mark.parametrize("word", ["best", "default"])
def test_a_classifier_uses_a_half_when_it_has_no_recommendation(infer, word: str):
    answer = infer("demo-surfaces/1", confidence=word)
    assert all(item["confidence"] >= 0.5 for item in answer["predictions"])
    labels = infer("demo-trays/1", confidence="default")
    assert labels["predicted_classes"]
