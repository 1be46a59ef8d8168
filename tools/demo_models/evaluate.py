"""Measure the detector of a running server on pictures that training never saw.

edge-server start
python -m tools.demo_models.evaluate --url http://127.0.0.1:9001 --pictures 200
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.request
from typing import Any

import cv2
import numpy as np

from tools.demo_models.held_out import held_out
from tools.demo_models.metrics import Instances, mean_average_precision
from tools.demo_models.parts import CLASSES


def ask(url: str, model_id: str, jpeg: bytes) -> Instances:
    """Everything that the model sees in a picture, down to the lowest confidence."""
    body = {
        "model_id": model_id,
        "image": {"type": "base64", "value": base64.b64encode(jpeg).decode()},
        "confidence": 0.01,
        "iou_threshold": 0.5,
    }
    request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
        url + "/infer/object_detection",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return found_boxes(json.load(response))


def found_boxes(answer: dict[str, Any]) -> Instances:
    """The boxes in a server's answer."""
    rows = [[item["x"], item["y"], item["width"], item["height"]] for item in answer["predictions"]]
    centres = np.array(rows, np.float64).reshape(-1, 4)
    half = centres[:, 2:] / 2
    return Instances(
        boxes=np.hstack([centres[:, :2] - half, centres[:, :2] + half]),
        class_ids=np.array([item["class_id"] for item in answer["predictions"]], np.int64),
        scores=np.array([item["confidence"] for item in answer["predictions"]], np.float64),
    )


def main() -> None:
    """Print mAP50, mAP50-95 and the average precision of each class."""
    parser = argparse.ArgumentParser(description="Measure a server on rendered pictures.")
    parser.add_argument("--url", default="http://127.0.0.1:9001")
    parser.add_argument("--model", default="demo-parts/1")
    parser.add_argument("--pictures", type=int, default=200)
    arguments = parser.parse_args()
    found, truth = [], []
    for index in range(arguments.pictures):
        picture, real = held_out("demo-parts", index)
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        found.append(ask(arguments.url, arguments.model, jpeg.tobytes()))
        truth.append(real)
    by_iou = [
        mean_average_precision(found, truth, len(CLASSES), iou)[0]
        for iou in np.arange(0.5, 0.96, 0.05)
    ]
    map50, per_class = mean_average_precision(found, truth, len(CLASSES))
    print(f"{len(truth)} pictures, {sum(len(real.boxes) for real in truth)} parts")
    print(f"mAP50 {map50:.3f}   mAP50-95 {np.mean(by_iou):.3f}")
    for name, precision in zip(CLASSES, per_class, strict=True):
        print(f"  {name:<8} {precision:.3f}")


if __name__ == "__main__":
    main()
