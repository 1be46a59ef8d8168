"""What a caller may ask: bodies and queries as typed structs, and what is made of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from edge_server.api.fields import FieldsError, Flag, Number, Place, Text, Texts, Whole
from edge_server.api.responses import Drawing
from edge_server.errors import RequestError
from edge_server.vision.params import (
    DEFAULT_CONFIDENCE,
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    Confidence,
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

ApiKey: TypeAlias = Annotated[
    Text, Meta(description="Only looked at when the operator has set a key for this server.")
]


class Picture(Struct):
    """One picture: ``base64`` of a file, ``numpy`` as base64 of ``.npy``, or a ``url``."""

    type: Annotated[
        str, Meta(description="`base64`, `url` or `numpy`, in any case.", examples=["base64"])
    ]
    value: str | None = None


class _Common(Struct, kw_only=True):
    """Fields that the JSON routes and the legacy route call the same and read alike."""

    confidence: Annotated[
        float | Literal["best", "default"],
        Meta(
            description="Scores must exceed it. `best` takes what the model's evaluation "
            "recommends, `default` what its family uses."
        ),
    ] = DEFAULT_CONFIDENCE
    max_detections: Annotated[Whole, Meta(description="The best are kept.")] = (
        DEFAULT_MAX_DETECTIONS
    )
    keypoint_confidence: Annotated[
        float | None, Meta(description="Keypoints below it are left out.")
    ] = None
    mask_decode_mode: Annotated[
        Text,
        Meta(
            description="Takes effect with `allow_reduced_mask_resolution`.",
            extra_json_schema={"enum": list(_MASK_DECODE_MODES)},
        ),
    ] = "accurate"
    tradeoff_factor: Annotated[
        Number,
        Meta(
            description="From 0, as `fast`, to 1, as `accurate`; only for `tradeoff`.",
            extra_json_schema={"minimum": 0, "maximum": 1},
        ),
    ] = 0.0
    allow_reduced_mask_resolution: Annotated[
        Flag, Meta(description="Masks and boxes may come on a coarser grid, as the mode says.")
    ] = False
    disable_preproc_auto_orient: Annotated[
        Flag, Meta(description="Do not turn the picture upright by its EXIF data.")
    ] = False
    disable_preproc_contrast: Annotated[
        Flag, Meta(description="Skip the contrast step stored with the model.")
    ] = False
    disable_preproc_grayscale: Annotated[
        Flag, Meta(description="Skip the greyscale step stored with the model.")
    ] = False
    disable_preproc_static_crop: Annotated[
        Flag, Meta(description="Skip the crop stored with the model.")
    ] = False
    api_key: ApiKey = ""


class InferBody(_Common, kw_only=True):
    """Ask a model about one picture, or about each of a list. Other fields are ignored."""

    model_id: Annotated[str, Meta(examples=["demo-parts/1"])]
    image: Annotated[
        Picture | list[Picture], Meta(description="An object is answered by one, a list by a list.")
    ]
    id: Annotated[str, Meta(description="Comes back as `inference_id`; made up if absent.")] = ""
    iou_threshold: Annotated[
        Number, Meta(description="Of two boxes that overlap more, the better one is kept.")
    ] = DEFAULT_IOU_THRESHOLD
    class_agnostic_nms: Annotated[
        Flag, Meta(description="Boxes of different classes remove each other too.")
    ] = False
    class_filter: Annotated[
        Texts, Meta(description="Names of the classes to keep; none keeps all.")
    ] = field(default_factory=list)
    response_mask_format: Annotated[
        Literal["polygon", "rle", "base64_png", "numpy"] | None,
        Meta(
            description="`polygon` or `rle` for instances, `base64_png` for maps of classes, for "
            "which `numpy` means the same."
        ),
    ] = None
    visualize_predictions: Annotated[
        Flag, Meta(description="Send the annotated picture too, as JPEG in base64.")
    ] = False
    visualization_labels: Annotated[Flag, Meta(description="Draw class and confidence.")] = False
    visualization_stroke_width: Annotated[Whole, Meta(description="In pixels.")] = 1


class LegacyQuery(_Common, kw_only=True):
    """Parameters of ``/{project}/{version}``; numbers from 1 on mean percent where they are marked.

    Other parameters are ignored.
    """

    overlap: Annotated[Number, Meta(description="As `iou_threshold`; from 1 on in percent.")] = (
        DEFAULT_IOU_THRESHOLD
    )
    response_mask_format: Annotated[
        Literal["polygon", "rle"] | None, Meta(description="How instances are outlined.")
    ] = None
    format: Annotated[
        str,
        Meta(
            description="`json`; `image`: the annotated JPEG; `image_and_json`: JSON that holds it."
        ),
    ] = "json"
    labels: Annotated[Flag, Meta(description="Draw class and confidence.")] = False
    stroke: Annotated[Whole, Meta(description="Width of lines in pixels.")] = 1
    image: Annotated[str, Meta(description="URL of the picture; the body is ignored.")] = ""
    image_type: Annotated[
        Literal["base64", "numpy"], Meta(description="What the body is, when that is not plain.")
    ] = "base64"


class ModelBody(Struct):
    """Names a model."""

    model_id: Annotated[str, Meta(examples=["demo-parts/1"])]
    api_key: ApiKey = ""


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


def json_request(body: InferBody) -> InferRequest:
    """What the JSON body of ``/infer/…`` asks for.

    Raises:
        RequestError: a field has a value that is not allowed.
    """
    drawing = Drawing(labels=body.visualization_labels, stroke=body.visualization_stroke_width)
    return InferRequest(
        model_id=body.model_id,
        params=_params(
            body,
            confidence=body.confidence,
            iou_threshold=body.iou_threshold,
            class_agnostic_nms=body.class_agnostic_nms,
            class_filter=tuple(body.class_filter),
        ),
        mask_format=body.response_mask_format,
        auto_orient=not body.disable_preproc_auto_orient,
        drawing=drawing if body.visualize_predictions else None,
        inference_id=body.id or str(uuid.uuid4()),
        place="body",
    )


def legacy_request(query: LegacyQuery, model_id: str) -> InferRequest:
    """What the query of the legacy route asks for. Raises as ``json_request`` does."""
    confidence = query.confidence
    if not isinstance(confidence, str):
        confidence = max(_fraction(confidence), _LEGACY_LOWEST_CONFIDENCE)
    drawing = Drawing(labels=query.labels, stroke=query.stroke)
    return InferRequest(
        model_id=model_id,
        params=_params(query, confidence=confidence, iou_threshold=_fraction(query.overlap)),
        # Clients send it along to every model; it speaks of the masks of instances only.
        mask_format=None,
        auto_orient=not query.disable_preproc_auto_orient,
        drawing=drawing if query.format in ("image", "image_and_json") else None,
        inference_id=str(uuid.uuid4()),
        place="query",
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


def _params(
    sent: InferBody | LegacyQuery,
    *,
    confidence: Confidence,
    iou_threshold: float,
    class_agnostic_nms: bool = False,
    class_filter: tuple[str, ...] = (),
) -> InferParams:
    return InferParams(
        confidence=confidence,
        iou_threshold=iou_threshold,
        class_agnostic_nms=class_agnostic_nms,
        class_filter=class_filter,
        max_detections=max(0, sent.max_detections),
        keypoint_confidence=sent.keypoint_confidence,
        rle_masks=sent.response_mask_format == "rle",
        mask_resolution=_mask_resolution(sent),
        disable_static_crop=sent.disable_preproc_static_crop,
        disable_contrast=sent.disable_preproc_contrast,
        disable_grayscale=sent.disable_preproc_grayscale,
    )


def _mask_resolution(sent: _Common) -> float | None:
    """How coarse masks may be, see ``InferParams``; checked even where it has no effect."""
    mode, factor = sent.mask_decode_mode, sent.tradeoff_factor
    if mode not in _MASK_DECODE_MODES:
        raise RequestError(
            f"mask_decode_mode is {mode!r}; expected one of {', '.join(_MASK_DECODE_MODES)}."
        )
    if not 0 <= factor <= 1:
        raise RequestError(f"tradeoff_factor is {factor}; expected a number from 0 to 1.")
    if not sent.allow_reduced_mask_resolution or mode == "accurate":
        return None
    return 0.0 if mode == "fast" else factor


def _fraction(value: float) -> float:
    """Percent to fraction: on the legacy route a number from 1 on means percent."""
    return value / 100 if value >= 1 else value
