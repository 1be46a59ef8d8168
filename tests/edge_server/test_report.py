"""Tables for people."""

from __future__ import annotations

import base64
from textwrap import dedent

import cv2
import numpy as np
import pytest

from edge_server.errors import RequestError
from edge_server.report import prediction_table


def item(name, confidence, **more):
    return {
        "x": 50.0, "y": 40.0, "width": 20.0, "height": 10.0,
        "class": name, "class_id": 0, "confidence": confidence, **more,
    }  # fmt: skip


def class_map(rows, names):
    _, png = cv2.imencode(".png", np.array(rows, np.uint8))
    text = base64.b64encode(png.tobytes()).decode()
    known = {str(class_id): name for class_id, name in enumerate(names)}
    return {"predictions": {"segmentation_mask": text, "class_map": known}}


@pytest.mark.parametrize(
    ("answer", "table"),
    [
        pytest.param(
            {"predictions": [item("washer", 0.914), item("hex-nut", 0.5)]},
            """
            class    confidence  left   top  width  height
            washer         91%     40    35     20      10
            hex-nut        50%     40    35     20      10
            """,
            id="boxes",
        ),
        pytest.param(
            {"predictions": [item("nut", 0.9, points=[{"x": 1.0, "y": 2.0}] * 24)]},
            """
            class  confidence  left   top  width  height  corners
            nut          90%     40    35     20      10       24
            """,
            id="outlines",
        ),
        pytest.param(
            {"predictions": [item("nut", 0.9, rle={"size": [9, 9], "counts": "x"})]},
            """
            class  confidence  left   top  width  height
            nut          90%     40    35     20      10
            """,
            id="masks as run lengths",
        ),
        pytest.param(
            {
                "predictions": [
                    item("wrench", 0.9, keypoints=[{}] * 4),
                    item("x", 0.8, keypoints=[]),
                ]
            },
            """
            class   confidence  left   top  width  height  keypoints
            wrench        90%     40    35     20      10          4
            x             80%     40    35     20      10          0
            """,
            id="keypoints",
        ),
        pytest.param(
            {
                "predictions": [
                    {"class": "scratched", "class_id": 2, "confidence": 0.9312},
                    {"class": "ok", "class_id": 0, "confidence": 0.0688},
                ],
                "top": "scratched",
                "confidence": 0.9312,
            },
            """
            class      confidence
            scratched       93.1%
            ok               6.9%
            """,
            id="class of the picture",
        ),
        pytest.param(
            {
                "predictions": {
                    "bolt": {"confidence": 0.2, "class_id": 0},
                    "washer": {"confidence": 0.981, "class_id": 1},
                    "nut": {"confidence": 0.6, "class_id": 2},
                },
                "predicted_classes": ["washer", "nut"],
            },
            """
            class   confidence  found
            washer       98.1%  yes
            nut          60.0%  yes
            bolt         20.0%  no
            """,
            id="classes of the picture",
        ),
        pytest.param(
            class_map([[0, 0, 0, 0], [0, 0, 0, 1]], ["background", "rust", "paint"]),
            """
            class       share of the picture
            background                 87.5%
            rust                       12.5%
            """,
            id="classes of the pixels",
        ),
        pytest.param({"predictions": []}, "Nothing found.", id="no boxes"),
        pytest.param(
            {"predictions": [], "top": "", "confidence": 0.0}, "Nothing found.", id="no class"
        ),
        pytest.param(
            {
                "predictions": {"bolt": {"confidence": 0.2, "class_id": 0}},
                "predicted_classes": [],
            },
            """
            class  confidence  found
            bolt        20.0%  no
            """,
            id="none of several classes",
        ),
    ],
)
def test_a_table_for_every_task(answer, table):
    assert prediction_table(answer) == dedent(table).strip()


def test_of_a_thousand_classes_ten_are_shown():
    ranked = [{"class": str(i), "class_id": i, "confidence": 0.001} for i in range(1000)]
    table = prediction_table({"predictions": ranked, "top": "0", "confidence": 0.001})
    assert len(table.splitlines()) == 11
    every = {str(i): {"confidence": i / 1000, "class_id": i} for i in range(1000)}
    table = prediction_table({"predictions": every, "predicted_classes": ["999"]})
    assert table.splitlines()[1].split() == ["999", "99.9%", "yes"]
    assert len(table.splitlines()) == 11


def test_a_damaged_mask_is_explained():
    answer = {"predictions": {"segmentation_mask": "AAAA", "class_map": {}}}
    with pytest.raises(RequestError, match="segmentation_mask is not a PNG"):
        prediction_table(answer)
