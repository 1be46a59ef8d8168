"""One request and its answer: what every resource and middleware shares."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

import falcon
import msgspec

from edge_server.errors import RequestError


@dataclass
class Trace:
    """What is noted down while a request is worked on, for its headers and the metrics.

    Attributes:
        request_id: the caller's, when it is a UUID, else a fresh one.
        path: what was asked, without the query.
        model_id: the model as the caller named it.
        load_s: seconds this request spent loading a model; 0 when none was loaded.
        engine: the name of the engine that ran.
        head_only: the answer is to be left out, but for its headers.
        began: when the request was read, on the clock ``time.perf_counter``.
    """

    request_id: str
    path: str
    model_id: str | None = None
    load_s: float = 0.0
    engine: str | None = None
    head_only: bool = False
    began: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        """Seconds since the request was read."""
        return time.perf_counter() - self.began


def begin(req: falcon.Request) -> Trace:
    """Start the trace of a request."""
    request_id = req.get_header("X-Request-ID", default="")[:64]
    try:
        uuid.UUID(request_id)
    except ValueError:
        request_id = uuid.uuid4().hex
    trace = Trace(request_id, req.path)
    req.context.trace = trace
    return trace


def trace_of(req: falcon.Request) -> Trace:
    """The trace of a request that has begun."""
    trace: Trace = req.context.trace
    return trace


def body_of(req: falcon.Request) -> bytes:
    """The whole body, bounded by the server before it comes here. May be asked for twice.

    Raises:
        RequestError: it is compressed.
    """
    encoding = req.get_header("Content-Encoding", default="identity")
    if encoding.lower() != "identity":
        raise RequestError(f"The body is encoded as {encoding[:40]!r}; send it as it is.")
    if "body" not in req.context:
        req.context.body = req.bounded_stream.read()
    body: bytes = req.context.body
    return body


def send(resp: falcon.Response, body: object) -> None:
    """Answer JSON: a struct, or a list of them."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(body)
