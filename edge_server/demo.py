"""See it work: a server of our own on a free port, one picture sent to it over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_server.client import infer_over_http
from edge_server.errors import EdgeServerError
from edge_server.report import prediction_table, write_visualization

MODEL_ID = "demo-parts/1"
_EXAMPLES = Path(__file__).parent / "bundled" / MODEL_ID / "examples"
_STOP_S = 10


def run_demo(out: Path, data_dir: Path | None) -> None:
    """Start a server, ask it about an example picture, show the answer, stop the server.

    Args:
        out: where the annotated picture is written.
        data_dir: see ``settings.resolve_data_dir``.

    Raises:
        EdgeServerError: the server does not start, or does not answer.
    """
    picture = _EXAMPLES / "inspection-1.jpg"
    with running_server(data_dir) as url:
        print(f"Started Edge Server on {url}")
        print(f"Asking {MODEL_ID} about {os.path.relpath(picture)}\n")
        answer = infer_over_http(url, MODEL_ID, picture.read_bytes(), draw=True)
        print(prediction_table(answer))
        print(f"\nAnswered in {answer['time'] * 1000:.0f} ms, the first request loads the model.")
        write_visualization(answer, out)
    print(f"The annotated picture is {out.resolve()}")
    print(
        "\nNext:\n"
        "  edge-server start                         keep a server running on port 9001\n"
        f"  edge-server infer YOUR.jpg --model {MODEL_ID} --out annotated.jpg\n"
        "  edge-server models add mine/1 YOUR.onnx   serve your own model"
    )


@contextmanager
def running_server(data_dir: Path | None) -> Iterator[str]:
    """A server in a child process on a free loopback port; yields its URL, then stops it.

    Raises:
        EdgeServerError: the server ended before it listened.
    """
    command = [sys.executable, "-m", "edge_server", "start"]
    command += ["--host", "127.0.0.1", "--port", "0"]  # whatever the environment says
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            line = process.stdout.readline() if process.stdout else ""
            address = re.search(r"http://\S+", line)
            if address is None:
                raise EdgeServerError("The server did not start; its message is above.")
            yield address.group()
        finally:
            process.terminate()
            process.wait(_STOP_S)
