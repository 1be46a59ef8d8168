"""Who may hold a connection, and for how long: slow clients give way, prompt ones are served.

waitress alone stops to accept once its limit of connections is reached, whatever those do, and it
asks each of them for its wishes whenever anything happens. Here the connections that wait for
their clients stand in a lobby: they cost the main loop nothing, and when there are too many, the
one that has been silent longest is closed. So a flood of half-open connections evicts itself, and
cannot lock out a client that sends its request at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import time
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer, UnixWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error

from edge_server.api.guard import GuardedParser, JsonErrorTask
from edge_server.appliance import MEBI

log = logging.getLogger(__name__)

# Of each listener, so that the network cannot close connections of programs on this machine.
NEWCOMERS = 512
KEPT = 512
# Bodies that have not come whole, together: each is held in memory up to 4 MiB.
HELD_BYTES = 256 * MEBI
# So long a client may be behind the least rate at which requests come and answers are taken.
PATIENCE_S = 10
_BYTES_A_SECOND = 4096
_TOO_SLOW = (
    f"The request came slower than {_BYTES_A_SECOND // 1024} KiB a second for {PATIENCE_S} s; "
    "check the connection."
)
# Cameras keep their connections open between two pictures.
_IDLE_S = 120
# Requests sent ahead are parsed as they come: in 8 KiB there are at most 300.
_HEAD_BYTES = 8 * 1024
_ACCEPTED_AT_ONCE = 8
# Answered by threads of their own, so that clients, probes and people hear how the server stands
# whatever it is working on.
_QUICK_PATHS = frozenset(
    ("/", "/info", "/healthz", "/readiness", "/metrics", "/models", "/model/registry")
)
_QUICK_THREADS = 2


class RequestTimeout(Error):  # type: ignore[misc]
    """A request that began and did not come whole in time."""

    code = 408
    reason = "Request Timeout"


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection. The main loop calls it; worker threads call ``write_soon`` only.

    Attributes:
        served: it has had an answer, and may have more.
    """

    parser_class = GuardedParser
    error_task_class = JsonErrorTask
    request: GuardedParser | None

    def __init__(
        self,
        server: TcpListener | UnixListener,
        sock: socket.socket,
        addr: tuple[str, int | None],
        adj: object,
        map: dict[int, object],  # noqa: A002 - waitress's name
    ) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        self.served = False
        self._lingers = False
        self._begin()

    def _begin(self) -> None:
        """A request or an answer begins."""
        self._since = time.monotonic()
        self._deadline = self._since + PATIENCE_S
        self._received = 0

    def _progress(self, count: int) -> None:
        """So many bytes came or went: time is given for them, but cannot be saved up."""
        latest = time.monotonic() + PATIENCE_S
        self._deadline = min(latest, self._deadline + count / _BYTES_A_SECOND)

    @property
    def held_bytes(self) -> int:
        """What a request that is not whole has brought so far."""
        return self._received if self.request is not None else 0

    def overdue(self, now: float) -> bool:
        """Whether the client has had its time, at ``now`` on the monotonic clock."""
        sending = self.total_outbufs_len > 0
        if self.requests and not sending:
            return False  # it is our turn
        idle = self.served and self.request is None and not sending
        return now > (self._since + _IDLE_S if idle else self._deadline)

    def expire(self) -> None:
        """Close it; a client that is in the middle of a request is told why."""
        request = self.request
        if request is None or self.requests or self.total_outbufs_len or self._lingers:
            self.drop()
            return
        self.server.lobby.leave(self)
        with self.requests_lock:
            request.refuse(RequestTimeout(_TOO_SLOW))
            self.requests.append(request)
            self.request = None
            self.server.add_task(self)

    def drop(self) -> None:
        """Close it without a word.

        Shut down, not closed: the main loop then finds it at its end and closes it, and cannot
        take a new connection that was given the same number for this one.
        """
        self.server.lobby.leave(self)
        self.will_close = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def readable(self) -> bool:
        """Never in waitress's own loop: who waits for its client goes to the lobby."""
        if self._lingers or super().readable():
            self.server.lobby.enter(self)
        return False

    def recv(self, buffer_size: int) -> bytes:
        """Read much only of a body."""
        in_body = self.request is not None and self.request.body_rcv is not None
        data: bytes = super().recv(buffer_size if in_body or self._lingers else _HEAD_BYTES)
        return data

    def received(self, data: bytes) -> bool:
        """Take in ``data``, unless the connection has had its last answer."""
        if self._lingers:
            return False
        if self.request is None and self.served:
            self._begin()
        self._received += len(data)
        self._progress(len(data))
        return bool(super().received(data))

    def write_soon(self, data: Any) -> int:  # noqa: ANN401 - bytes or a file
        """Send ``data`` of an answer."""
        if not self.total_outbufs_len:
            self._begin()
        self.served = True
        return int(super().write_soon(data))

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what the connection takes of ``data``. Only the main loop closes it."""
        sent: int = super().send(data, do_close=False) if self.connected else 0
        self._progress(sent)
        return sent

    def writable(self) -> bool:
        """Whether the main loop is to wait until something can be sent."""
        return self.will_close or (not self._lingers and super().writable())

    def handle_write(self) -> None:
        """Send; after the last answer close our side only (RFC 9112, section 9.6).

        A client that still sends its body would otherwise see a reset in place of its answer.
        """
        if self.will_close or not self.close_when_flushed:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.connected and not self.total_outbufs_len:
            self.socket.shutdown(socket.SHUT_WR)
            self._lingers, self.served = True, False


class Lobby:
    """The connections of a listener that wait for their clients: one entry in the main loop.

    Main loop only.

    Attributes:
        evicted: how many were closed because there were too many.
    """

    accepting = False

    def __init__(self, loop: dict[int, object]) -> None:
        """``loop`` is what the main loop goes through: objects by file descriptor."""
        self.evicted = 0
        self._loop = loop
        self._epoll = select.epoll()
        # Who entered last stands last; whose client sends something leaves, and enters again.
        self._newcomers: dict[int, Channel] = {}
        self._kept: dict[int, Channel] = {}
        loop[self._epoll.fileno()] = self

    def enter(self, channel: Channel) -> None:
        """Wait until the client of ``channel`` sends something, or its place is needed."""
        room, most = (self._kept, KEPT) if channel.served else (self._newcomers, NEWCOMERS)
        number = channel.socket.fileno()
        del self._loop[number]
        room[number] = channel
        self._epoll.register(number, select.EPOLLIN)
        if len(room) > most:
            next(iter(room.values())).drop()
            self.evicted += 1

    def leave(self, channel: Channel) -> None:
        """Back to the main loop, if it is here."""
        number = channel.socket.fileno()
        if self._newcomers.pop(number, None) or self._kept.pop(number, None):
            self._epoll.unregister(number)
            self._loop[number] = channel

    def keep_below(self, most_bytes: int) -> None:
        """Close who has been silent longest, until the others hold so few bytes."""
        waiting = [*self._newcomers.values(), *self._kept.values()]
        held = sum(channel.held_bytes for channel in waiting)
        for channel in waiting:
            if held > most_bytes and channel.held_bytes:
                held -= channel.held_bytes
                channel.drop()
                self.evicted += 1

    def readable(self) -> bool:
        """It is always worth a look."""
        return True

    def writable(self) -> bool:
        """Nothing is sent from here."""
        return False

    def handle_read_event(self) -> None:
        """Clients have sent something."""
        for number, events in self._epoll.poll(0):
            channel = self._newcomers.get(number) or self._kept.get(number)
            if channel is not None:
                self.leave(channel)
                wasyncore.readwrite(channel, events)

    def handle_error(self) -> None:
        """End the loop: better no server than one that hears nobody."""
        raise

    def close(self) -> None:
        """Close who waits."""
        for channel in [*self._newcomers.values(), *self._kept.values()]:
            channel.handle_close()
        del self._loop[self._epoll.fileno()]
        self._epoll.close()


class _Listener:
    """Accepts connections and looks after them."""

    channel_class = Channel
    active_channels: dict[int, Channel]
    next_channel_cleanup = math.inf  # waitress goes by a clock that may be set
    _next_look = 0.0

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **keywords)
        self.lobby = Lobby(self._map)  # type: ignore[attr-defined]
        self._quick = ThreadedTaskDispatcher()
        self._quick.set_thread_count(_QUICK_THREADS)

    def add_task(self, task: Channel) -> None:
        """Have the first request of a connection answered by a thread."""
        quick = getattr(task.requests[0], "path", "") in _QUICK_PATHS  # a refused one has none
        dispatcher = self._quick if quick else self.task_dispatcher  # type: ignore[attr-defined]
        dispatcher.add_task(task)

    def readable(self) -> bool:
        """Whether to wait for new connections; asked at every turn of the main loop."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 1
            self._look_after(now)
        return bool(super().readable())  # type: ignore[misc]

    def handle_accept(self) -> None:
        """Accept some of those who wait; waitress accepts one."""
        for _ in range(_ACCEPTED_AT_ONCE):
            before = len(self.active_channels)
            super().handle_accept()  # type: ignore[misc]
            if len(self.active_channels) == before:
                break

    def _look_after(self, now: float) -> None:
        for channel in list(self.active_channels.values()):
            if channel.overdue(now):
                channel.expire()
        self.lobby.keep_below(HELD_BYTES)
        if self.lobby.evicted:
            log.warning("Closed %d connections: too many were silent.", self.lobby.evicted)
            self.lobby.evicted = 0


class TcpListener(_Listener, TcpWSGIServer):  # type: ignore[misc]
    """Listens on an address."""


class UnixListener(_Listener, UnixWSGIServer):  # type: ignore[misc]
    """Listens on a socket in the file system; its clients have the address ``localhost``."""
