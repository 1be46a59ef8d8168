"""Who is this server, does it live, is it ready, how is it doing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import falcon

from edge_server import __version__
from edge_server.api.answers import Home, Info, Status
from edge_server.api.exchange import send
from edge_server.api.operations import BINARY, operation
from edge_server.ops.metrics import Metrics, ModelFacts
from edge_server.serving.pool import ModelPool
from edge_server.serving.upgrade import Upgrade

NAME = "Edge Server"


class StatusResource:
    """The routes that clients, people and supervisors poll. None of them waits for anything."""

    def __init__(
        self,
        ready: threading.Event,
        pool: ModelPool,
        metrics: Metrics,
        upgrades: Callable[[str], Upgrade | None],
    ) -> None:
        """``ready`` is set once every model to preload has been loaded or has failed."""
        self._ready = ready
        self._pool = pool
        self._metrics = metrics
        self._upgrades = upgrades
        self._info = Info(name=NAME, version=__version__, uuid=uuid.uuid4().hex)

    @operation("Where to go from here", answer=Home)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """For the person who opens the address in a browser."""
        send(resp, Home(NAME, __version__, _LINKS))

    @operation("Name, version and an id of this process", answer=Info)
    def on_get_info(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Clients ask this to see whether they found the right server."""
        send(resp, self._info)

    @operation("Whether the process lives", answer=Status)
    def on_get_health(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The process answers."""
        send(resp, Status("healthy"))

    @operation("Whether the models to preload are there", answer=Status, refusals=(503,))
    def on_get_readiness(self, req: falcon.Request, resp: falcon.Response) -> None:
        """503 until every model to preload is loaded, or has failed."""
        if self._ready.is_set():
            send(resp, Status("ready"))
        else:
            resp.status = falcon.HTTP_503
            send(resp, Status("not ready"))

    @operation("Counts and times in Prometheus' text format", answer={"text/plain": BINARY})
    def on_get_metrics(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Made when it is asked for."""
        models = [
            ModelFacts(
                state.model_id,
                state.model.engine_name,
                state.model.nbytes,
                state.load_s,
                getattr(self._upgrades(state.model_id), "state", ""),
            )
            for state in self._pool.states()
            if state.model is not None
        ]
        resp.data, resp.content_type = self._metrics.render(models)


_LINKS = {
    "documentation": "/docs",
    "models": "/models",
    "metrics": "/metrics",
    "liveness": "/healthz",
    "readiness": "/readiness",
}
