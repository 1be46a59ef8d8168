"""The two ways to ask for an inference: JSON on ``/infer/…``, and the legacy route."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import falcon
import orjson
from falcon.media import MultipartFormHandler

from edge_server.api.fields import Fields, FieldsError, parse_json
from edge_server.api.requests import InferRequest, check_task, json_request, legacy_request
from edge_server.api.responses import answer
from edge_server.errors import ImageError
from edge_server.images.sources import ImageReader
from edge_server.serving.pool import ModelPool
from edge_server.vision.predictions import Image


class InferResource:
    """``POST /infer/…``: a JSON body with one picture, or a list of them.

    What the model does decides about the answer, whatever the route is called.
    """

    def __init__(self, pool: ModelPool, reader: ImageReader) -> None:
        self._pool = pool
        self._reader = reader

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer an object for a picture, an array for a list."""
        began = time.perf_counter()
        fields = parse_json(req.bounded_stream.read())
        request = json_request(fields)
        sent = fields.required("image")
        fields.check()
        many = isinstance(sent, list)
        pictures = _picture_objects(sent if many else [sent])
        # Decoded one by one as the model takes them: a list of bombs must not stand in memory.
        images = (
            self._reader.from_object(picture, auto_orient=request.auto_orient)
            for picture in pictures
        )
        answers = _infer(self._pool, request, images, began, self._reader.max_pixels)
        bodies = [body for body, _ in answers]
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
        draw = output in ("image", "image_and_json")
        request = legacy_request(query, f"{project}/{version}", draw=draw)
        url = query.text("image", None)
        kind = query.text("image_type", "base64")
        query.check()
        image = self._picture(req, url, kind, auto_orient=request.auto_orient)
        ((body, jpeg),) = _infer(self._pool, request, [image], began, self._reader.max_pixels)
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


def _infer(
    pool: ModelPool,
    request: InferRequest,
    images: Iterable[Image],
    began: float,
    max_pixels: int,
) -> list[tuple[dict[str, Any], bytes | None]]:
    """One JSON body per picture, and its annotated JPEG when drawing was asked for."""
    answers = []
    with pool.lease(request.model_id) as (model, _):
        check_task(request, model.package.task)
        for part in _passes(images, model.max_pass, max_pixels):
            predictions, _ = model.predict(part, request.params)
            elapsed = time.perf_counter() - began
            for image, prediction in zip(part, predictions, strict=True):
                body, jpeg = answer(model.package, image, prediction, request.drawing)
                ids = {"inference_id": request.inference_id, "time": elapsed}
                answers.append(({**body, **ids}, jpeg))
    return answers


def _passes(images: Iterable[Image], count: int, pixels: int) -> Iterator[list[Image]]:
    """Pictures in order, in parts of at most ``count`` that end when ``pixels`` are reached."""
    part: list[Image] = []
    for image in images:
        part.append(image)
        if len(part) == count or sum(item.size // 3 for item in part) >= pixels:
            yield part
            part = []
    if part:
        yield part


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


def _send_json(resp: falcon.Response, body: object) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(body)
