"""Predictions to the JSON bodies of the API. Pure functions; keys without value are left out."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import Any

from edge_server.images.draw import draw_detections, encode_jpeg
from edge_server.serving.model import Model
from edge_server.vision.predictions import Detections, Image


def detection_response(
    image: Image, detections: Detections, class_names: Sequence[str]
) -> dict[str, Any]:
    """The body of an object-detection answer, without ids and time.

    ``image`` is the picture as received and decoded; boxes are given by their centre and
    size, in its pixels.
    """
    height, width = image.shape[:2]
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
    predictions = [
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
    return {"image": {"width": width, "height": height}, "predictions": predictions}


def class_name(class_names: Sequence[str], class_id: int) -> str:
    """The name of a class; its id as text when the package names fewer classes."""
    return class_names[class_id] if class_id < len(class_names) else str(class_id)


def annotated_jpeg(
    image: Image,
    detections: Detections,
    class_names: Sequence[str],
    *,
    labels: bool,
    stroke: int,
) -> bytes:
    """``image`` with the detections drawn on it, as JPEG."""
    return encode_jpeg(
        draw_detections(image, detections, class_names, labels=labels, stroke=stroke)
    )


def as_base64(data: bytes) -> str:
    """Standard base64 text without a data-URI prefix."""
    return base64.b64encode(data).decode("ascii")


def registry_response(models: Sequence[Model]) -> dict[str, Any]:
    """The body of every ``/model/*`` answer: the loaded models. Here null fields are written."""
    return {
        "models": [
            {
                "model_id": model.package.model_id,
                "task_type": model.package.task,
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


_GPU_MEMORY_FIELDS = (
    "total_vram_bytes",
    "gpu_memory_used",
    "gpu_memory_total",
    "torch_cuda_allocated",
    "torch_cuda_reserved",
    "torch_cuda_allocator_cache",
    "non_torch_gpu_memory",
)
