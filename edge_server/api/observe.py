"""What is told about every answer: headers with ids and times, and the metrics."""

from __future__ import annotations

import io

import falcon
import msgspec

from edge_server.api.exchange import begin, trace_of
from edge_server.ops.metrics import Metrics


class Observer:
    """Falcon middleware, the outermost: sees every request first and every answer last."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Start the clock. HEAD is answered wherever GET is."""
        trace = begin(req)
        if req.method == "HEAD":
            trace.head_only, req.method = True, "GET"

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        """Add the headers that clients of this API read."""
        trace = trace_of(req)
        self._metrics.observe_request(
            req.method,
            req.uri_template or "none",
            resp.status_code,
            trace.elapsed(),
            received=req.content_length or 0,
            sent=len(resp.data or b""),
        )
        if trace.head_only:
            length, resp.data = len(resp.data or b""), None
            resp.set_stream(io.BytesIO(), length)  # Falcon counts any other body itself
        cold = trace.load_s > 0
        resp.set_header("X-Request-ID", trace.request_id)
        resp.set_header("X-Processing-Time", f"{trace.elapsed():.6f}")
        resp.set_header("X-Model-Cold-Start", "true" if cold else "false")
        resp.set_header("X-Model-Cold-Start-Count", "1" if cold else "0")
        if trace.engine is not None:
            resp.set_header("X-Inference-Engine", trace.engine)
        if trace.model_id is None:
            return
        resp.set_header("X-Model-Id", _printable(trace.model_id))
        if cold:
            details = msgspec.json.encode([{"m": trace.model_id, "t": trace.load_s}])
            resp.set_header("X-Model-Load-Time", f"{trace.load_s:.6f}")
            resp.set_header("X-Model-Load-Details", _printable(details.decode()))


def _printable(text: str) -> str:
    """Fit for a header: whatever callers send as an id, no header may begin in it."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:1024])
