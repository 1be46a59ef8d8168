"""Models in memory, by ``/model/*``, and on disk, by ``/models``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import falcon

from edge_server.api.answers import Deleted, Models, ModelState, Registry, Started
from edge_server.api.exchange import body_of, send, trace_of
from edge_server.api.fields import read_json
from edge_server.api.operations import operation
from edge_server.api.requests import ModelBody
from edge_server.api.responses import registry_response
from edge_server.errors import EdgeServerError
from edge_server.models.store import ModelStore
from edge_server.serving import pool
from edge_server.serving.pool import ModelPool
from edge_server.serving.upgrade import Upgrade

_LOADING = (400, 404, 422, 500, 503)


class LoadedResource:
    """``/model/*`` and its older forms: every route but those answers with what is loaded."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    @operation("The models in memory", answer=Registry)
    def on_get_registry(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Clients call this before every inference: it never waits for a load or a run."""
        self._send_registry(resp)

    @operation("Load a model", body=ModelBody, answer=Registry, refusals=_LOADING)
    def on_post_add(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Load a model; answers when it is ready."""
        self._load(req, read_json(body_of(req), ModelBody).model_id)
        self._send_registry(resp)

    @operation("Unload a model", body=ModelBody, answer=Registry, refusals=(422,))
    def on_post_remove(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Unload a model; one that is not loaded is fine."""
        self._pool.remove(read_json(body_of(req), ModelBody).model_id)
        self._send_registry(resp)

    @operation("Unload every model", answer=Registry)
    def on_post_clear(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Unload every model."""
        self._pool.clear()
        self._send_registry(resp)

    @operation("Load a model (older form)", answer=Started, refusals=_LOADING)
    def on_get_start(
        self, req: falcon.Request, resp: falcon.Response, project: str, version: str
    ) -> None:
        """The older form of ``/model/add``."""
        model_id = f"{project}/{version}"
        self._load(req, model_id)
        send(resp, Started(200, f"Model {model_id} is loaded."))

    @operation("Unload every model (older form)", answer=str)
    def on_get_clear_cache(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The older form of ``/model/clear``."""
        self._pool.clear()
        send(resp, "Cache Cleared")

    def _load(self, req: falcon.Request, model_id: str) -> None:
        trace = trace_of(req)
        trace.model_id = model_id
        trace.load_s = self._pool.add(model_id, path=trace.path)

    def _send_registry(self, resp: falcon.Response) -> None:
        send(resp, registry_response(self._pool.states()))


class InstalledResource:
    """``/models``: what is on disk, and how it stands."""

    def __init__(
        self, store: ModelStore, pool: ModelPool, upgrades: Callable[[str], Upgrade | None]
    ) -> None:
        self._store = store
        self._pool = pool
        self._upgrades = upgrades

    @operation("Every installed model: its state, engine, precision and memory", answer=Models)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Never waits for a load or a run."""
        states = {state.model_id: state for state in self._pool.states()}
        send(resp, Models([self._state(model_id, states) for model_id in self._store.ids()]))

    @operation(
        "Delete a model from disk",
        body=ModelBody,
        answer=Deleted,
        refusals=(400, 401, 403, 404, 415, 422, 503),
    )
    def on_post_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Requests that run with it are answered first."""
        model_id = read_json(body_of(req), ModelBody).model_id
        self._store.delete(model_id)
        self._pool.remove(model_id)
        send(resp, Deleted(model_id))

    def _state(self, model_id: str, states: Mapping[str, pool.ModelState]) -> ModelState:
        bundled = self._store.is_bundled(model_id)
        try:
            package = self._store.find(model_id)
        except EdgeServerError as error:
            return ModelState(model_id=model_id, state="damaged", error=str(error), bundled=bundled)
        facts = ModelState(
            model_id=model_id,
            task=package.task,
            family=package.family,
            classes=len(package.class_names),
            state="installed",
            bundled=bundled,
        )
        found = states.get(model_id)
        if found is not None:
            facts.state, facts.error = found.state, found.error or None
        if found is not None and found.model is not None:
            facts.engine = found.model.engine_name
            facts.precision = found.model.precision
            facts.memory_bytes = found.model.nbytes
            facts.load_s, facts.idle_s = found.load_s, found.idle_s
            facts.aliases = list(found.aliases)
            upgrade = self._upgrades(model_id)
            facts.upgrade = str(upgrade) if upgrade else None
        return facts
