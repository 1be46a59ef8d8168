"""What happens is counted in a few plain numbers; Prometheus' format is made when it is read."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
RECENT_S = 10.0

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_COARSE_S = (0.1, 0.5, 1.0)
_FINE_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 30.0, 60.0),
)


class ModelFacts(NamedTuple):
    """A model in memory: what runs it, the bytes it holds and the seconds its loading took.

    ``upgrade`` is where it is on its way to a faster engine: ``waiting``, ``building``,
    ``refused``; empty when it goes nowhere.
    """

    model_id: str
    engine: str
    nbytes: int
    load_s: float
    upgrade: str = ""


class Event(NamedTuple):
    """An inference or an error, and when it was noted."""

    time_s: float
    model_id: str
    images: int = 0
    seconds: float = 0.0
    errors: int = 0


class Histogram:
    """How many values were at most as large as each bound, and the sum of all."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` rise; one without end is added."""
        self.bounds = (*bounds, math.inf)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count ``value`` under the first bound that is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class HandlerTotals:
    """The requests of one route: bytes received and sent, and how long they took."""

    received: int = 0
    sent: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(_COARSE_S))


class Metrics:
    """Counts requests and inferences. Thread-safe; to count one takes about a microsecond.

    Attributes:
        requests: by method, group of statuses and handler.
        handlers: by handler.
        seconds: of all requests.
        recent: what happened in the last ``RECENT_S`` seconds, oldest first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.handlers: defaultdict[str, HandlerTotals] = defaultdict(HandlerTotals)
        self.seconds = Histogram(_FINE_S)
        self.recent: deque[Event] = deque()
        self._clock = clock
        self._lock = threading.Lock()

    def observe_request(
        self, method: str, handler: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count one answered request.

        Args:
            method: any that is unknown counts as ``other``.
            handler: the template of its route, never text of the caller: each is kept for good.
            status: such as 404.
            seconds: from its first byte to its answer.
            received: bytes of its body.
            sent: bytes of the answer's body.
        """
        key = (method if method in _METHODS else "other", f"{status // 100}xx", handler)
        with self._lock:
            self.requests[key] += 1
            totals = self.handlers[handler]
            totals.received += received
            totals.sent += sent
            totals.seconds.observe(seconds)
            self.seconds.observe(seconds)

    def observe_inference(self, model_id: str, seconds: float, images: int) -> None:
        """Count ``images`` pictures that a model answered in ``seconds`` together."""
        self._note(Event(self._clock(), model_id, images, seconds))

    def observe_error(self, model_id: str) -> None:
        """Count a request that a model, or its loading, failed to answer."""
        self._note(Event(self._clock(), model_id, errors=1))

    def render(self, models: Sequence[ModelFacts]) -> tuple[bytes, str]:
        """All of it in Prometheus' text format, and the content type of that.

        Args:
            models: those in memory, in the order in which they are to be listed.
        """
        from edge_server.ops.exposition import families, write  # slow to import

        with self._lock:
            self._forget(self._clock())
            found = list(families(self, models))
        return write(found), CONTENT_TYPE

    def _note(self, event: Event) -> None:
        with self._lock:
            self._forget(event.time_s)
            self.recent.append(event)

    def _forget(self, now: float) -> None:
        while self.recent and self.recent[0].time_s <= now - RECENT_S:
            self.recent.popleft()
