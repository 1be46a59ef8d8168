"""A real server over an application of the test's own, and a client that sends what it likes."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO

from waitress import wasyncore

from edge_server.api.connections import TcpListener
from edge_server.api.server import make_server
from edge_server.settings import Settings

# Nothing here takes so long; a test that hangs ends.
HANG_S = 30


@dataclass(frozen=True)
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """A connection on which anything may be sent; answers are read one by one."""

    def __init__(self, port: int | str, data: bytes = b"") -> None:
        """``port`` on this machine, or the path of a Unix socket."""
        self.socket = socket.socket(socket.AF_UNIX if isinstance(port, str) else socket.AF_INET)
        self.socket.settimeout(HANG_S)
        self.socket.connect(port if isinstance(port, str) else ("127.0.0.1", port))
        self._stream: BinaryIO = self.socket.makefile("rb")
        self.socket.sendall(data)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stream.close()
        self.socket.close()

    def answer(self) -> Answer:
        """The next answer, which must have a Content-Length or no body."""
        status_line = self._stream.readline()
        assert status_line, "the server closed the connection without an answer"
        headers = http.client.parse_headers(self._stream)
        body = self._stream.read(int(headers.get("Content-Length", 0)))
        return Answer(int(status_line.split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Wait for the end of what the server sends; there must be nothing before it."""
        try:
            return self._stream.read() == b""
        except ConnectionResetError:
            return True


@contextmanager
def serving(
    app: Callable[..., Any], *more: socket.socket, **settings: Any
) -> Iterator[TcpListener]:
    """Serve ``app`` on a free port and more sockets, from a thread of this process."""
    sockets = [socket.create_server(("127.0.0.1", 0)), *more]
    server = make_server(app, sockets, Settings(data_dir=Path("unused"), **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join(HANG_S)
        server.task_dispatcher.shutdown()


def port_of(server: TcpListener) -> int:
    return int(server.effective_port)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once ``condition`` holds."""
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {HANG_S} s: {what}"
        time.sleep(0.01)


def allow_open_files(wanted: int) -> None:
    """Both ends of many connections are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
