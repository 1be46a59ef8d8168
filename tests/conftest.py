"""Fixtures shared by the whole suite; CI skips nothing; no test reaches another machine."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_server.settings import VARIABLES
from tests.support import ROOT, run_client, running_server

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


@pytest.fixture
def ask(clients_python: Path) -> Callable[..., dict]:
    """Run a script of tests/clients in the clients' environment; what it printed, parsed."""

    def run(script: str, *arguments: object) -> dict:
        done = run_client(clients_python, ROOT / "tests" / "clients" / script, *arguments)
        return json.loads(done.stdout.splitlines()[-1])

    return run
