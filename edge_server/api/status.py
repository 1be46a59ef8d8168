"""Who is this server, does it live, is it ready."""

from __future__ import annotations

import threading
import uuid

import falcon
import orjson

from edge_server import __version__

NAME = "Edge Server"


class StatusResource:
    """The routes that clients, people and supervisors poll. None of them waits for anything."""

    def __init__(self, ready: threading.Event) -> None:
        """``ready`` is set once every model to preload has been loaded or has failed."""
        self._ready = ready
        self._info = {"name": NAME, "version": __version__, "uuid": uuid.uuid4().hex}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """For the person who opens the address in a browser."""
        links = {"models": "/model/registry", "liveness": "/healthz", "readiness": "/readiness"}
        _send(resp, {**self._info, "links": links})

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        """For container health checks."""

    def on_get_info(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name, version and an id of this process."""
        _send(resp, self._info)

    def on_get_health(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The process answers."""
        _send(resp, {"status": "healthy"})

    def on_get_readiness(self, req: falcon.Request, resp: falcon.Response) -> None:
        """503 until the models to preload are loaded."""
        if self._ready.is_set():
            _send(resp, {"status": "ready"})
        else:
            resp.status = falcon.HTTP_503
            _send(resp, {"status": "not ready"})


def _send(resp: falcon.Response, body: object) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(body)
