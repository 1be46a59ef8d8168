"""Pictures by URL as callers of the real server see them: refused, redacted, never in the way."""

from __future__ import annotations

import re
import socket
import sys
import threading
from urllib.parse import quote

import pytest

from tests.edge_server.api.conftest import picture, post, send
from tests.edge_server.images.loopback import Site, redirect, serving
from tests.edge_server.images.loopback import send as page
from tests.support import DEMO_MODEL, ROOT, background

PASSWORD = "sesame-4711"  # noqa: S105 - what must appear nowhere
# One fetch at a time: half of the threads. What listens on 127.0.0.2 must never be reached.
CONFIG = 'server_threads = 2\nurl_timeout_s = 30\nurl_allow = ["127.0.0.1"]\n'


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("urls")
    (folder / "config.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
    command += ["--data-dir", str(folder), "--config", str(folder / "config.toml")]
    with background(command, cwd=ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def server(process):
    return process.wait_for(re.compile(r"listening on (http://\S+)$")).group(1)


@pytest.fixture
def camera():
    with serving(Site()) as site:
        site.pages["/picture"] = page(picture())
        yield site


@pytest.fixture
def forbidden():
    """A port of 127.0.0.2, and whether anything ever connected to it."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def ask_json(server, url):
    image = {"type": "url", "value": url}
    return post(f"{server}/infer/object_detection", {"model_id": DEMO_MODEL, "image": image})


def ask_legacy(server, url):
    return send(f"{server}/{DEMO_MODEL}?image={quote(url, safe='')}", method="POST", body=b"")


EACH_ROUTE = pytest.mark.parametrize("ask", [ask_json, ask_legacy])


@EACH_ROUTE
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "a@127.2",
    ],
)
def test_no_spelling_of_a_forbidden_address_is_connected_to(server, ask, host, forbidden):
    answer = ask(server, f"http://{host}:{forbidden.getsockname()[1]}/")
    assert answer.status == 400
    assert "is this machine" in answer.json["message"]


@EACH_ROUTE
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{}/",
        "http://2130706434:{}/",
        "//[::ffff:127.0.0.2]:{}/",
        "file:///etc/passwd",
    ],
)
def test_no_redirect_leads_to_a_forbidden_address(server, ask, location, camera, forbidden):
    camera.pages["/old"] = redirect(location.format(forbidden.getsockname()[1]))
    assert ask(server, camera.url("/old")).status == 400


@EACH_ROUTE
def test_a_picture_that_is_permitted_is_fetched(server, ask, camera):
    assert ask(server, camera.url()).status == 200


def test_slow_cameras_do_not_keep_others_waiting(server, camera):
    arrived, leave, slow = threading.Event(), threading.Event(), []

    def wait(handler):
        arrived.set()
        leave.wait(30)
        page(picture())(handler)

    camera.pages["/slow"] = wait
    thread = threading.Thread(target=lambda: slow.append(ask_json(server, camera.url("/slow"))))
    thread.start()
    assert arrived.wait(30)
    busy = ask_json(server, camera.url())
    assert (busy.status, busy.headers["Retry-After"]) == (503, "1")
    assert send(f"{server}/healthz").status == 200
    leave.set()
    thread.join()
    assert slow[0].status == 200


def test_a_password_is_nowhere_to_be_read(process, server, camera):
    camera.pages |= {
        "/missing": page(b"", 404),
        "/loop": redirect("/loop"),
        "/elsewhere": redirect(f"http://u:{PASSWORD}@127.0.0.2/"),
        "/basic": page(b"", 401, WWW_Authenticate='Basic realm="x"'),
        "/other": page(b"", 401, WWW_Authenticate="Bearer"),
        "/text": page(b"no picture"),
    }
    mine = [camera.url(path, credentials=f"u:{PASSWORD}@") for path in camera.pages]
    others = [
        f"http://u:{PASSWORD}@[::1/",
        f"http://u:{PASSWORD}@127.0.0.1:99999/",
        f"http://u:{PASSWORD}/@127.0.0.1/",
        f"http://u:{PASSWORD}\\@127.0.0.1/",
        f"http://u:{PASSWORD}@127.0.0.2/",
        f"http://u:{PASSWORD}@/",
        f"ftp://u:{PASSWORD}@127.0.0.1/",
        f"u:{PASSWORD}@127.0.0.1/",
    ]
    answers = [ask(server, url) for url in [*mine, *others] for ask in (ask_json, ask_legacy)]
    url = quote(others[0], safe="")
    answers += [
        send(f"{server}/nothing?image={url}"),
        send(f"{server}/no/model?image={url}"),
        send(f"{server}/a/b/c/d?image={url}"),
        send(f"{server}/info?image={url}", method="DELETE"),
        send(f"{server}/{DEMO_MODEL}?image={url}&confidence=x"),
        post(f"{server}/infer/object_detection?image={url}", {"image": others[0]}),
        post(f"{server}/infer/object_detection", {"model_id": DEMO_MODEL, "image": others[0]}),
        post(f"{server}/infer/object_detection", {"model_id": "no/model", "image": [others]}),
    ]
    assert {answer.status for answer in answers} == {200, 400, 404, 405, 422}
    for answer in answers:
        assert PASSWORD not in f"{answer.body!r} {answer.headers}"
    assert PASSWORD not in process.stderr()
