"""Predictions to the JSON bodies of the API. Pure functions; keys without value are left out.

Needs no Falcon: the ``edge-server`` command answers with the same bodies without a server.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from edge_server.images.draw import class_name, draw, encode_jpeg
from edge_server.serving.model import Model
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    Image,
    InstanceMasks,
    KeyPoints,
    Prediction,
    SemanticMap,
)

Body = dict[str, Any]


def prediction_response(
    image: Image,
    prediction: Prediction,
    class_names: Sequence[str],
    keypoint_names: Sequence[Sequence[str]] = (),
) -> Body:
    """The body of an answer, without ids and time.

    Args:
        image: the picture as received and decoded.
        prediction: what the model says about it.
        class_names: names by class id; an id without a name is written as a decimal text.
        keypoint_names: by class id, the names of its keypoints in the order of the network; a
            keypoint without a name is none of that class and is left out.

    Returns:
        Coordinates are pixels of ``image``, or of the coarser grid that the body then names;
        boxes are given by their centre and size.
    """
    height, width = image.shape[:2]
    size = {"width": width, "height": height}
    match prediction:
        case Detections():
            return {"image": size, "predictions": _boxes(prediction, class_names)}
        case InstanceMasks():
            return _masks(size, prediction, class_names)
        case KeyPoints():
            rows = _keypoints(prediction, class_names, keypoint_names)
            return {"image": size, "predictions": rows}
        case ClassScores(multi_label=True):
            return {"image": size, **_labels(prediction, class_names)}
        case ClassScores():
            return {"image": size, **_ranking(prediction, class_names)}
        case SemanticMap():
            return {"image": size, "predictions": _class_map(prediction, class_names)}


def annotated_jpeg(
    image: Image,
    prediction: Prediction,
    class_names: Sequence[str],
    *,
    labels: bool,
    stroke: int,
) -> bytes:
    """``image`` with the prediction drawn on it, as JPEG."""
    return encode_jpeg(draw(prediction, image, class_names, labels=labels, stroke=stroke))


def as_base64(data: bytes) -> str:
    """Standard base64 text without a data-URI prefix."""
    return base64.b64encode(data).decode("ascii")


def registry_response(models: Sequence[Model]) -> dict[str, Any]:
    """The body of every ``/model/*`` answer: the loaded models. Here null fields are written."""
    return {
        "models": [
            {
                "model_id": model.package.model_id,
                "task_type": _TASK_TYPES.get(model.package.task, model.package.task),
                "batch_size": model.static_batch,
                "input_height": model.package.network_input.height,
                "input_width": model.package.network_input.width,
                "vram_bytes": None,
                "request_aliases": [],
                "request_paths": [],
            }
            for model in models
        ],
        **dict.fromkeys(_GPU_MEMORY_FIELDS),
    }


# Packages tell two kinds of classifiers apart; clients know one, and refuse to ask the other.
_TASK_TYPES = {"multi-label-classification": "classification"}

_GPU_MEMORY_FIELDS = (
    "total_vram_bytes",
    "gpu_memory_used",
    "gpu_memory_total",
    "torch_cuda_allocated",
    "torch_cuda_reserved",
    "torch_cuda_allocator_cache",
    "non_torch_gpu_memory",
)


def _boxes(detections: Detections, class_names: Sequence[str]) -> list[Body]:
    corners = detections.boxes.astype(float)
    sizes = corners[:, 2:] - corners[:, :2]
    centres = (corners[:, 2:] + corners[:, :2]) / 2
    rows = zip(
        centres.tolist(),
        sizes.tolist(),
        detections.scores.tolist(),
        detections.class_ids.tolist(),
        strict=True,
    )
    return [
        {
            "x": x,
            "y": y,
            "width": box_width,
            "height": box_height,
            "confidence": score,
            "class": class_name(class_names, class_id),
            "class_id": class_id,
            "detection_id": str(uuid.uuid4()),
        }
        for (x, y), (box_width, box_height), score, class_id in rows
    ]


def _masks(size: dict[str, int], found: InstanceMasks, class_names: Sequence[str]) -> Body:
    rows = _boxes(found.detections, class_names)
    width, height = found.size
    if found.rles is not None:
        for row, counts in zip(rows, found.rles, strict=True):
            row["rle"] = {"size": [height, width], "counts": counts}
            row["mask_format"] = "rle"
    else:
        for row, polygon in zip(rows, found.polygons, strict=True):
            row["points"] = [{"x": x, "y": y} for x, y in polygon.astype(float).tolist()]
            row["mask_format"] = "polygon"
    grid = {"width": width, "height": height}
    if grid == size:
        return {"image": size, "predictions": rows}
    scales = {"scale_x": size["width"] / width, "scale_y": size["height"] / height}
    return {
        "image": grid,
        "predictions": rows,
        "original_image": size,
        "mask_metadata": {"coordinate_system": "mask_grid", **grid, **scales},
    }


def _keypoints(
    found: KeyPoints, class_names: Sequence[str], keypoint_names: Sequence[Sequence[str]]
) -> list[Body]:
    rows = _boxes(found.detections, class_names)
    each = zip(rows, found.points.tolist(), found.confidences.tolist(), strict=True)
    for row, points, confidences in each:
        class_id = row["class_id"]
        names = keypoint_names[class_id] if class_id < len(keypoint_names) else ()
        row["keypoints"] = [
            {"x": x, "y": y, "confidence": confidence, "class_id": slot, "class": name}
            for slot, (name, (x, y), confidence) in enumerate(
                zip(names, points, confidences, strict=False)  # a class may have fewer keypoints
            )
            if confidence > 0
        ]
    return rows


def _ranking(found: ClassScores, class_names: Sequence[str]) -> Body:
    scores = found.scores.tolist()
    rows: list[Body] = [
        {
            "class": class_name(class_names, class_id),
            "class_id": class_id,
            "confidence": round(scores[class_id], 4),
        }
        for class_id in np.flatnonzero(found.above).tolist()
    ]
    rows.sort(key=lambda row: -row["confidence"])
    best: Body = rows[0] if rows else {"class": "", "confidence": 0.0}
    return {"predictions": rows, "top": best["class"], "confidence": best["confidence"]}


def _labels(found: ClassScores, class_names: Sequence[str]) -> Body:
    names = [class_name(class_names, class_id) for class_id in range(len(found.scores))]
    scores = zip(names, found.scores.tolist(), strict=True)
    return {
        "predictions": {
            name: {"confidence": score, "class_id": class_id}
            for class_id, (name, score) in enumerate(scores)
        },
        "predicted_classes": [names[class_id] for class_id in np.flatnonzero(found.above)],
    }


def _class_map(found: SemanticMap, class_names: Sequence[str]) -> Body:
    pixels = cv2.calcHist([found.class_ids], [0], None, [256], [0, 256])
    present = np.flatnonzero(pixels).tolist()
    known = sorted({*range(len(class_names)), *present})
    return {
        "segmentation_mask": as_base64(_png(found.class_ids)),
        "confidence_mask": as_base64(_png(found.confidences)),
        "class_map": {str(class_id): class_name(class_names, class_id) for class_id in known},
        "present_class_ids": present,
    }


def _png(values: Image) -> bytes:
    """One channel of 8 bits, lossless."""
    return cv2.imencode(".png", values)[1].tobytes()
