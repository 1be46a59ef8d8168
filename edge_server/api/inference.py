"""The two ways to ask for an inference: JSON on ``/infer/…``, and the legacy route."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import falcon
from falcon.media import MultipartFormHandler
from msgspec import structs

from edge_server.api.answers import AnyAnswer
from edge_server.api.exchange import Trace, body_of, send, trace_of
from edge_server.api.fields import read_json, read_query
from edge_server.api.operations import BINARY, operation
from edge_server.api.requests import (
    InferBody,
    InferRequest,
    LegacyQuery,
    Picture,
    check_task,
    json_request,
    legacy_request,
)
from edge_server.api.responses import answer
from edge_server.errors import (
    BusyError,
    EngineGoneError,
    ImageError,
    ModelFailedError,
    PackageError,
    RequestTooLargeError,
)
from edge_server.images.sources import ImageReader
from edge_server.ops.metrics import Metrics
from edge_server.serving.model import Model
from edge_server.serving.pool import ModelPool
from edge_server.vision.predictions import Image, Prediction

_FRAME = "application/octet-stream"
_HEIGHT, _WIDTH, _COLOUR = "X-Image-Height", "X-Image-Width", "X-Image-Colour"
# So many of the largest size may come in one request: it keeps a thread busy until its end.
_LARGE_PICTURES = 4
_UPLOAD = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
}
_REFUSALS = (400, 404, 413, 415, 422, 500, 503)


@dataclass(frozen=True)
class Runner:
    """Runs what both routes ask for.

    Attributes:
        pool: the models.
        metrics: counts the inferences.
        max_pixels: of the pictures that stand in memory at once, the last one beyond it.
    """

    pool: ModelPool
    metrics: Metrics
    max_pixels: int

    def run(
        self, request: InferRequest, images: Iterable[Image], trace: Trace
    ) -> list[tuple[AnyAnswer, bytes | None]]:
        """One body per picture, and its annotated JPEG when drawing was asked for.

        One engine answers all of a request. When the GPU is lost at its first pictures, the CPU
        answers it instead; later the caller has to ask again.
        """
        trace.model_id = request.model_id
        pictures = iter(images)
        while True:
            answers: list[tuple[AnyAnswer, bytes | None]] = []
            part: list[Image] = []
            try:
                with self.pool.lease(request.model_id, path=trace.path) as (model, trace.load_s):
                    trace.engine = model.engine_name
                    check_task(request, model.package.task)
                    for part in _passes(pictures, model.max_pass, self.max_pixels):
                        answers += self._answers(model, part, request, trace)
                return answers
            except EngineGoneError as error:
                if answers:
                    raise BusyError(f"{error} Send the same request again.") from error
                pictures = chain(part, pictures)
            except (ModelFailedError, PackageError):
                self.metrics.observe_error(request.model_id)
                raise

    def _answers(
        self, model: Model, part: list[Image], request: InferRequest, trace: Trace
    ) -> Iterator[tuple[AnyAnswer, bytes | None]]:
        predictions = self._predict(model, part, request)
        elapsed = trace.elapsed()
        for image, prediction in zip(part, predictions, strict=True):
            body, jpeg = answer(model.package, image, prediction, request.drawing)
            body.inference_id, body.time = request.inference_id, elapsed
            yield body, jpeg

    def _predict(self, model: Model, part: list[Image], request: InferRequest) -> list[Prediction]:
        began = time.perf_counter()
        model_id = model.package.model_id
        predictions, _ = model.predict(part, request.params)
        self.metrics.observe_inference(model_id, time.perf_counter() - began, len(part))
        return predictions


class InferResource:
    """``POST /infer/…``: a JSON body with one picture, or a list of them.

    What the model does decides about the answer, whatever the route is called.
    """

    def __init__(self, runner: Runner, reader: ImageReader, max_images: int) -> None:
        """``max_images``: most pictures of one request."""
        self._runner = runner
        self._reader = reader
        self._max_images = max_images

    @operation(
        "Ask a model about one picture or several",
        body=InferBody,
        answer=AnyAnswer | list[AnyAnswer],
        refusals=_REFUSALS,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer an object for a picture, an array for a list."""
        trace = trace_of(req)
        body = read_json(body_of(req), InferBody)
        request = json_request(body)
        many = isinstance(body.image, list)
        pictures = body.image if isinstance(body.image, list) else [body.image]
        if len(pictures) > self._max_images:
            raise RequestTooLargeError(
                f"The request has {len(pictures)} pictures, and this server takes "
                f"{self._max_images} at once. Send them in several requests."
            )
        images = self._decoded(pictures, request)
        bodies = [body for body, _ in self._runner.run(request, images, trace)]
        send(resp, bodies if many else bodies[0])

    def _decoded(self, pictures: Sequence[Picture], request: InferRequest) -> Iterator[Image]:
        """Decoded one by one as the model takes them: a list of bombs must not stand in memory."""
        deadline, pixels = self._reader.fetcher.deadline(), 0
        most = _LARGE_PICTURES * self._reader.max_pixels
        for picture in pictures:
            image = self._reader.from_object(
                structs.asdict(picture), auto_orient=request.auto_orient, deadline=deadline
            )
            pixels += image.size // 3
            if pixels > most:
                raise RequestTooLargeError(
                    f"The pictures of the request have more than {most} pixels together. Send "
                    "them in several requests."
                )
            yield image


