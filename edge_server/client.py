"""Ask for one inference: of a server over HTTP, or in this process. Both answer the same JSON."""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any

from edge_server.errors import RequestError
from edge_server.settings import Settings

_TIMEOUT_S = 120  # a first request may load the model
_LABELS, _STROKE = True, 3  # what is drawn for people at a terminal


def infer_over_http(url: str, model_id: str, encoded: bytes, *, draw: bool) -> dict[str, Any]:
    """Send one picture to a server and return the JSON of its answer.

    Args:
        url: where the server is, such as ``http://127.0.0.1:9001``.
        model_id: the model to ask.
        encoded: the picture's file, unchanged.
        draw: ask for the annotated picture too, as ``visualization``.

    Raises:
        RequestError: no server answers there, or it refuses; the message says why.
    """
    body = {
        "model_id": model_id,
        "image": {"type": "base64", "value": base64.b64encode(encoded).decode("ascii")},
        "visualize_predictions": draw,
        "visualization_labels": _LABELS,
        "visualization_stroke_width": _STROKE,
    }
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"The server address is {url!r}; it must start with http:// or https://")
    try:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            url.rstrip("/") + "/infer/object_detection",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **_key_header()},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
            answer: dict[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise RequestError(
            f"The server at {url} answered {error.code}: {_reason(error)}"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RequestError(f"No server of this API answers at {url}: {error}") from error
    if draw and "visualization" not in answer:
        raise RequestError(f"The server at {url} sent no annotated picture; leave out --out.")
    return answer


def infer_in_process(
    settings: Settings, model_id: str, encoded: bytes, *, draw: bool
) -> dict[str, Any]:
    """The same without a server: load the model, run it, answer the same JSON.

    Raises:
        EdgeServerError: the picture or the model cannot be used; the message says why.
    """
    import msgspec

    from edge_server.api.responses import Drawing, answer
    from edge_server.appliance import Appliance
    from edge_server.vision.params import InferParams

    appliance = Appliance(settings)
    image = appliance.reader.from_bytes(encoded, auto_orient=True)
    with appliance.pool.lease(model_id) as (model, _):
        (prediction,), _ = model.predict([image], InferParams())
        drawing = Drawing(_LABELS, _STROKE) if draw else None
        body, _ = answer(model.package, image, prediction, drawing)
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found


def _key_header() -> dict[str, str]:
    """The key of the server, when it is in the environment as it is for the server itself."""
    key = os.environ.get("EDGE_SERVER_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read())
        return str(body.get("message") or body.get("detail"))
    except (OSError, ValueError, AttributeError):
        return str(error.reason)
