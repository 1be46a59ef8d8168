"""The edge-server command as its users run it."""

from __future__ import annotations

import socket
import subprocess
import sys

import cv2
import pytest

from edge_server import __version__
from edge_server.cli import main
from tests.networks import cells, head_rows, save_detector
from tests.support import DEMO_MODEL, EXAMPLES

PICTURE = str(EXAMPLES / "inspection-1.jpg")
ROWS = head_rows([[10, 10, 4, 4]], [[0.9, 0.1]], cells(64, 64))


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run the command with a data directory of its own: status, output, errors."""
    monkeypatch.setenv("EDGE_SERVER_DATA", str(tmp_path / "data"))

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"Edge Server {__version__}\n"


def test_a_model_is_added_listed_asked_and_deleted(run, tmp_path):
    weights = save_detector(tmp_path / "best.onnx", ROWS)
    status, out, _ = run("models", "add", "bolts/1", weights)
    assert (status, out) == (0, "Added bolts/1  object-detection  yolov8  2 classes  64x64.\n")
    _, out, _ = run("models", "list")
    first, *bundled = [line.split()[0] for line in out.splitlines()]
    assert first == "bolts/1"
    assert DEMO_MODEL in bundled
    status, out, _ = run("infer", PICTURE, "--model", "bolts/1")
    assert status == 0
    assert "90%" in out
    assert run("models", "delete", "bolts/1")[0] == 0
    assert "bolts/1" not in run("models", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "add", "a/1", "nothing.onnx"], "nothing.onnx does not exist"),
        (["models", "add", "a/b/c", PICTURE], "is not valid"),
        (["models", "add", "a/1", PICTURE], "expected an .onnx file"),
        (["models", "add", "a/1", "x.onnx", "--task", "dancing"], "does not exist"),
        (["models", "delete", "a/1"], "not installed"),
        (["models", "delete", DEMO_MODEL], "part of Edge Server"),
        (["infer", PICTURE, "--model", "a/1"], "not installed"),
        (["infer", "nothing.jpg", "--model", DEMO_MODEL], "nothing.jpg: No such file"),
        (["infer", __file__, "--model", DEMO_MODEL], "JPEG"),
        (["infer", PICTURE, "--model", "a/1", "--url", "ftp://x"], "must start with http"),
        (["infer", PICTURE, "--model", "a/1", "--url", "http://127.0.0.1:1"], "No server answers"),
        (["start", "--config", "nothing.toml"], "nothing.toml cannot be read"),
        (["start", "--port", "70000"], "a number from 0 to 65535"),
        (["start", "--host", "nowhere.invalid", "--port", "0"], "Cannot listen on nowhere.invalid"),
    ],
)
def test_an_error_is_one_sentence_and_status_1(run, arguments, message):
    status, out, errors = run(*arguments)
    assert status == 1
    assert out == ""
    assert errors.startswith("edge-server: ")
    assert message in errors
    assert "Traceback" not in errors


def test_a_port_in_use_is_answered_with_a_sentence_that_names_it(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, _, errors = run("start", "--port", port)
    assert status == 1
    assert errors == (
        f"edge-server: Port {port} on 127.0.0.1 is in use by another program. "
        "Stop that program, or choose another port with --port.\n"
    )


def test_a_data_directory_that_cannot_be_written_is_named(run, tmp_path):
    weights = save_detector(tmp_path / "best.onnx", ROWS)
    (tmp_path / "data").write_text("a file")
    status, _, errors = run("models", "add", "bolts/1", weights)
    assert status == 1
    assert str(tmp_path / "data") in errors


def test_infer_gives_the_same_through_a_server_and_in_process(run, server, tmp_path):
    drawn = [tmp_path / "here.jpg", tmp_path / "there.jpg"]
    here = run("infer", PICTURE, "--model", DEMO_MODEL, "--out", drawn[0])[1]
    there = run("infer", PICTURE, "--model", DEMO_MODEL, "--url", server, "--out", drawn[1])[1]
    assert here.splitlines()[:-1] == there.splitlines()[:-1]
    assert len(here.splitlines()) > 5
    assert drawn[0].read_bytes() == drawn[1].read_bytes()
    assert cv2.imread(str(drawn[0])).shape == (960, 1280, 3)


def test_the_server_explains_a_refusal_to_infer(run, server):
    status, _, errors = run("infer", PICTURE, "--model", "a/1", "--url", server)
    assert status == 1
    assert "answered 404: Model a/1 is not installed" in errors


def test_the_demo_shows_detections_and_what_to_do_next(tmp_path):
    out = tmp_path / "annotated.jpg"
    command = [sys.executable, "-m", "edge_server", "demo", "--out", str(out)]
    command += ["--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "washer" in done.stdout
    assert str(out) in done.stdout
    assert "models add" in done.stdout
    original = cv2.imread(PICTURE)
    assert cv2.imread(str(out)).shape == original.shape
    assert (cv2.absdiff(cv2.imread(str(out)), original) > 60).sum() > 5000
