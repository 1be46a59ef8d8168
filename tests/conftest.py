"""Fixtures shared by the whole suite; CI skips nothing; no test reaches another machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import ipaddress
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_server.settings import VARIABLES
from tests.support import ROOT, running_server

# As the command does, before a test imports NumPy: see ``edge_server.cli.main``.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ALL_TIERS = os.environ.get("EDGE_SERVER_REQUIRE_ALL_TIERS") == "1"
# What is set on this machine, such as HOST, must not reach the servers under test.
for _name in [name for name in os.environ if name.startswith("EDGE_SERVER_") or name in VARIABLES]:
    del os.environ[_name]


def _keep_to_this_machine(event: str, arguments: tuple) -> None:
    """Refuse connections of the test process itself to other machines; children are not seen."""
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return
    host = arguments[1][0]
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise PermissionError(f"tests talk to this machine only, not to {host}")


sys.addaudithook(_keep_to_this_machine)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With EDGE_SERVER_REQUIRE_ALL_TIERS=1 a skipped test is a failed test."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """The same for a file that skips itself as a whole."""
    return _refuse_skip((yield))


def _refuse_skip(report):
    if ALL_TIERS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (EDGE_SERVER_REQUIRE_ALL_TIERS=1: no tier may be skipped)"
    return report


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server with an empty data directory, such as http://127.0.0.1:41234.

    It fetches picture URLs from this machine, because that is where tests serve theirs. It is
    shared: a test that unloads models or changes the data directory starts one of its own with
    ``tests.support.running_server``.
    """
    with running_server(
        tmp_path_factory.mktemp("data"), config='url_allow = ["127.0.0.1"]\n'
    ) as url:
        yield url


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The Python of ``.venv-clients``, which holds the client libraries that our users have.

    They need ``opencv-python``, which shares its folder with our headless wheel, so they live
    in an environment of their own.
    """
    return _environment(".venv-clients", "clients.txt", "the client libraries")


@pytest.fixture(scope="session")
def rtx_environment() -> dict[str, str]:
    """Variables with which a child finds TensorRT-RTX as ``tensorrt``: a real builder, no GPU.

    Its two wheels lie in ``.venv-rtx``, without what they would bring; nothing of ours needs them.
    """
    python = _environment(".venv-rtx", "rtx.txt", "TensorRT-RTX", "--no-deps")
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    paths = (ROOT, ROOT / "tests" / "rtx", packages)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def _environment(name: str, pins: str, what: str, *options: str) -> Path:
    """The Python of an environment, made here when it is missing or out of date."""
    folder = ROOT / name
    requirements = ROOT / "tests" / pins
    stamp = folder / ".made-from"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, "--only-binary=:all:", *options, "--requirement", str(requirements)],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            last = (made.stderr.strip() or made.stdout.strip()).splitlines()[-1:]
            pytest.skip(f"{what} cannot be installed here: {' '.join(last)}")
    stamp.write_text(wanted)
    return python


@pytest.fixture(scope="session")
def ask(
    clients_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Call ``main`` of a script of tests/clients by name, in the clients' environment.

    Its keyword arguments and what it returns are what JSON can hold.
    """
    worker = ROOT / "tests" / "clients" / "worker.py"
    log = tmp_path_factory.mktemp("clients") / "stderr.log"
    pipe = subprocess.PIPE
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [clients_python, worker], stdin=pipe, stdout=pipe, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdin
        assert process.stdout

        def run(script: str, **arguments: object) -> Any:
            print(json.dumps([script, arguments], default=str), file=process.stdin, flush=True)
            line = process.stdout.readline()
            assert line, f"the clients' process has ended:\n{log.read_text()[-5000:]}"
            answer = json.loads(line)
            assert "raised" not in answer, answer["raised"]
            return answer["returned"]

        yield run


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def picture_url() -> Iterator[Callable[[Path], str]]:
    """The address under which a picture of the bundled models can be had from this machine."""
    bundled = ROOT / "edge_server" / "bundled"
    handler = functools.partial(_QuietHandler, directory=str(bundled))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield lambda file: f"http://127.0.0.1:{files.server_port}/{file.relative_to(bundled)}"
        files.shutdown()
        thread.join()
