"""Plain curl, as the API's users type it, against a real server on a loopback port."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest

from tests.demos import BOXES, check, check_same
from tests.support import DEMO_MODEL

PICTURE = BOXES.picture


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
    check(json.loads(answer), BOXES)


def test_curl_base64_body(curl, server: str):
    wrapped = base64.encodebytes(PICTURE.read_bytes())  # lines of 76 characters, as base64(1)
    address = f"{server}/{DEMO_MODEL}?api_key=K&confidence=40"
    stripped = json.loads(curl("-d", "@-", address, body=wrapped))
    check(stripped, BOXES)
    as_sent = json.loads(curl("--data-binary", "@-", address, body=wrapped))
    check_same(as_sent, stripped, pixels=2)


def test_curl_upload(curl, server: str):
    address = f"{server}/{DEMO_MODEL}?api_key=K"
    check(json.loads(curl("-F", f"file=@{PICTURE}", address)), BOXES)


def test_curl_picture_address(curl, server: str, picture_url):
    quoted = urllib.parse.quote(picture_url(PICTURE), safe="")
    address = f"{server}/{DEMO_MODEL}?api_key=K&image={quoted}"
    check(json.loads(curl("-X", "POST", address)), BOXES)
    check(json.loads(curl(address)), BOXES)


def test_curl_receives_a_drawn_picture(curl, server: str, tmp_path: Path):
    out = tmp_path / "out.jpg"
    address = f"{server}/{DEMO_MODEL}?api_key=K&format=image&labels=on&stroke=2"
    curl("-F", f"file=@{PICTURE}", "-o", str(out), address)
    assert out.read_bytes()[:3] == b"\xff\xd8\xff"
    both = curl("-F", f"file=@{PICTURE}", address.replace("=image&", "=image_and_json&"))
    answer = json.loads(both)
    check(answer, BOXES)
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
