"""The clients our users have, unchanged, against a real server on a loopback port."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import DEMO_MODEL, EXAMPLES, ROOT, free_port, run_client, running_server

PICTURE = EXAMPLES / "inspection-1.jpg"
PICTURES = [EXAMPLES / f"inspection-{number}.jpg" for number in (1, 2, 3)]
SIZE = {"width": 1280, "height": 960}
CLASSES = {"washer", "hex-nut", "bolt", "gear", "scratch"}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def picture_url() -> Iterator[str]:
    """The address under which PICTURE can be downloaded from this machine."""
    handler = functools.partial(QuietHandler, directory=str(EXAMPLES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{files.server_port}/{PICTURE.name}"
        finally:
            files.shutdown()
            thread.join()


def check_answer(answer: dict, size: dict = SIZE) -> None:
    assert answer["image"] == size
    assert len(answer["predictions"]) >= 3
    for item in answer["predictions"]:
        assert item["class"] in CLASSES
        assert 0 < item["confidence"] <= 1
        assert 0 <= item["x"] - item["width"] / 2 <= item["x"] <= size["width"]
        assert 0 <= item["y"] - item["height"] / 2 <= item["y"] <= size["height"]


def check_same(answer: dict, reference: dict, scale: float = 1.0, pixels: float = 12) -> None:
    """All that is surely on ``reference`` is on ``answer``, at the same place."""
    sure = [item for item in reference["predictions"] if item["confidence"] > 0.6]
    assert sure
    for item in sure:
        near = [
            other
            for other in answer["predictions"]
            if other["class"] == item["class"]
            and abs(other["x"] - item["x"] * scale) <= pixels
            and abs(other["y"] - item["y"] * scale) <= pixels
            and abs(other["width"] - item["width"] * scale) <= 2 * pixels
            and abs(other["height"] - item["height"] * scale) <= 2 * pixels
        ]
        assert near, f"{item} is missing from {answer['predictions']}"


@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_sdk_takes_every_form_of_picture(ask, server: str, picture_url: str, mode: str):
    answers = ask("inputs.py", server, mode, PICTURE, picture_url)
    reference = answers["path"]
    check_answer(reference)
    for same_bytes in ("url", "base64"):
        # The client passes these files on as they are, so nothing but rounding may differ.
        check_same(answers[same_bytes], reference, pixels=0.01)
    for recompressed in ("array", "pil"):
        check_answer(answers[recompressed])
        check_same(answers[recompressed], reference)
    first, small, last = answers["list"]
    check_same(first, reference)
    check_same(last, reference)
    assert small["image"] == {"width": 640, "height": 480}
    check_same(small, reference, scale=0.5)


@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_sdk_configuration_changes_the_result(ask, server: str, mode: str):
    answers = ask("configuration.py", server, mode, PICTURE)
    count = {name: len(answer["predictions"]) for name, answer in answers.items()}
    assert count["low confidence"] > count["high confidence"] > count["impossible confidence"] == 0
    assert count["loose overlap"] > count["strict overlap"]
    assert count["at most two"] == 2
    if mode == "v1":  # the other route has no such parameters
        classes = {item["class"] for item in answers["gears only"]["predictions"]}
        assert classes == {"gear"}
        assert count["all classes at once"] < count["strict overlap"]
    for floor, name in ((0.4, "default"), (0.05, "low confidence"), (0.6, "high confidence")):
        assert all(item["confidence"] >= floor for item in answers[name]["predictions"])


def test_sdk_batches_keep_the_order(ask, server: str):
    answers = ask("batches.py", server, *PICTURES)
    one_by_one = answers["batches of 1"]
    for answer in one_by_one:
        check_answer(answer)
    for size in (2, 4):
        batch = answers[f"batches of {size}"]
        assert len(batch) == len(PICTURES)
        for answer, reference in zip(batch, one_by_one, strict=True):
            check_same(answer, reference, pixels=2)
    assert answers["empty list"] == []
    downsized = answers["downsized"]["image"]
    assert abs(downsized["width"] - SIZE["width"]) <= 1
    assert abs(downsized["height"] - SIZE["height"]) <= 1
    check_same(answers["downsized"], one_by_one[0])


@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_sdk_async_methods(ask, server: str, mode: str):
    answers = ask("asynchronous.py", server, mode, PICTURE)
    check_answer(answers["one"])
    assert len(answers["many"]) == 2
    for answer in answers["many"]:
        check_same(answer, answers["one"], pixels=2)


def test_sdk_manages_models(ask, tmp_path: Path):
    with running_server(tmp_path) as url:  # its own: this one unloads everything
        steps = ask("management.py", url)
    assert set(steps["info"]) >= {"name", "version", "uuid"}
    assert all(isinstance(value, str) and value for value in steps["info"].values())
    assert steps["at first"] == steps["unloaded"] == steps["cleared"] == []
    assert steps["loaded"] == [DEMO_MODEL]
    assert steps["entry"] == ["object-detection", 320, 320]
    assert steps["default"] == DEMO_MODEL


def test_sdk_reports_what_went_wrong(ask, server: str):
    outcomes = ask("failures.py", server, PICTURE)
    for call in ("v1 unknown model", "v0 unknown model", "load unknown model"):
        assert outcomes[call]["status"] == 404
        assert "no-such-model/7" in outcomes[call]["message"]
        assert DEMO_MODEL in outcomes[call]["message"], "the message lists what there is"
    for call in ("v1 wrong path", "v0 wrong path"):
        assert outcomes[call]["status"] == 400
        assert len(outcomes[call]["message"]) > 20
    assert outcomes["no server"] == {"raised": "HTTPServerConnectionError"}


def test_answers_become_supervision_detections_and_are_drawn(ask, server: str):
    report = ask("drawing.py", server, PICTURE)
    items = report["answer"]["predictions"]
    assert report["class names"] == [item["class"] for item in items]
    for (left, top, right, bottom), item in zip(report["xyxy"], items, strict=True):
        assert (left + right) / 2 == pytest.approx(item["x"], abs=0.01)
        assert (top + bottom) / 2 == pytest.approx(item["y"], abs=0.01)
        assert right - left == pytest.approx(item["width"], abs=0.01)
        assert bottom - top == pytest.approx(item["height"], abs=0.01)
    assert report["changed by boxes"] > 500
    assert report["changed by labels"] > 500
    assert report["empty"] == 0
    shape, changed = report["drawn by the server"]
    assert shape == [SIZE["height"], SIZE["width"], 3]
    assert changed > 500


def test_example_client(clients_python: Path, server: str, picture_url: str, tmp_path: Path):
    drawn = tmp_path / "annotated.jpg"
    script = ROOT / "examples" / "client.py"
    environment = {"API_URL": server, "PICTURE_URL": picture_url, "OUT": str(drawn)}
    lines = run_client(clients_python, script, **environment).stdout.splitlines()
    found = [line for line in lines if " found: " in line]
    for way, line in zip(("URL", "NumPy array", "base64"), found, strict=True):
        assert line.startswith(way)
        assert any(name in line for name in CLASSES)
    assert drawn.read_bytes()[:3] == b"\xff\xd8\xff"
    assert drawn.read_bytes() != PICTURE.read_bytes()


def test_example_client_asks_nobody_but_api_url(clients_python: Path):
    script = ROOT / "examples" / "client.py"
    port = free_port()
    done = subprocess.run(
        [str(clients_python), str(script)],
        env={**os.environ, "API_URL": f"http://127.0.0.1:{port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr or "connect" in done.stderr.lower()


@pytest.fixture
def curl():
    """Run curl; the body it received."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed (apt install curl)")

    def run(*arguments: str, body: bytes | None = None, status: int = 200) -> bytes:
        command = [program, "--silent", "--show-error", "--max-time", "60"]
        command += ["--write-out", "\n%{http_code}", *arguments]
        done = subprocess.run(command, input=body, capture_output=True, timeout=90)
        assert done.returncode == 0, done.stderr.decode()
        answer, _, code = done.stdout.rpartition(b"\n")
        assert int(code) == status, answer[:500]
        return answer

    return run


