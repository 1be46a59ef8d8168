"""The two ways to ask for an inference: JSON on ``/infer/…``, and the legacy route."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import falcon
import orjson
from falcon.media import MultipartFormHandler

from edge_server.api.fields import Fields, FieldsError, parse_json
from edge_server.api.responses import annotated_jpeg, as_base64, detection_response
from edge_server.errors import ImageError
from edge_server.images.sources import ImageReader
from edge_server.serving.pool import ModelPool
from edge_server.vision.params import (
    DEFAULT_CONFIDENCE,
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    InferParams,
)
from edge_server.vision.predictions import Detections, Image

# The reference never lets the legacy route go below: a flood of boxes is no answer.
_LEGACY_LOWEST_CONFIDENCE = 0.01


@dataclass(frozen=True)
class Drawing:
    """How predictions are drawn: with labels or not, and the width of lines in pixels."""

    labels: bool
    stroke: int


@dataclass(frozen=True)
class InferRequest:
    """What a caller asks of one model for a batch of pictures."""

    model_id: str
    params: InferParams
    auto_orient: bool
    drawing: Drawing | None
    inference_id: str
    began: float


class InferResource:
    """``POST /infer/object_detection``: a JSON body with one picture, or a list of them."""

    def __init__(self, pool: ModelPool, reader: ImageReader) -> None:
        self._pool = pool
        self._reader = reader

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer an object for a picture, an array for a list."""
        began = time.perf_counter()
        fields = parse_json(req.bounded_stream.read())
        request = _json_request(fields, began)
        sent = fields.required("image")
        fields.check()
        many = isinstance(sent, list)
        pictures = _picture_objects(sent if many else [sent])
        images = [
            self._reader.from_object(picture, auto_orient=request.auto_orient)
            for picture in pictures
        ]
        bodies = [body for body, _ in _infer(self._pool, request, images)]
        _send_json(resp, bodies if many else bodies[0])


class LegacyResource:
    """``GET|POST /{project}/{version}``: the picture in the body or by URL, the rest as query."""

    def __init__(self, pool: ModelPool, reader: ImageReader) -> None:
        self._pool = pool
        self._reader = reader

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, project: str, version: str
    ) -> None:
        """A picture by URL needs no body."""
        self.on_post(req, resp, project, version)

    def on_post(
        self, req: falcon.Request, resp: falcon.Response, project: str, version: str
    ) -> None:
        """Answer JSON, an annotated JPEG, or JSON that holds one, as ``format`` says."""
        began = time.perf_counter()
        query = _query(req)
        output = query.text("format", "json")
        request = _legacy_request(query, f"{project}/{version}", output, began)
        url = query.text("image", None)
        kind = query.text("image_type", "base64")
        query.check()
        image = self._picture(req, url, kind, auto_orient=request.auto_orient)
        ((body, jpeg),) = _infer(self._pool, request, [image])
        if output == "image":
            resp.content_type = falcon.MEDIA_JPEG
            resp.data = jpeg
        else:
            _send_json(resp, body)

    def _picture(
        self, req: falcon.Request, url: str | None, kind: str, *, auto_orient: bool
    ) -> Image:
        if url is not None:
            return self._reader.from_url(url, auto_orient=auto_orient)
        if not req.content_type:
            raise ImageError(
                "The request has no picture: send base64 text or a multipart part 'file' with a "
                "Content-Type header, or a URL in the query parameter 'image'."
            )
        if req.content_type.lower().startswith("multipart/form-data"):
            return self._reader.from_bytes(_uploaded_file(req), auto_orient=auto_orient)
        body = req.bounded_stream.read()
        if kind == "numpy":
            return self._reader.from_object({"type": kind, "value": ""}, auto_orient=auto_orient)
        # Clients post base64 text under any Content-Type, application/json included.
        return self._reader.from_base64(body, auto_orient=auto_orient)


