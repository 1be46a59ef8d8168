"""Measure the demo models of a running server on pictures that training never saw.

edge-server start
python -m tools.demo_models.evaluate --url http://127.0.0.1:9001 --pictures 100
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo_models.held_out import held_out
from tools.demo_models.metrics import (
    Instances,
    box_overlap,
    mask_overlap,
    mean_average_precision,
    mean_iou,
    micro_f1,
    point_overlap,
    top1_accuracy,
)

Answer = dict[str, Any]

# Everything that a detector sees, down to the lowest confidence: what average precision counts.
_ALL = {"confidence": 0.05, "iou_threshold": 0.5}


def measure(url: str, name: str, pictures: int) -> float:
    """What the demo model ``name`` scores on held-out pictures, asked over HTTP.

    Returns:
        mAP50 for detectors (of boxes, masks, or keypoints by OKS), top-1 accuracy, micro-F1 or
        mean IoU; see ``METRICS``.
    """
    found, truth = [], []
    for index in range(pictures):
        picture, real = held_out(name, index)
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        found.append(ask(url, f"{name}/1", jpeg.tobytes(), _PARAMETERS.get(name, _ALL)))
        truth.append(real)
    return METRICS[name](found, truth)


def ask(url: str, model_id: str, jpeg: bytes, parameters: dict[str, Any]) -> Answer:
    """The server's answer about one picture."""
    image = {"type": "base64", "value": base64.b64encode(jpeg).decode()}
    request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
        url + "/infer/object_detection",
        data=json.dumps({"model_id": model_id, "image": image, **parameters}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        answer: Answer = json.load(response)
        return answer


def found_instances(answer: Answer) -> Instances:
    """The boxes of an answer, with the masks or keypoints that it gives."""
    items = answer["predictions"]
    rows = [[item[key] for key in ("x", "y", "width", "height")] for item in items]
    centres = np.array(rows, np.float64).reshape(-1, 4)
    half = centres[:, 2:] / 2
    size = answer["image"]
    masks, points = None, None
    if any("points" in item for item in items):
        masks = np.array([filled(item["points"], size) for item in items])
    if any("keypoints" in item for item in items):
        points = np.array([[[p["x"], p["y"]] for p in item["keypoints"]] for item in items])
    return Instances(
        boxes=np.hstack([centres[:, :2] - half, centres[:, :2] + half]),
        class_ids=np.array([item["class_id"] for item in items], np.int64),
        scores=np.array([item["confidence"] for item in items], np.float64),
        masks=masks,
        points=points,
    )


def filled(points: Sequence[dict[str, float]], size: dict[str, int]) -> NDArray[np.bool_]:
    """A polygon as a mask (H, W)."""
    mask = np.zeros((size["height"], size["width"]), np.uint8)
    corners = np.array([[point["x"], point["y"]] for point in points], np.int32)
    if len(corners):
        cv2.fillPoly(mask, [corners], 1)
    return mask.astype(np.bool_)


def class_ids(answer: Answer) -> NDArray[np.uint8]:
    """The class map (H, W) of an answer."""
    encoded = base64.b64decode(answer["predictions"]["segmentation_mask"])
    return np.asarray(
        cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8
    )


def _map50(overlap: Callable[..., Any]) -> Callable[[list[Answer], list[Any]], float]:
    def metric(found: list[Answer], truth: list[Instances]) -> float:
        classes = 1 + max(int(real.class_ids.max(initial=0)) for real in truth)
        instances = [found_instances(answer) for answer in found]
        return mean_average_precision(instances, truth, classes, overlap=overlap)[0]

    return metric


def _top1(found: list[Answer], truth: list[int]) -> float:
    return top1_accuracy([answer["predictions"][0]["class_id"] for answer in found], truth)


def _labels(found: list[Answer], truth: list[NDArray[np.bool_]]) -> float:
    told = [
        [name in answer["predicted_classes"] for name in answer["predictions"]] for answer in found
    ]
    return micro_f1(np.array(told), np.array(truth))


def _class_maps(found: list[Answer], truth: list[NDArray[np.uint8]]) -> float:
    classes = len(found[0]["predictions"]["class_map"])
    return mean_iou([class_ids(answer) for answer in found], truth, classes)[0]


METRICS: dict[str, Callable[[list[Answer], list[Any]], float]] = {
    "demo-parts": _map50(box_overlap),
    "demo-parts-seg": _map50(mask_overlap),
    "demo-wrenches": _map50(point_overlap),
    "demo-surfaces": _top1,
    "demo-trays": _labels,
    "demo-corrosion": _class_maps,
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "demo-surfaces": {"confidence": 0.0},
    "demo-trays": {"confidence": 0.5},
    "demo-corrosion": {"confidence": 0.0},
}


def main() -> None:
    """Print the score of each model."""
    parser = argparse.ArgumentParser(description="Measure a server on rendered pictures.")
    parser.add_argument("--url", default="http://127.0.0.1:9001")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("names", nargs="*", default=list(METRICS), metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.names:
        print(f"{name:<16} {measure(arguments.url, name, arguments.pictures):.3f}", flush=True)


if __name__ == "__main__":
    main()
