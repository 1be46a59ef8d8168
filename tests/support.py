"""What several test files need: where things are, and the real server as a process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "edge_server" / "bundled" / "demo-parts" / "1" / "examples"
DEMO_MODEL = "demo-parts/1"

_LISTENING = re.compile(r"^Edge Server \S+ listening on (http://\S+)$")


@contextmanager
def running_server(
    data_dir: Path, config: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Start the real server on a free loopback port; yield its address; stop it.

    Args:
        data_dir: its data directory.
        config: TOML text for ``--config``.
        environment: variables to add to this process's own.
    """
    config_file = data_dir / "test-config.toml"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
    command += ["--data-dir", str(data_dir), "--config", str(config_file)]
    with background(command, cwd=ROOT, environment=environment) as process:
        yield process.wait_for(_LISTENING).group(1)


class Background:
    """A child process whose output is read as it comes."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: re.Pattern[str], timeout_s: float = 60) -> re.Match[str]:
        """The first line of standard output that matches; fails when the process ends first."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except Empty:
                break
            if line is None:
                break
            if found := pattern.search(line.rstrip("\n")):
                return found
        raise AssertionError(f"No line matched {pattern.pattern!r}. stderr:\n{self.stderr()}")

    def stderr(self) -> str:
        """What the process has written to standard error so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def stop(self) -> int:
        """Ask the whole process group to end, as a service manager would; the exit status."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            status = self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError("The process ignored SIGTERM for 20 s") from None
        finally:
            self._reader.join(timeout=10)
        return status

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                self._lines.put(line)
        self._lines.put(None)


@contextmanager
def background(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Background]:
    """Run ``command`` while the block runs, in a process group of its own."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        child = Background(process, Path(log.name))
        try:
            yield child
        finally:
            child.stop()


def wait_until_ready(url: str, timeout_s: float = 30) -> None:
    """Return once ``GET /readiness`` answers 200."""
    deadline = time.monotonic() + timeout_s
    reason: Exception | None = None
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readiness", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError) as error:
            reason = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.1)
    raise AssertionError(f"{url} was not ready after {timeout_s} s: {reason}")


def run_client(
    python: Path, script: Path, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program that uses the client libraries; it must succeed."""
    done = subprocess.run(
        [str(python), str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{script.name} failed:\n{done.stdout[-500:]}\n{done.stderr}"
    return done


def free_port(preferred: int = 0) -> int:
    """``preferred`` when nothing listens there, else a port that is free now."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("There is no free loopback port")


def copy_checkout(target: Path) -> Path:
    """A copy of the sources in ``target``, without what was made from them; times are kept."""
    made = (".git", ".venv*", ".*_cache", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*made), dirs_exist_ok=True)
    return target