class LegacyResource:
    """``GET|POST /{project}/{version}``: the picture in the body or by URL, the rest as query."""

    def __init__(self, runner: Runner, reader: ImageReader) -> None:
        self._runner = runner
        self._reader = reader

    @operation(
        "Ask a model about the picture at a URL",
        query=LegacyQuery,
        answer={"application/json": AnyAnswer, "image/jpeg": BINARY},
        refusals=_REFUSALS,
    )
    def on_get(
        self, req: falcon.Request, resp: falcon.Response, project: str, version: str
    ) -> None:
        """A picture by URL needs no body."""
        self.on_post(req, resp, project, version)

    @operation(
        "Ask a model about one picture: a file, base64 text, an array, raw pixels, or a URL",
        query=LegacyQuery,
        body={
            "image/jpeg": BINARY,
            "image/png": BINARY,
            "text/plain": {"type": "string", "contentEncoding": "base64"},
            "multipart/form-data": _UPLOAD,
            _FRAME: BINARY,
        },
        headers={
            _HEIGHT: "Rows of a frame of raw pixels, sent as application/octet-stream.",
            _WIDTH: "Its columns.",
            _COLOUR: "Its colour order: BGR (default), RGB, GRAY, BGRA or RGBA.",
        },
        answer={"application/json": AnyAnswer, "image/jpeg": BINARY},
        refusals=_REFUSALS,
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, project: str, version: str
    ) -> None:
        """Answer JSON, an annotated JPEG, or JSON that holds one, as ``format`` says."""
        trace = trace_of(req)
        query = read_query(req.params, LegacyQuery)
        request = legacy_request(query, f"{project}/{version}")
        images = (self._picture(req, sent) for sent in [query])  # once it is known who is asked
        ((body, jpeg),) = self._runner.run(request, images, trace)
        if query.format == "image":
            resp.content_type = falcon.MEDIA_JPEG
            resp.data = jpeg
        else:
            send(resp, body)

    def _picture(self, req: falcon.Request, query: LegacyQuery) -> Image:
        auto_orient = not query.disable_preproc_auto_orient
        if query.image:
            return self._reader.from_url(query.image, auto_orient=auto_orient)
        kind = (req.content_type or "").partition(";")[0].strip().lower()
        if not kind:
            raise ImageError(
                "The request has no picture: send a picture file, base64 text or a multipart part "
                "'file' with a Content-Type header, or a URL in the query parameter 'image'."
            )
        if kind == "multipart/form-data":
            return self._reader.from_bytes(_uploaded_file(req), auto_orient=auto_orient)
        if query.image_type == "numpy":
            return self._reader.from_numpy(body_of(req))
        if kind == _FRAME and req.get_header(_HEIGHT):
            return self._reader.from_pixels(
                body_of(req),
                height=req.get_header_as_int(_HEIGHT, required=True),
                width=req.get_header_as_int(_WIDTH, required=True),
                colour=req.get_header(_COLOUR, default="BGR"),
            )
        # Clients post base64 text under any Content-Type, application/json included.
        return self._reader.from_body(body_of(req), auto_orient=auto_orient)


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


def _uploaded_file(req: falcon.Request) -> bytes:
    form: Any = MultipartFormHandler().deserialize(
        req.bounded_stream, req.content_type, req.content_length
    )
    for part in form:
        try:
            name, filename = part.name, part.filename
        except UnicodeDecodeError as error:
            raise ImageError("A header of the multipart form is no UTF-8.") from error
        if name == "file":
            if not filename:
                raise ImageError("The multipart part 'file' is a text field; send it as a file.")
            return bytes(part.stream.read())
    raise ImageError("The multipart form has no part named 'file' that holds the picture.")
