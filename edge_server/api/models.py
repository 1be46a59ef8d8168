"""``/model/*``: which models are in memory, load one, let go of one or all."""

from __future__ import annotations

import falcon
import orjson

from edge_server.api.fields import Fields, parse_json
from edge_server.api.responses import registry_response
from edge_server.serving.pool import ModelPool


class ModelResource:
    """Every route answers with the list of loaded models."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    def on_get_registry(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Clients call this before every inference: it never waits for a load or a run."""
        self._send_registry(resp)

    def on_post_add(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Load a model; answers when it is ready."""
        self._pool.add(_model_id(parse_json(req.bounded_stream.read())))
        self._send_registry(resp)

    def on_post_remove(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Unload a model; one that is not loaded is fine."""
        self._pool.remove(_model_id(parse_json(req.bounded_stream.read())))
        self._send_registry(resp)

    def on_post_clear(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Unload every model."""
        self._pool.clear()
        self._send_registry(resp)

    def _send_registry(self, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(registry_response(self._pool.loaded()))


def _model_id(fields: Fields) -> str:
    model_id = fields.required_text("model_id")
    fields.check()
    return model_id
