"""The demo models find what is on pictures that their training never saw, through the HTTP API."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support import DEMO_MODEL, ROOT
from tools.demo_models.evaluate import ask, found_instances, measure
from tools.demo_models.metrics import Instances, mean_average_precision

PICTURES = ROOT / "tests" / "fixtures" / "demo-parts"


def test_the_detector_reaches_map50_of_95_percent_on_kept_pictures(server):
    labels = json.loads((PICTURES / "labels.json").read_text())
    found, truth = [], []
    for entry in labels["pictures"]:
        jpeg = (PICTURES / entry["file"]).read_bytes()
        found.append(found_instances(ask(server, DEMO_MODEL, jpeg, {"confidence": 0.01})))
        boxes = np.array(entry["boxes"], np.float32).reshape(-1, 4)
        truth.append(Instances(boxes, np.array(entry["class_ids"], np.int64)))
    map50, per_class = mean_average_precision(found, truth, len(labels["classes"]))
    assert len(truth) == 40
    assert map50 >= 0.95, dict(zip(labels["classes"], per_class, strict=True))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        pytest.param("demo-parts-seg", 0.85, id="mAP50 of masks"),
        pytest.param("demo-wrenches", 0.85, id="mAP50 of keypoints by OKS"),
        pytest.param("demo-surfaces", 0.95, id="top-1 accuracy"),
        pytest.param("demo-trays", 0.90, id="micro-F1 of labels"),
        pytest.param("demo-corrosion", 0.80, id="mean IoU of class maps"),
    ],
)
def test_every_task_is_accurate_on_100_pictures_rendered_anew(server, name, least):
    assert measure(server, name, 100) >= least


def test_the_measure_itself_is_right():
    """Two truths, three detections: right, twice the same, right but low."""
    truth = [Instances(np.array([[0, 0, 10, 10], [20, 20, 30, 30]]), np.array([0, 0]))]
    found = [
        Instances(
            np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]),
            np.array([0, 0, 0]),
            np.array([0.9, 0.8, 0.7]),
        )
    ]
    map50, _ = mean_average_precision(found, truth, 1)
    # Precision 1 up to recall 0.5 (51 points), then 2/3 (50 points).
    assert abs(map50 - (51 + 50 * 2 / 3) / 101) < 1e-9