def _json_request(fields: Fields, began: float) -> InferRequest:
    params = InferParams(
        confidence=fields.confidence(DEFAULT_CONFIDENCE),
        iou_threshold=fields.number("iou_threshold", DEFAULT_IOU_THRESHOLD),
        class_agnostic_nms=fields.boolean("class_agnostic_nms", False),
        class_filter=fields.texts("class_filter"),
        max_detections=fields.integer("max_detections", DEFAULT_MAX_DETECTIONS),
        disable_static_crop=fields.boolean("disable_preproc_static_crop", False),
        disable_grayscale=fields.boolean("disable_preproc_grayscale", False),
    )
    drawing = Drawing(
        labels=fields.boolean("visualization_labels", False),
        stroke=fields.integer("visualization_stroke_width", 1),
    )
    visualize = fields.boolean("visualize_predictions", False)
    return InferRequest(
        model_id=fields.required_text("model_id"),
        params=params,
        auto_orient=not fields.boolean("disable_preproc_auto_orient", False),
        drawing=drawing if visualize else None,
        inference_id=fields.text("id", "", nullable=False) or str(uuid.uuid4()),
        began=began,
    )


def _legacy_request(query: Fields, model_id: str, output: str, began: float) -> InferRequest:
    confidence = query.confidence(DEFAULT_CONFIDENCE)
    if not isinstance(confidence, str):
        confidence = max(_fraction(confidence), _LEGACY_LOWEST_CONFIDENCE)
    params = InferParams(
        confidence=confidence,
        iou_threshold=_fraction(query.number("overlap", DEFAULT_IOU_THRESHOLD)),
        max_detections=query.integer("max_detections", DEFAULT_MAX_DETECTIONS),
        disable_static_crop=query.boolean("disable_preproc_static_crop", False),
        disable_grayscale=query.boolean("disable_preproc_grayscale", False),
    )
    drawing = Drawing(labels=query.boolean("labels", False), stroke=query.integer("stroke", 1))
    return InferRequest(
        model_id=model_id,
        params=params,
        auto_orient=not query.boolean("disable_preproc_auto_orient", False),
        drawing=drawing if output in ("image", "image_and_json") else None,
        inference_id=str(uuid.uuid4()),
        began=began,
    )


def _infer(
    pool: ModelPool, request: InferRequest, images: Sequence[Image]
) -> list[tuple[dict[str, Any], bytes | None]]:
    """One JSON body per picture, and its annotated JPEG when drawing was asked for."""
    with pool.lease(request.model_id) as model:
        predictions, _ = model.predict(images, request.params)
        class_names = model.package.class_names
    return [
        _answer(request, image, detections, class_names)
        for image, detections in zip(images, predictions, strict=True)
    ]


def _answer(
    request: InferRequest, image: Image, detections: Detections, class_names: Sequence[str]
) -> tuple[dict[str, Any], bytes | None]:
    body = detection_response(image, detections, class_names)
    jpeg = None
    if request.drawing is not None:
        jpeg = annotated_jpeg(
            image,
            detections,
            class_names,
            labels=request.drawing.labels,
            stroke=request.drawing.stroke,
        )
        body["visualization"] = as_base64(jpeg)
    body["inference_id"] = request.inference_id
    body["time"] = time.perf_counter() - request.began
    return body, jpeg


def _picture_objects(sent: Sequence[object]) -> list[dict[str, Any]]:
    """The picture objects of a request, each with its ``type``."""
    pictures: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for picture in sent:
        if not isinstance(picture, dict):
            found = type(picture).__name__
            message = f"image: expected an object with 'type' and 'value', found {found}"
            details.append({"type": "dict_type", "loc": ["body", "image"], "msg": message})
        elif not isinstance(picture.get("type"), str):
            message = "image.type: Field required, a text such as 'base64' or 'url'"
            details.append({"type": "missing", "loc": ["body", "image", "type"], "msg": message})
        else:
            pictures.append(picture)
    if details:
        raise FieldsError(details)
    return pictures


def _query(req: falcon.Request) -> Fields:
    """Query parameters; of a repeated one the last counts, an empty one is absent."""
    params = {
        name: value[-1] if isinstance(value, list) else value for name, value in req.params.items()
    }
    return Fields({name: value for name, value in params.items() if value != ""}, "query")


def _uploaded_file(req: falcon.Request) -> bytes:
    form = MultipartFormHandler().deserialize(
        req.bounded_stream, req.content_type, req.content_length
    )
    for part in form:
        if part.name == "file":
            if not part.filename:
                raise ImageError("The multipart part 'file' is a text field; send it as a file.")
            return bytes(part.stream.read())
    raise ImageError("The multipart form has no part named 'file' that holds the picture.")


def _fraction(value: float) -> float:
    """Percent to fraction: on the legacy route a number from 1 on means percent."""
    return value / 100 if value >= 1 else value


def _send_json(resp: falcon.Response, body: object) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(body)
