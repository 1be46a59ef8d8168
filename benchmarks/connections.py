"""What 1,000 half-open connections cost a client that sends its requests at once.

    python benchmarks/connections.py

Every kind of flood is measured in turn, round after round, beside no flood at all: the ratio is
taken within one run of the program.
"""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HALF_OPEN = 1000
ROUNDS = 10
REQUESTS = 100  # a round
TARGET = 2.0

HEAD = b"POST /infer/object_detection HTTP/1.1\r\nHost: flood\r\nContent-Length: 1000\r\n"
FLOODS = {
    "no other connection": None,
    "1,000 silent": b"",
    "1,000 with half a header": HEAD,
    "1,000 with half a body": HEAD + b"\r\n" + bytes(500),
}


def main() -> None:
    """Measure and print."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, _server(folder) as port:
        clients = {
            "kept connection": _kept(port),
            "new connection": lambda: _once(port),
        }
        spent: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            for flood, opening in FLOODS.items():
                with _half_open(port, opening):
                    for client, request in clients.items():
                        spent.setdefault((client, flood), []).extend(_timed(request))
    print(f"{'GET /healthz':<18}{'':<28}{'median':>10}{'p99':>10}{'ratio':>8}  target")
    for client in clients:
        baseline = _p99(spent[client, "no other connection"])
        for flood in FLOODS:
            measured = spent[client, flood]
            p99 = _p99(measured)
            print(
                f"{client:<18}{flood:<28}{statistics.median(measured):7.2f} ms{p99:7.2f} ms"
                f"{p99 / baseline:8.2f}  {TARGET if flood else ''}"
            )


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


@contextlib.contextmanager
def _server(folder: str) -> Iterator[int]:
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0", "--data-dir", folder]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()


@contextlib.contextmanager
def _half_open(port: int, opening: bytes | None) -> Iterator[None]:
    """Hold connections that sent ``opening`` and nothing more."""
    with contextlib.ExitStack() as stack:
        for _ in range(HALF_OPEN if opening is not None else 0):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(OSError):  # the server may have closed it already
                connection.sendall(opening or b"")
        time.sleep(0.1)  # what the flood costs while it stands, not while it comes
        yield


def _timed(request: Callable[[], None]) -> list[float]:
    """Milliseconds of each of so many requests."""
    spent = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        request()
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def _kept(port: int) -> Callable[[], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def request() -> None:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200

    return request


def _once(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


if __name__ == "__main__":
    main()
