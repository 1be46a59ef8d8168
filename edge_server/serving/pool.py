"""The models in memory: each loaded once, used by many threads, removed under them safely."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager

from edge_server.errors import BusyError
from edge_server.serving.model import Model
from edge_server.serving.shared import Shared, SharedClosedError

log = logging.getLogger(__name__)

# A caller that waits occupies a server thread, so it waits briefly and is then told to return.
LOAD_WAIT_S = 30.0


class ModelPool:
    """Loads models on first use and keeps them until they are removed.

    The one lock guards a dictionary and is never held while a model loads, runs or closes:
    ``loaded`` answers at once whatever else happens.
    """

    def __init__(self, load: Callable[[str], Model], *, load_wait_s: float = LOAD_WAIT_S) -> None:
        """``load`` makes a model from its id; its errors reach every caller that waits for it."""
        self._load = load
        self._load_wait_s = load_wait_s
        self._lock = threading.Lock()
        self._models: dict[str, Future[Shared[Model]]] = {}

    @contextmanager
    def lease(self, model_id: str) -> Iterator[Model]:
        """Use a model, loading it when needed; it stays open until the block ends.

        Raises:
            BusyError: another caller's load of this model takes too long to wait for.
            EdgeServerError: whatever ``load`` raises.
        """
        with ExitStack() as stack:
            while True:
                try:
                    model = stack.enter_context(self._shared(model_id).use())
                    break
                except SharedClosedError:  # removed between finding and entering: load again
                    continue
            yield model

    def add(self, model_id: str) -> None:
        """Load a model unless it is loaded. Raises as ``lease`` does."""
        self._shared(model_id)

    def remove(self, model_id: str) -> None:
        """Forget a model; its memory is freed when its last running request ends."""
        with self._lock:
            future = self._models.pop(model_id, None)
        if future is not None and _succeeded(future):
            future.result().close()

    def clear(self) -> None:
        """Forget every model."""
        for model_id in list(self._models):
            self.remove(model_id)

    def loaded(self) -> list[Model]:
        """The models that are ready, in the order they were asked for. Never waits."""
        with self._lock:
            futures = list(self._models.values())
        ready: list[Model] = []
        for future in futures:
            if _succeeded(future):
                try:
                    with future.result().use() as model:
                        ready.append(model)
                except SharedClosedError:
                    continue
        return ready

    def _shared(self, model_id: str) -> Shared[Model]:
        with self._lock:
            future = self._models.get(model_id)
            mine = future is None
            if future is None:
                future = self._models[model_id] = Future()
        if mine:
            self._fill(model_id, future)
        try:
            return future.result(timeout=self._load_wait_s)
        except FutureTimeoutError:
            raise BusyError(f"Model {model_id} is still loading; try again shortly.") from None

    def _fill(self, model_id: str, future: Future[Shared[Model]]) -> None:
        began = time.monotonic()
        try:
            shared = Shared(self._load(model_id))
        except BaseException as error:
            with self._lock:  # a later request tries again: the file may have been repaired
                if self._models.get(model_id) is future:
                    del self._models[model_id]
            future.set_exception(error)
            raise
        log.info("loaded %s in %.2f s", model_id, time.monotonic() - began)
        future.set_result(shared)
        with self._lock:
            kept = self._models.get(model_id) is future
        if not kept:  # removed while it was loading
            shared.close()


def _succeeded(future: Future[Shared[Model]]) -> bool:
    return future.done() and future.exception() is None
