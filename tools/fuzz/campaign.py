"""A server of its own, and processes that send it one mutated request after the other."""

from __future__ import annotations

import base64
import json
import multiprocessing
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from edge_server.models.store import ModelStore
from tests.networks import cells, head_rows, save_detector
from tools.fuzz.pictures import mutated_picture, picture_seeds
from tools.fuzz.texts import MODEL, OTHER_MODEL, mutated_text, text_seeds

ROOT = Path(__file__).resolve().parents[2]

# 5xx that the API documents: busy, and no memory for the model.
DOCUMENTED = frozenset({503, 507})
_CONNECTIONS = 4
_HANG_S = 30
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Case(NamedTuple):
    """One request, and what it is called."""

    name: str
    request: bytes


@dataclass
class Tally:
    """What came back.

    Attributes:
        statuses: how many answers of each HTTP status.
        findings: cases that were not answered as they should be, each with the reason.
        slowest_s: seconds of the slowest answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[tuple[str, Case]] = field(default_factory=list)
    slowest_s: float = 0.0

    def add(self, other: Tally) -> None:
        self.statuses += other.statuses
        self.findings += other.findings
        self.slowest_s = max(self.slowest_s, other.slowest_s)


@dataclass
class Plan:
    """What to send.

    Attributes:
        pictures: how many mutated pictures; half of them raw, half in JSON.
        texts: how many mutated JSON bodies.
        seed: another number makes other mutations.
        upload: how raw pictures are sent: ``raw`` or ``multipart``.
        slow_s: an answer that takes longer is a finding.
        processes: how many send at once.
        warm_up: how many of each kind are sent before memory is measured.
        settle_s: how long the server may take to give memory back before it is measured.
    """

    pictures: int
    texts: int
    seed: int = 0
    upload: str = "raw"
    slow_s: float = 1.0
    processes: int = 2
    warm_up: int = 2000
    settle_s: float = 0.0


@dataclass
class Report:
    """What a campaign found. Memory is resident, in bytes, before and after."""

    pictures: Tally
    texts: Tally
    seconds: float
    memory_before: int
    memory_after: int

    @property
    def findings(self) -> list[tuple[str, Case]]:
        return self.pictures.findings + self.texts.findings


def run_campaign(plan: Plan, log: Path) -> Report:
    """Start a server, send everything, stop the server.

    Args:
        plan: what to send.
        log: a file for what the server writes to standard error.
    """
    with _server(log) as (process, port):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(plan.processes, mp_context=context) as pool:

            def send(kind: str, first: int, last: int) -> Tally:
                tally = Tally()
                jobs = [
                    pool.submit(
                        _send_all, port, plan, kind, range(first + part, last, plan.processes)
                    )
                    for part in range(plan.processes)
                ]
                for job in jobs:
                    tally.add(job.result())
                return tally

            # Beyond the numbers of the campaign: everything is loaded, every thread has memory.
            send("picture", plan.pictures, plan.pictures + plan.warm_up)
            send("text", plan.texts, plan.texts + plan.warm_up)
            time.sleep(plan.settle_s)
            before, began = _resident(process.pid), time.monotonic()
            pictures = send("picture", 0, plan.pictures)
            texts = send("text", 0, plan.texts)
            spent = time.monotonic() - began
        time.sleep(plan.settle_s)
        assert process.poll() is None, f"the server ended with status {process.returncode}"
        return Report(pictures, texts, spent, before, _resident(process.pid))


def _picture_case(plan: Plan, seeds: tuple[bytes, ...], number: int) -> Case:
    file = mutated_picture(_chance(plan, "picture", number), seeds)
    name = f"picture-{number}"
    if number % 2:
        image = {"type": "base64", "value": base64.b64encode(file).decode("ascii")}
        body = json.dumps({"model_id": MODEL, "image": image}).encode("ascii")
        return Case(name, _post("/infer/object_detection", "application/json", body))
    if plan.upload == "raw":
        return Case(name, _post(f"/{MODEL}", "image/jpeg", file))
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form = head + file + b"\r\n--XX--\r\n"
    return Case(name, _post(f"/{MODEL}", "multipart/form-data; boundary=XX", form))


def _chance(plan: Plan, kind: str, number: int) -> random.Random:
    return random.Random(f"{plan.seed}/{kind}/{number}")  # noqa: S311 - meant to be repeatable


def _cases(plan: Plan, kind: str, numbers: range) -> Iterator[Case]:
    files = picture_seeds()
    if kind == "picture":
        yield from (_picture_case(plan, files, number) for number in numbers)
        return
    seeds = text_seeds(files[0])
    for number in numbers:
        path, body = mutated_text(_chance(plan, kind, number), seeds)
        yield Case(f"{kind}-{number}", _post(path, "application/json", body))


def _post(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


def _send_all(port: int, plan: Plan, kind: str, numbers: range) -> Tally:
    """What one process sends."""
    return send_cases(port, _cases(plan, kind, numbers), plan.slow_s)


def send_cases(port: int, cases: Iterator[Case], slow_s: float) -> Tally:
    """Keep a few connections busy until every case is answered."""
    tally = Tally()
    connections = [_Connection(port) for _ in range(_CONNECTIONS)]
    while group := list(islice(cases, _CONNECTIONS)):
        busy = list(zip(connections, group, strict=False))
        for connection, case in busy:
            connection.send(case.request)
        for connection, case in busy:
            status, body, seconds = connection.receive()
            tally.statuses[status] += 1
            tally.slowest_s = max(tally.slowest_s, seconds)
            reason = complaint(status, body, seconds, slow_s)
            if reason is not None:
                tally.findings.append((reason, case))
    for connection in connections:
        connection.close()
    return tally


def complaint(status: int, body: bytes, seconds: float, slow_s: float) -> str | None:
    """What is wrong with an answer, None when nothing is; status 0 stands for no answer."""
    if status == 0:
        return "no-answer"
    if status >= 500 and status not in DOCUMENTED:
        return f"status-{status}"
    if seconds > slow_s:
        return "slow"
    try:
        return None if isinstance(json.loads(body), (dict, list)) else "no-object"
    except ValueError:
        return "no-json"


class _Connection:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._sent_at = 0.0

    def send(self, request: bytes) -> None:
        self._sent_at = time.monotonic()
        try:
            if self._socket is None:
                address = ("127.0.0.1", self._port)
                self._socket = socket.create_connection(address, timeout=_HANG_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
        except OSError:
            pass  # the answer may be there all the same

    def receive(self) -> tuple[int, bytes, float]:
        """Status, body and seconds of the answer; status 0 when there is none."""
        try:
            status, head, body = self._read()
        except OSError:
            status, head, body = 0, b"", b""
        if status == 0 or b"onnection: close" in head:
            self.close()
        return status, body, time.monotonic() - self._sent_at

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self) -> tuple[int, bytes, bytes]:
        if self._socket is None:
            raise ConnectionError
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, body = received[: end + 2], received[end + 4 :]
        status, length = _STATUS_LINE.match(head), _LENGTH.search(head)
        if status is None or length is None:
            raise ConnectionError
        while len(body) < int(length[1]):
            body += self._more()
        return int(status[1]), head, body

    def _more(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError
        return received


@contextmanager
def _server(log: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The real server with two models that cost next to nothing."""
    with tempfile.TemporaryDirectory() as name, log.open("w", encoding="utf-8") as errors:
        folder = Path(name)
        rows = head_rows([[16, 16, 16, 16]], [[0.9, 0.1]], cells(64, 64))
        metadata = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect"}
        store = ModelStore(folder / "data" / "models")
        for model_id in (MODEL, OTHER_MODEL):
            weights = save_detector(folder / "best.onnx", rows, metadata=metadata)
            store.install(model_id, weights, task=None, prove=lambda package: None)
        config = folder / "config.toml"
        # No URL is fetched: a mutated one may name any host there is. And no picture is so large
        # that it honestly takes a second: what is slow is slow for its size.
        settings = 'engine_threads = 1\nurl_input = "off"\nmax_image_megapixels = 8\n'
        config.write_text(settings, encoding="utf-8")
        command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
        command += ["--data-dir", str(folder / "data"), "--config", str(config)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            try:
                assert process.stdout is not None
                found = re.search(r":(\d+)$", process.stdout.readline().strip())
                assert found, f"the server did not start: see {log}"
                yield process, int(found[1])
            finally:
                process.terminate()


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    assert found, "the server has ended"
    return int(found[1]) * 1024
