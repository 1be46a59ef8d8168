"""What the appliance costs on this machine: time to start, memory, time per request.

    make bench

Prints a table. Absolute times depend on the machine; where a target is known it stands beside.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the server sets it

import cv2  # noqa: E402

from edge_server.models.store import ModelStore  # noqa: E402
from edge_server.serving.model import load_model  # noqa: E402
from edge_server.vision.params import InferParams  # noqa: E402
from engines.device import usable_cpus  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "edge_server/bundled/demo-parts/1/examples/inspection-1.jpg"
MODEL_ID = "demo-parts/1"
REQUESTS = 200
STARTS = 5


def main() -> None:
    """Measure and print."""
    print(f"{'':<44}{'measured':>10}  target")
    _row("edge-server --help", f"{min(_help_seconds() for _ in range(STARTS)):.2f} s", "0.2 s")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(f'preload = ["{MODEL_ID}"]\n', encoding="utf-8")
        starts = []
        for _ in range(STARTS):
            began = time.monotonic()
            with _server(folder, config) as (_, port):
                _wait_until_ready(port)
                starts.append(time.monotonic() - began)
        _row("start to ready, demo model loaded", f"{statistics.median(starts):.2f} s", "1.5 s")
        with _server(folder, config) as (process, port):
            _wait_until_ready(port)
            round_trips, in_server = _requests(port)
            memory = f"{_rss_mib(process.pid)} MiB"
    _row(f"resident memory after {REQUESTS} requests", memory, "200 MB")
    _row("one request, 1280x960 JPEG, median", f"{statistics.median(round_trips):.1f} ms", "")
    _row("  as measured inside the server", f"{statistics.median(in_server):.1f} ms", "")
    for step, spent in _steps():
        _row(f"  in this process: {step}", f"{spent:.1f} ms", "")


def _row(what: str, measured: str, target: str) -> None:
    print(f"{what:<44}{measured:>10}  {target}")


def _help_seconds() -> float:
    began = time.monotonic()
    command = [sys.executable, "-m", "edge_server", "--help"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


@contextmanager
def _server(folder: str, config: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
    command += ["--data-dir", folder, "--config", str(config)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r":(\d+)$", line.strip())
            assert found, f"the server did not start: {line!r}"
            yield process, int(found.group(1))
        finally:
            process.terminate()


def _wait_until_ready(port: int) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/readiness")
        ready = connection.getresponse().status == 200
        connection.close()
        if ready:
            return
        time.sleep(0.01)


def _requests(port: int) -> tuple[list[float], list[float]]:
    """Milliseconds per request over one kept connection: round trip, and the server's own."""
    picture = base64.b64encode(PICTURE.read_bytes()).decode()
    body = json.dumps({"model_id": MODEL_ID, "image": {"type": "base64", "value": picture}})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    round_trips, in_server = [], []
    for _ in range(REQUESTS):
        began = time.monotonic()
        connection.request(
            "POST", "/infer/object_detection", body, {"Content-Type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read())
        round_trips.append((time.monotonic() - began) * 1000)
        in_server.append(answer["time"] * 1000)
    connection.close()
    return round_trips, in_server


def _steps() -> list[tuple[str, float]]:
    """The median milliseconds of each step of a prediction, without HTTP."""
    image = cv2.imread(str(PICTURE))
    model = load_model(ModelStore(Path(os.devnull)).find(MODEL_ID), threads=usable_cpus())
    spent = [model.predict([image], InferParams())[1] for _ in range(REQUESTS)]
    model.close()
    return [
        (step, statistics.median(getattr(timings, step) for timings in spent) * 1000)
        for step in ("preprocess", "engine", "decode")
    ]


def _rss_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found.group(1)) // 1024


if __name__ == "__main__":
    main()
