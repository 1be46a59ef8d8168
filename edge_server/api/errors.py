"""Errors to answers: one table, and the JSON shapes that clients of this API read."""

from __future__ import annotations

import logging
from typing import Any

import falcon
import msgspec

from edge_server import errors
from edge_server.api.fields import FieldsError

log = logging.getLogger(__name__)

_STATUSES: dict[type[errors.EdgeServerError], str] = {
    errors.ImageError: falcon.HTTP_400,
    errors.ImageTooLargeError: falcon.HTTP_413,
    errors.ImageFormatError: falcon.HTTP_415,
    errors.ModelIdError: falcon.HTTP_400,
    errors.RequestError: falcon.HTTP_400,
    errors.RequestTooLargeError: falcon.HTTP_413,
    errors.KeyRequiredError: falcon.HTTP_401,
    errors.AccessDeniedError: falcon.HTTP_403,
    errors.ModelNotFoundError: falcon.HTTP_404,
    errors.PackageError: falcon.HTTP_500,
    errors.ModelFailedError: falcon.HTTP_500,
    errors.EngineGoneError: falcon.HTTP_500,
    errors.BusyError: falcon.HTTP_503,
}


def register(app: falcon.App[Any, Any]) -> None:
    """Make ``app`` answer every error as JSON with ``message`` or ``detail``."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(errors.EdgeServerError, _known)
    app.add_error_handler(FieldsError, _schema)
    app.add_error_handler(falcon.HTTPError, _http)


def _known(
    req: falcon.Request, resp: falcon.Response, error: errors.EdgeServerError, params: object
) -> None:
    status = _STATUSES.get(type(error), falcon.HTTP_500)
    if isinstance(error, errors.BusyError):
        resp.set_header("Retry-After", "1")
    elif status.startswith("5"):
        log.error("%s %r: %s", req.method, req.path, error)
    body: dict[str, Any] = {"message": str(error)}
    if isinstance(error, errors.KeyRequiredError):
        body["status"] = 401
        resp.set_header("WWW-Authenticate", "Bearer")
    _answer(resp, status, body)


def _schema(req: falcon.Request, resp: falcon.Response, error: FieldsError, params: object) -> None:
    _answer(resp, falcon.HTTP_422, {"detail": error.details})


def _http(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: object
) -> None:
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    text = str(error.description or error.title)
    if error.status_code == 404:
        text = f"Not Found: there is nothing at {req.path}"
    elif error.status_code == 405:
        text = f"Method Not Allowed: {req.path} does not answer {req.method}"
    _answer(resp, error.status, {"message" if error.status_code == 400 else "detail": text})


def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: object
) -> None:
    log.error("%s %r failed", req.method, req.path, exc_info=error)
    _answer(resp, falcon.HTTP_500, {"message": "Internal error."})


def _answer(resp: falcon.Response, status: str | int, body: dict[str, Any]) -> None:
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(body)
