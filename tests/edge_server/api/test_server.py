"""What the server listens on: a port, and a socket in the file system beside it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from edge_server.cli import main
from tests.edge_server.api.raw import RawClient, port_of, serving
from tests.support import ROOT, background

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def start(tmp_path):
    """The command that serves on a free port and on the socket of this test."""
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
    command += ["--data-dir", str(tmp_path / "data"), "--unix-socket", str(tmp_path / "http.sock")]
    return command


def test_a_unix_socket_is_served_beside_the_port_and_removed_at_the_end(tmp_path, start):
    path = tmp_path / "http.sock"
    with background(start, cwd=ROOT) as process:
        port = int(process.wait_for(re.compile(r" listening on http://127\.0\.0\.1:(\d+)$"))[1])
        process.wait_for(re.compile(rf" listening on {re.escape(str(path))}$"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        for address in (str(path), port):
            with RawClient(address, GET) as client:
                assert client.answer().json == {"status": "healthy"}
    assert not path.exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reaches_the_unix_socket_of_a_server_that_replaced_a_dead_one(tmp_path, start):
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with background(start, cwd=ROOT) as process:
        process.wait_for(re.compile(rf" listening on {re.escape(str(path))}$"))
        done = subprocess.run(
            ["curl", "-sS", "--unix-socket", str(path), "http://localhost/healthz"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"status": "healthy"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("live.sock", "is in use by another program", id="a server listens there"),
        pytest.param("file.txt", "is not a socket", id="a file"),
        pytest.param("missing/http.sock", "No such file or directory", id="no folder"),
        pytest.param("long" * 40, "too long", id="a path too long for a socket"),
    ],
)
def test_a_path_that_cannot_be_listened_on_is_refused(tmp_path, capsys, name, message):
    (tmp_path / "file.txt").write_text("precious")
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(tmp_path / "live.sock"))
        live.listen()
        status = main(
            ["start", "--port", "0", "--data-dir", str(tmp_path / "data")]
            + ["--unix-socket", str(tmp_path / name)]
        )
    out, errors = capsys.readouterr()
    assert (status, out) == (1, "")
    assert errors.startswith("edge-server: ")
    assert str(tmp_path / name) in errors
    assert message in errors
    assert (tmp_path / "file.txt").read_text() == "precious"


def test_the_application_knows_who_came_through_the_unix_socket(tmp_path):
    def app(environ, start_response):
        body = environ["REMOTE_ADDR"].encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    path = str(tmp_path / "http.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        with serving(app, listener) as server:
            for address, known_as in ((path, b"localhost"), (port_of(server), b"127.0.0.1")):
                with RawClient(address, GET) as client:
                    assert client.answer().body == known_as


def test_the_application_sees_that_a_request_came_through_a_proxy():
    def app(environ, start_response):
        body = environ["HTTP_X_FORWARDED_FOR"].encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with serving(app) as server:
        with RawClient(
            port_of(server), GET[:-2] + b"X-Forwarded-For: 192.168.1.7\r\n\r\n"
        ) as client:
            assert client.answer().body == b"192.168.1.7"
