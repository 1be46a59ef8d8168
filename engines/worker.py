"""One thread that owns what must stay on one thread, at the service of any number of others."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from engines.base import Array, EngineError, EngineLostError

_logger = logging.getLogger(__name__)
Tensors = Mapping[str, Array]
_LIMIT = 64  # each waiting caller is a server thread, and there are fewer of those


class Session(Protocol):
    """What the thread owns, from entering to leaving it. Used by that thread alone."""

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Run the network; EngineLostError ends the thread, every other EngineError only this."""


class Worker:
    """Enters a session on a thread of its own, runs what callers ask, and leaves it there.

    Thread-safe. Whoever waits gets an answer or an EngineError, whatever happens to the thread.
    """

    def __init__(
        self, name: str, session: Callable[[], AbstractContextManager[Session]], limit: int = _LIMIT
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            session: makes the session; called and entered on the thread.
            limit: how many calls may wait; more callers are held up until one is taken.

        Raises:
            EngineError: what entering the session raised.
        """
        self._session = session
        self._limit = limit
        self._calls: deque[tuple[Tensors, Future[dict[str, Array]]]] = deque()
        self._end: EngineError | None = None  # set once: why no call is taken any more
        self._changed = threading.Condition()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except EngineError:
            self._thread.join()
            raise

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Have the session run ``feeds`` and wait for its answer.

        Raises:
            EngineError: the run failed, or the worker has ended.
        """
        answer: Future[dict[str, Array]] = Future()
        with self._changed:
            self._changed.wait_for(lambda: self._end or len(self._calls) < self._limit)
            if self._end is not None:
                raise _copy(self._end)
            self._calls.append((feeds, answer))
            self._changed.notify_all()
        return answer.result()

    def close(self) -> None:
        """Let the running call end, refuse the waiting ones, leave the session, end the thread."""
        self._stop(EngineError("The engine is closed."))
        if threading.current_thread() is not self._thread:  # the garbage collector runs anywhere
            self._thread.join()

    def _work(self) -> None:
        end = EngineError("The engine is closed.")
        try:
            with self._session() as session:
                self._opened.set_result(None)
                while (call := self._take()) is not None:
                    self._answer(session, *call)
        except EngineError as error:
            end = _copy(error)
        except BaseException as error:  # the top of a thread: callers must hear of it
            _logger.exception("The thread %s died", self._thread.name)
            end = _death(error)
        self._stop(end)
        if not self._opened.done():
            self._opened.set_exception(end)

    def _answer(self, session: Session, feeds: Tensors, answer: Future[dict[str, Array]]) -> None:
        """Answer one call; an error that ends the thread ends the queue first.

        Nothing is raised further: while an exception is on its way, its frames keep alive what
        leaving the session must free.
        """
        try:
            answer.set_result(session.run(feeds))
        except EngineLostError as error:
            self._stop(_copy(error))
            answer.set_exception(_copy(error))
        except EngineError as error:
            answer.set_exception(_copy(error))
        except BaseException as error:
            _logger.exception("The thread %s failed", self._thread.name)
            self._stop(_death(error))
            answer.set_exception(_death(error))

    def _take(self) -> tuple[Tensors, Future[dict[str, Array]]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._end or self._calls)
            if self._end is not None:
                return None
            self._changed.notify_all()
            return self._calls.popleft()

    def _stop(self, end: EngineError) -> None:
        with self._changed:
            self._end = self._end or end
            refused, self._calls = self._calls, deque()
            self._changed.notify_all()
        for _, answer in refused:
            answer.set_exception(_copy(end))


def _death(error: BaseException) -> EngineError:
    return EngineError(f"The engine's thread died: {type(error).__name__}: {error}")


def _copy(error: EngineError) -> EngineError:
    """The same error for another thread: a traceback would keep alive what the worker must free."""
    twin = type(error).__new__(type(error), *error.args)
    vars(twin).update(vars(error))
    return twin