def test_curl_json(curl, server: str):
    picture = base64.b64encode(PICTURE.read_bytes()).decode()
    question = {
        "model_id": DEMO_MODEL,
        "image": {"type": "base64", "value": picture},
        "confidence": 0.5,
    }
    answer = curl(
        *("-X", "POST", f"{server}/infer/object_detection"),
        *("-H", "Content-Type: application/json", "-d", "@-"),
        body=json.dumps(question).encode(),
    )
    check_answer(json.loads(answer))


def test_curl_base64_body(curl, server: str):
    wrapped = base64.encodebytes(PICTURE.read_bytes())  # lines of 76 characters, as base64(1)
    address = f"{server}/{DEMO_MODEL}?api_key=K&confidence=40"
    stripped = json.loads(curl("-d", "@-", address, body=wrapped))
    check_answer(stripped)
    as_sent = json.loads(curl("--data-binary", "@-", address, body=wrapped))
    check_same(as_sent, stripped, pixels=2)


def test_curl_upload(curl, server: str):
    address = f"{server}/{DEMO_MODEL}?api_key=K"
    check_answer(json.loads(curl("-F", f"file=@{PICTURE}", address)))


def test_curl_picture_address(curl, server: str, picture_url: str):
    quoted = urllib.parse.quote(picture_url, safe="")
    address = f"{server}/{DEMO_MODEL}?api_key=K&image={quoted}"
    check_answer(json.loads(curl("-X", "POST", address)))
    check_answer(json.loads(curl(address)))


def test_curl_receives_a_drawn_picture(curl, server: str, tmp_path: Path):
    out = tmp_path / "out.jpg"
    address = f"{server}/{DEMO_MODEL}?api_key=K&format=image&labels=on&stroke=2"
    curl("-F", f"file=@{PICTURE}", "-o", str(out), address)
    assert out.read_bytes()[:3] == b"\xff\xd8\xff"
    both = curl("-F", f"file=@{PICTURE}", address.replace("=image&", "=image_and_json&"))
    answer = json.loads(both)
    check_answer(answer)
    assert base64.b64decode(answer["visualization"])[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["-d", "not a picture", "{model}"], 400, id="text for a picture"),
        pytest.param(["-X", "POST", "{model}"], 400, id="no picture"),
        pytest.param(["-F", "photo=@{picture}", "{model}"], 400, id="wrong part name"),
        pytest.param(["-F", "file=@{picture}", "{server}/no-such/1"], 404, id="unknown model"),
        pytest.param(["-d", "{}", "{server}/infer/object_detection"], 422, id="missing fields"),
        pytest.param(["-d", "{", "{server}/infer/object_detection"], 422, id="malformed JSON"),
        pytest.param(["{server}/no/such/path"], 404, id="unknown path"),
        pytest.param(["-X", "DELETE", "{server}/info"], 405, id="wrong method"),
    ],
)
def test_curl_is_told_what_is_wrong(curl, server: str, arguments: list[str], status: int):
    places = {"server": server, "model": f"{server}/{DEMO_MODEL}", "picture": str(PICTURE)}
    # "{" alone is a body here, not a place.
    filled = [text if text in "{}" else text.format(**places) for text in arguments]
    answer = json.loads(curl(*filled, status=status))
    assert answer.get("message") or answer.get("detail")
