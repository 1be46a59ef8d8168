"""The ``inference`` command that users of the API have, unchanged, against a real server."""

from __future__ import annotations

import ast
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from tests.demos import BOXES, CLASS, LABELS, MASKS, PIXELS, check
from tests.support import EXAMPLES, ROOT, free_port

PICTURE = BOXES.picture
INFER = ["infer", "--model_id", BOXES.model, "--input"]
SPEED = ["benchmark", "api-speed", "--dataset_reference", str(EXAMPLES), "--yes"]
SPEED += ["--warm_up_requests", "2", "--benchmark_requests", "5", "--max_error_rate", "0"]
JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Run:
    """A command that has ended: its exit status, what it printed, whom it spoke to, its files."""

    status: int
    output: str
    hosts: set[str]
    folder: Path

    @property
    def printed_answer(self) -> dict:
        return ast.literal_eval(self.output.splitlines()[-1])

    def saved(self, name: str) -> dict:
        return json.loads((self.folder / name).read_text())


def inference(python: Path, folder: Path, *arguments: str, **environment: str) -> Run:
    """Run the command in ``folder``.

    There is neither Docker nor a proxy, and tests/clients/watch notes whom it connects to.
    """
    folder.mkdir()
    hosts = folder / "hosts.txt"
    hosts.touch()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests" / "clients" / "watch"),
        "CONNECTIONS": str(hosts),
        "NO_PROXY": "*",
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "PATH": str(python.parent),
        **environment,
    }
    done = subprocess.run(
        [python.parent / "inference", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return Run(done.returncode, done.stdout, set(hosts.read_text().splitlines()), folder)


def commands(server: str, folder: Path) -> dict[str, list[str]]:
    """All that are tried, by name; those of ``folder`` are a video and a configuration."""
    picture, host = str(PICTURE), ["--host", server]
    closed = ["--host", f"http://127.0.0.1:{free_port()}"]
    other = ["infer", *host, "--input", str(LABELS.picture), "--model_id"]
    return {
        # These first, because they sleep most of their time.
        "speed": [*SPEED, *host, "-m", BOXES.model, "-c", "2", "-o", "speed.json"],
        "legacy speed": [*SPEED, *host, "-m", BOXES.model, "-c", "2", "-o", "speed.json", "-L"],
        "picture": [*INFER, picture, *host, "-o", "out"],
        "folder": [*INFER, str(EXAMPLES), *host, "-o", "out"],
        "folder for nothing": [*INFER, str(EXAMPLES), *host],
        "video": [*INFER, str(folder / "frames.avi"), *host, "-o", "."],
        "configured": [*INFER, picture, *host, "--model_config", str(folder / "model.yml")],
        "masks": [*other, MASKS.model, "-c", "masks", "-o", "out", "-i", str(MASKS.picture)],
        "one class": [*other, CLASS.model, "-i", str(CLASS.picture), "-o", "out"],
        # The command fails when it tries to draw these, whatever server it asks.
        "many classes": [*other, LABELS.model, "-o", "out", "--no-visualise"],
        "class map": [*other, PIXELS.model],
        "unknown model": [*other, "no-such-model/7"],
        "no picture": [*INFER, "no-such-file.jpg", *host],
        "no server": [*INFER, picture, *closed],
        "no input": INFER[:-1],
    }


@pytest.fixture(scope="module")
def runs(clients_python: Path, server: str, tmp_path_factory) -> Iterator[dict]:
    """The ``Run`` of every command of ``commands``, behind a call that waits for its end.

    A few run at a time: each takes seconds to do little.
    """
    folder = tmp_path_factory.mktemp("inference")
    (folder / "model.yml").write_text("confidence_threshold: 0.05\nmax_detections: 2\n")
    video = cv2.VideoWriter(
        str(folder / "frames.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (1280, 960)
    )
    for path in sorted(EXAMPLES.glob("*.jpg")):
        video.write(cv2.imread(str(path)))
    video.release()
    key = {"ROBOFLOW_API_KEY": "any text"}  # the legacy route wants one
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield {
            name: pool.submit(inference, clients_python, folder / name, *arguments, **key).result
            for name, arguments in commands(server, folder).items()
        }


# Inference


def test_a_picture(runs):
    run = runs["picture"]()
    assert run.status == 0, run.output
    check(run.printed_answer, BOXES)
    check(run.saved("out/inspection-1_prediction.json"), BOXES)
    drawn = cv2.imread(str(run.folder / "out" / "inspection-1_prediction.jpg"))
    difference = cv2.absdiff(drawn, cv2.imread(str(PICTURE))).max(axis=2)
    assert (difference > 60).sum() > 500


def test_a_folder_of_pictures(runs):
    run = runs["folder"]()
    assert run.status == 0, run.output
    for path in EXAMPLES.glob("*.jpg"):
        check(run.saved(f"out/{path.stem}_prediction.json"), BOXES)
        assert (run.folder / "out" / f"{path.stem}_prediction.jpg").read_bytes()[:3] == JPEG


def test_a_video(runs):
    run = runs["video"]()
    assert run.status == 0, run.output
    assert len(list(run.folder.glob("*.json"))) == 3
    video = cv2.VideoCapture(str(run.folder / "visualisation.avi"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_the_configuration_is_sent(runs):
    run = runs["configured"]()
    assert run.status == 0, run.output
    assert len(run.printed_answer["predictions"]) == 2


def test_the_class_of_a_picture_is_saved_but_not_drawn(runs):
    run = runs["one class"]()
    assert run.status == 0, run.output
    check(run.saved("out/surface_prediction.json"), CLASS)
    assert "Could not visualise" in run.output


def test_all_classes_of_a_picture(runs):
    run = runs["many classes"]()
    assert run.status == 0, run.output
    check(run.printed_answer, LABELS)
    assert [path.name for path in (run.folder / "out").iterdir()] == ["tray_prediction.json"]


def test_masks(runs):
    run = runs["masks"]()
    assert run.status == 0, run.output
    check(run.saved("out/parts_prediction.json"), MASKS)
    assert (run.folder / "out" / "parts_prediction.jpg").read_bytes()[:3] == JPEG


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        pytest.param("unknown model", 1, ["404", "no-such-model/7", BOXES.model], id="model"),
        pytest.param("no picture", 1, ["400", "base64"], id="picture"),
        pytest.param("no server", 1, ["Could not reach an inference server"], id="server"),
        pytest.param("class map", 1, ["semantic-segmentation is not supported"], id="task"),
        pytest.param("no input", 2, ["--input"], id="command line"),
        pytest.param("folder for nothing", 0, ["output_location"], id="nothing to do"),
    ],
)
def test_failures_end_with_a_status_and_say_why(runs, name: str, status: int, words: list[str]):
    run = runs[name]()
    assert run.status == status
    assert all(word in run.output for word in words), run.output


# Benchmark


speeds = pytest.mark.parametrize("name", ["speed", "legacy speed"])


@speeds
def test_speed(runs, name: str):
    run = runs[name]()
    assert run.status == 0, run.output
    report = run.saved("speed.json")
    assert report["benchmark_parameters"]["model_id"] == BOXES.model
    results = report["benchmark_results"]
    assert results["inferences_made"] == results["images_processed"] == 10
    assert results["error_rate"] == 0
    assert results["requests_per_second"] > 0


@speeds
def test_the_time_in_the_server_is_reported(runs, name: str):
    run = runs[name]()
    results = run.saved("speed.json")["benchmark_results"]
    seconds = results["avg_remote_execution_time"]
    assert 0 < seconds * 1000 < results["average_inference_latency_ms"]
    assert f"Average remote execution time: {seconds:.3f}s" in run.output


@pytest.mark.parametrize("name", commands("", Path()))
def test_nobody_else_is_asked(runs, name: str):
    asked_nobody = name in ("no input", "folder for nothing")
    assert runs[name]().hosts == (set() if asked_nobody else {"127.0.0.1"})


# Status of containers


@pytest.fixture
def docker() -> Iterator[str]:
    """The address of something that answers as Docker does when it runs no container."""

    class Docker(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = {"ApiVersion": "1.45", "MinAPIVersion": "1.24", "Components": []}
            body = json.dumps([] if "/containers/" in self.path else version).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Docker) as daemon:
        thread = threading.Thread(target=daemon.serve_forever)
        thread.start()
        yield f"tcp://127.0.0.1:{daemon.server_port}"
        daemon.shutdown()
        thread.join()


def test_status_looks_for_containers_only(clients_python: Path, server: str, docker, tmp_path):
    """A server that was started without Docker, as ours here, is not what this command shows."""
    run = inference(clients_python, tmp_path / "run", "server", "status", DOCKER_HOST=docker)
    assert run.status == 0, run.output
    assert run.output.splitlines() == [
        "Checking status of the inference server.",
        "No inference server container running.",
    ]


def test_status_without_docker_says_so(clients_python: Path, tmp_path):
    run = inference(clients_python, tmp_path / "run", "server", "status")
    assert run.status == 1
    assert "Error connecting to Docker daemon" in run.output
    assert "Traceback" not in run.output
