"""One closable resource that many threads use and another thread may close."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Anything that holds memory until it is closed."""

    def close(self) -> None:
        """Free what is held."""


T = TypeVar("T", bound=Closable)


class SharedClosedError(Exception):
    """The resource was closed before the lease began."""


class Shared(Generic[T]):
    """Counts the users of a resource, so that it is closed only when the last one has left."""

    def __init__(self, resource: T) -> None:
        self._resource = resource
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False

    @contextmanager
    def use(self) -> Iterator[T]:
        """Lease the resource: it stays open until the block ends, whatever others do meanwhile.

        Raises:
            SharedClosedError: ``close`` was called before.
        """
        with self._lock:
            if self._retired:
                raise SharedClosedError
            self._users += 1
        try:
            yield self._resource
        finally:
            with self._lock:
                self._users -= 1
                last = self._retired and self._users == 0
            if last:
                self._resource.close()

    def close(self) -> None:
        """Refuse new users; the resource is closed once, when its last user leaves."""
        with self._lock:
            unused = not self._retired and self._users == 0
            self._retired = True
        if unused:
            self._resource.close()
