"""Who the server is, whether it lives and is ready, and how it fails."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

import falcon.testing
import pytest

from edge_server import __version__
from edge_server.api.access import Access
from edge_server.api.app import create_app
from edge_server.errors import BusyError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy
from edge_server.serving.pool import ModelPool
from tests.edge_server.api.conftest import as_object, picture, send
from tests.support import running_server, wait_until_ready


def client(load=None, ready=True):
    event = threading.Event()
    if ready:
        event.set()
    fetcher = UrlFetcher(UrlPolicy(url_input="off"), max_bytes=1000, timeout_s=1)
    reader = ImageReader(max_pixels=10**6, fetcher=fetcher)
    pool = ModelPool(load or pytest.fail)
    return falcon.testing.TestClient(
        create_app(store=None, pool=pool, reader=reader, ready=event, access=Access(), max_images=1)
    )


def failing(error):
    def load(model_id):
        raise error

    return load


def test_info_has_the_three_fields_that_clients_read(known):
    info = send(f"{known}/info").json
    assert info["name"] == "Edge Server"
    assert info["version"] == __version__
    assert isinstance(info["uuid"], str)


def test_the_root_answers_people_and_health_checks(known):
    assert send(known).json["links"]["readiness"] == "/readiness"
    head = send(known, method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_health_and_readiness(known):
    wait_until_ready(known)
    assert send(f"{known}/healthz").json == {"status": "healthy"}
    assert send(f"{known}/readiness").json == {"status": "ready"}


def test_a_double_slash_from_a_client_with_a_trailing_slash_works(known):
    assert send(f"{known}//info").status == 200


def test_readiness_is_refused_while_models_load():
    answer = client(ready=False).simulate_get("/readiness")
    assert (answer.status_code, answer.json) == (503, {"status": "not ready"})


def test_a_model_that_cannot_be_preloaded_does_not_stop_the_rest(tmp_path):
    with running_server(tmp_path, config='preload = ["missing/1", "demo-parts/1"]\n') as url:
        wait_until_ready(url)
        models = send(f"{url}/model/registry").json["models"]
        assert [model["model_id"] for model in models] == ["demo-parts/1"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/a/b/c", "POST", 404),
        ("/info", "POST", 405),
        ("/a/b", "PUT", 405),
    ],
)
def test_unknown_paths_and_methods_are_answered_in_json(known, path, method, status):
    answer = send(known + path, b"" if method != "GET" else None, "text/plain", method)
    assert answer.status == status
    assert path in answer.json["detail"]
    assert status == 404 or answer.headers["Allow"]


def test_a_busy_server_says_when_to_come_back():
    body = {"model_id": "a/1", "image": as_object(picture())}
    answer = client(failing(BusyError("still loading"))).simulate_post(
        "/infer/object_detection", json=body
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json == {"message": "still loading"}


def test_an_unexpected_error_tells_nothing_about_the_inside(caplog):
    body = {"model_id": "a/1", "image": as_object(picture())}
    answer = client(failing(RuntimeError("secret"))).simulate_post(
        "/infer/object_detection", json=body
    )
    assert answer.status_code == 500
    assert answer.json == {"message": "Internal error."}
    assert "secret" in caplog.text


def test_a_body_over_the_limit_is_refused_before_it_is_read(known):
    target = urlsplit(known)
    with socket.create_connection((target.hostname, target.port), timeout=20) as connection:
        head = f"POST /a/1 HTTP/1.1\r\nHost: x\r\nContent-Length: {2**40}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(1000)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"POST /a/1 HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_do_not_hurt(known, raw):
    target = urlsplit(known)
    with socket.create_connection((target.hostname, target.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
        assert b"Traceback" not in answer
    assert send(f"{known}/healthz").status == 200
