"""What a caller may ask: fields of a JSON body or of a query string to one typed request."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from edge_server.api.fields import Fields, FieldsError, Place
from edge_server.api.responses import Drawing
from edge_server.vision.params import (
    DEFAULT_CONFIDENCE,
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    InferParams,
)

# The reference never lets the legacy route go below: a flood of boxes is no answer.
_LEGACY_LOWEST_CONFIDENCE = 0.01

_MASK_DECODE_MODES = ("accurate", "fast", "tradeoff")
# How the masks of each task may be written.
_MASK_FORMATS = {
    "instance-segmentation": ("polygon", "rle"),
    "semantic-segmentation": ("base64_png", "numpy"),
}


@dataclass(frozen=True)
class InferRequest:
    """What a caller asks of one model for a batch of pictures.

    Attributes:
        model_id: the model to ask.
        params: thresholds and switches for the model.
        mask_format: how masks are to be written; None leaves it to the task.
        auto_orient: turn pictures upright by EXIF.
        drawing: None when no annotated picture is asked for.
        inference_id: goes back in the answer.
        place: where the fields were sent.
    """

    model_id: str
    params: InferParams
    mask_format: str | None
    auto_orient: bool
    drawing: Drawing | None
    inference_id: str
    place: Place


def json_request(fields: Fields) -> InferRequest:
    """Read the JSON body of ``/infer/…``. The caller looks at ``fields.check`` in the end."""
    mask_format = fields.choice("response_mask_format", sum(_MASK_FORMATS.values(), ()), None)
    params = InferParams(
        confidence=fields.confidence(DEFAULT_CONFIDENCE),
        iou_threshold=fields.number("iou_threshold", DEFAULT_IOU_THRESHOLD),
        class_agnostic_nms=fields.boolean("class_agnostic_nms", False),
        class_filter=fields.texts("class_filter"),
        rle_masks=mask_format == "rle",
        **_common_params(fields),
    )
    drawing = Drawing(
        labels=fields.boolean("visualization_labels", False),
        stroke=fields.integer("visualization_stroke_width", 1),
    )
    visualize = fields.boolean("visualize_predictions", False)
    return InferRequest(
        model_id=fields.required_text("model_id"),
        params=params,
        mask_format=mask_format,
        auto_orient=not fields.boolean("disable_preproc_auto_orient", False),
        drawing=drawing if visualize else None,
        inference_id=fields.text("id", "", nullable=False) or str(uuid.uuid4()),
        place=fields.place,
    )


def legacy_request(query: Fields, model_id: str, *, draw: bool) -> InferRequest:
    """Read the query of the legacy route. The caller looks at ``query.check`` in the end."""
    confidence = query.confidence(DEFAULT_CONFIDENCE)
    if not isinstance(confidence, str):
        confidence = max(_fraction(confidence), _LEGACY_LOWEST_CONFIDENCE)
    # Clients send it along to every model; it speaks of the masks of instances only.
    mask_format = query.choice(
        "response_mask_format", _MASK_FORMATS["instance-segmentation"], "polygon"
    )
    params = InferParams(
        confidence=confidence,
        iou_threshold=_fraction(query.number("overlap", DEFAULT_IOU_THRESHOLD)),
        rle_masks=mask_format == "rle",
        **_common_params(query),
    )
    drawing = Drawing(labels=query.boolean("labels", False), stroke=query.integer("stroke", 1))
    return InferRequest(
        model_id=model_id,
        params=params,
        mask_format=None,
        auto_orient=not query.boolean("disable_preproc_auto_orient", False),
        drawing=drawing if draw else None,
        inference_id=str(uuid.uuid4()),
        place=query.place,
    )


def check_task(request: InferRequest, task: str) -> None:
    """Refuse what cannot be meant, once it is known what the model does.

    Raises:
        FieldsError: a field has a value that models of this task do not have.
    """
    details = []
    if task == "keypoint-detection" and request.params.confidence == "best":
        message = "confidence: 'best' is not available for keypoint detection; send a number"
        details.append(("confidence", message))
    formats = _MASK_FORMATS.get(task)
    if formats and request.mask_format is not None and request.mask_format not in formats:
        message = (
            f"response_mask_format: {request.mask_format!r} is not available for "
            f"{task}; available: {', '.join(formats)}"
        )
        details.append(("response_mask_format", message))
    if details:
        raise FieldsError(
            [
                {"type": "value_error", "loc": [request.place, name], "msg": message}
                for name, message in details
            ]
        )


def _common_params(fields: Fields) -> dict[str, Any]:
    """The fields of ``InferParams`` that both routes call the same and read alike."""
    return {
        "max_detections": max(0, fields.integer("max_detections", DEFAULT_MAX_DETECTIONS)),
        "keypoint_confidence": fields.number("keypoint_confidence", None),
        "mask_resolution": _mask_resolution(fields),
        "disable_static_crop": fields.boolean("disable_preproc_static_crop", False),
        "disable_contrast": fields.boolean("disable_preproc_contrast", False),
        "disable_grayscale": fields.boolean("disable_preproc_grayscale", False),
    }


def _mask_resolution(fields: Fields) -> float | None:
    """How coarse masks may be, see ``InferParams``; checked even where it has no effect."""
    mode = fields.text("mask_decode_mode", "accurate")
    if mode not in _MASK_DECODE_MODES:
        fields.disallow(
            f"mask_decode_mode is {mode!r}; expected one of {', '.join(_MASK_DECODE_MODES)}."
        )
    factor = fields.number("tradeoff_factor", 0.0)
    if not 0 <= factor <= 1:
        fields.disallow(f"tradeoff_factor is {factor}; expected a number from 0 to 1.")
    if not fields.boolean("allow_reduced_mask_resolution", False) or mode == "accurate":
        return None
    return 0.0 if mode == "fast" else factor


def _fraction(value: float) -> float:
    """Percent to fraction: on the legacy route a number from 1 on means percent."""
    return value / 100 if value >= 1 else value
