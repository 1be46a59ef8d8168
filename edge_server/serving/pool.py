"""The models in memory: each loaded once, used by many threads, removed under them safely."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from edge_server.errors import BusyError, EngineGoneError, ModelIdError, ModelNotFoundError
from edge_server.models.aliases import resolve_alias
from edge_server.serving.model import Model
from edge_server.serving.shared import Shared, SharedClosedError

log = logging.getLogger(__name__)

# A caller that waits occupies a server thread, so it waits briefly and is then told to return.
LOAD_WAIT_S = 30.0
# Callers choose paths, and with them ids that fail: what is remembered of either has an end.
_MAX_PATHS = 16
_MAX_FAILURES = 32


class Lease(NamedTuple):
    """A model to use, and what it cost.

    Attributes:
        model: open until the lease ends.
        load_s: seconds that this caller spent loading it; 0.0 when it was in memory, or when
            another caller loaded it.
    """

    model: Model
    load_s: float


@dataclass(frozen=True)
class ModelState:
    """A model that was asked for, as it was at one moment.

    Attributes:
        model_id: the id under which it is installed.
        state: whether it is in memory.
        model: while loaded, for its facts; to run it takes a lease.
        error: why its last load failed, as a sentence; empty unless ``state`` says so.
        load_s: seconds that loading took.
        age_s: seconds since then.
        idle_s: seconds since it was last asked for.
        aliases: other ids that led to it, sorted.
        paths: where it was asked for, sorted.
    """

    model_id: str
    state: Literal["loading", "loaded", "failed"]
    model: Model | None = None
    error: str = ""
    load_s: float = 0.0
    age_s: float = 0.0
    idle_s: float = 0.0
    aliases: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(eq=False)
class _Entry:
    """A model in memory or on its way; guarded by the lock of the pool, but for ``shared``."""

    model_id: str
    shared: Future[Shared[Model]] = field(default_factory=Future)
    model: Model | None = None
    load_s: float = 0.0
    loaded: float = 0.0
    used: float = 0.0
    aliases: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)

    def note(self, asked: str, path: str) -> None:
        self.used = time.monotonic()
        if asked != self.model_id:
            self.aliases.add(asked)
        if path and len(self.paths) < _MAX_PATHS:
            self.paths.add(path)

    def state(self, now: float) -> ModelState:
        return ModelState(
            self.model_id,
            "loaded" if self.model else "loading",
            self.model,
            load_s=self.load_s,
            age_s=now - self.loaded if self.model else 0.0,
            idle_s=now - self.used,
            aliases=tuple(sorted(self.aliases)),
            paths=tuple(sorted(self.paths)),
        )


class ModelPool:
    """Loads models on first use and keeps them until they are removed.

    The one lock guards two dictionaries and is never held while a model loads, runs or closes:
    ``states`` answers at once whatever else happens.
    """

    def __init__(
        self,
        load: Callable[[str], Model],
        *,
        resolve: Callable[[str], str] = resolve_alias,
        load_wait_s: float = LOAD_WAIT_S,
        gone: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """A pool without models.

        Args:
            load: makes a model from its id; its errors reach every caller that waits for it.
            resolve: the id under which a model is kept, from any id that callers use for it.
            load_wait_s: seconds to wait for another caller's load.
            gone: told why, when a model lost its engine and is about to be loaded on another.
        """
        self._load = load
        self._resolve = resolve
        self._load_wait_s = load_wait_s
        self._gone = gone
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._failures: dict[str, str] = {}

    @contextmanager
    def lease(self, model_id: str, *, path: str = "") -> Iterator[Lease]:
        """Use a model, loading it when needed; it stays open until the block ends.

        Args:
            model_id: its id or an alias.
            path: where it is asked for, for ``states``.

        Raises:
            BusyError: another caller's load of this model takes too long to wait for.
            EdgeServerError: whatever ``load`` raises.

        An EngineGoneError that leaves the block has the model loaded anew for the next lease.
        """
        load_s = 0.0
        with ExitStack() as stack:
            while True:
                shared, seconds = self._shared(model_id, path)
                load_s += seconds
                try:
                    model = stack.enter_context(shared.use())
                    break
                except SharedClosedError:  # removed between finding and entering: load again
                    continue
            try:
                yield Lease(model, load_s)
            except EngineGoneError as error:
                self._gone(str(error))
                self._renew(model)
                raise

    @contextmanager
    def peek(self, model_id: str) -> Iterator[Model | None]:
        """Use a model if it is in memory, else None; nobody's request, so that no state changes."""
        with self._lock:
            entry = self._entries.get(model_id)
            shared = entry.shared if entry is not None and entry.model is not None else None
        with ExitStack() as stack:
            model = None
            if shared is not None:
                with suppress(SharedClosedError):
                    model = stack.enter_context(shared.result().use())
            yield model

    def replace(self, old: Model, new: Model) -> bool:
        """Answer with ``new`` from the next lease on; ``old`` is closed when its last user leaves.

        Returns:
            whether that was done: when ``old`` is in use no more, ``new`` is closed instead.
        """
        shared: Future[Shared[Model]] = Future()
        shared.set_result(Shared(new))
        with self._lock:
            entry = self._entries.get(old.package.model_id)
            if entry is None or entry.model is not old:
                replaced = shared
            else:
                replaced, entry.shared, entry.model = entry.shared, shared, new
        replaced.result().close()
        return replaced is not shared

    def add(self, model_id: str, *, path: str = "") -> float:
        """Load a model unless it is loaded; ``Lease.load_s``. Takes and raises as ``lease``."""
        _, load_s = self._shared(model_id, path)
        return load_s

    def remove(self, model_id: str) -> None:
        """Forget a model; its memory is freed when its last running request ends."""
        self._forget(self._resolve(model_id))

    def clear(self) -> None:
        """Forget every model."""
        with self._lock:
            known = [*self._entries, *self._failures]
        for model_id in known:
            self._forget(model_id)

    def states(self) -> list[ModelState]:
        """What was asked for, first asked first, then what failed to load. Never waits."""
        now = time.monotonic()
        with self._lock:
            states = [entry.state(now) for entry in self._entries.values()]
            failures = self._failures.items()
            states += [ModelState(model_id, "failed", error=why) for model_id, why in failures]
        return states

    def _shared(self, asked: str, path: str) -> tuple[Shared[Model], float]:
        """The model and the seconds that this caller loaded it, 0.0 when it did not."""
        model_id = self._resolve(asked)
        with self._lock:
            entry = self._entries.get(model_id)
            mine = entry is None
            if entry is None:
                entry = self._entries[model_id] = _Entry(model_id)
                self._failures.pop(model_id, None)
            entry.note(asked, path)
        load_s = self._fill(entry) if mine else 0.0
        try:
            return entry.shared.result(timeout=self._load_wait_s), load_s
        except FutureTimeoutError:
            raise BusyError(f"Model {model_id} is still loading; try again shortly.") from None

    def _renew(self, broken: Model) -> None:
        """Load a model again, unless another thread does; those who ask meanwhile wait for it."""
        with self._lock:
            entry = self._entries.get(broken.package.model_id)
            if entry is None or entry.model is not broken:
                return
            retired, entry.shared, entry.model = entry.shared, Future(), None
        retired.result().close()
        self._fill(entry)

    def _fill(self, entry: _Entry) -> float:
        """Load the model of ``entry`` for everybody who waits; the seconds that it took."""
        began = time.perf_counter()
        try:
            model = self._load(entry.model_id)
        except BaseException as error:
            with self._lock:  # a later request tries again: the file may have been repaired
                if self._entries.get(entry.model_id) is entry:
                    del self._entries[entry.model_id]
                    self._note_failure(entry.model_id, error)
            entry.shared.set_exception(error)
            raise
        load_s = time.perf_counter() - began
        log.info("loaded %s in %.2f s", entry.model_id, load_s)
        shared = Shared(model)
        with self._lock:
            entry.model, entry.load_s, entry.loaded = model, load_s, time.monotonic()
            entry.shared.set_result(shared)
            kept = self._entries.get(entry.model_id) is entry
        if not kept:  # removed while it was loading
            shared.close()
        return load_s

    def _note_failure(self, model_id: str, error: BaseException) -> None:
        if isinstance(error, (ModelIdError, ModelNotFoundError)):
            return  # there is no such model, so it has no state
        while len(self._failures) >= _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]
        self._failures[model_id] = str(error) or type(error).__name__

    def _forget(self, model_id: str) -> None:
        with self._lock:
            entry = self._entries.pop(model_id, None)
            self._failures.pop(model_id, None)
        if entry is not None and entry.model is not None:
            entry.shared.result().close()
