"""Who may ask what: the key, the same-origin rule, the names of the server, and CORS."""

from __future__ import annotations

import json
import threading

import falcon.testing
import pytest

from edge_server.api.access import OPEN_ROUTES, STORE_ROUTES, Access
from edge_server.api.app import create_app
from edge_server.errors import ModelNotFoundError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy
from edge_server.models.store import ModelStore
from edge_server.serving.pool import ModelPool
from tests.edge_server.api.conftest import post, send
from tests.support import running_server

KEY = "correct-horse"
ELSEWHERE = "http://evil.example"
JSON = "application/json"


def not_there(model_id):
    raise ModelNotFoundError(model_id)


@pytest.fixture
def client(tmp_path):
    """A maker of clients of an application that guards itself as told."""

    def make(**access):
        fetcher = UrlFetcher(UrlPolicy(url_input="off"), max_bytes=1000, timeout_s=1)
        return falcon.testing.TestClient(
            create_app(
                store=ModelStore(tmp_path / "models"),
                pool=ModelPool(not_there),
                reader=ImageReader(max_pixels=10**6, fetcher=fetcher),
                ready=threading.Event(),
                access=Access(**access),
                max_images=8,
            )
        )

    return make


def delete(client, *, body=None, headers=None, **request):
    headers = {"Host": "127.0.0.1:9001", "Content-Type": JSON, **(headers or {})}
    body = json.dumps({"model_id": "no-such/1"} if body is None else body)
    return client.simulate_post("/models/delete", body=body, headers=headers, **request)


# What came through to the store is answered with 404: there is no such model.
THROUGH = 404


@pytest.mark.parametrize(
    ("remote", "headers", "status"),
    [
        pytest.param("127.0.0.1", {}, THROUGH, id="a program on this machine"),
        pytest.param("::1", {}, THROUGH, id="by IPv6"),
        pytest.param("::ffff:127.0.0.1", {}, THROUGH, id="by mapped IPv6"),
        pytest.param("localhost", {}, THROUGH, id="by the Unix socket"),
        pytest.param("192.168.1.7", {}, 403, id="another machine"),
        pytest.param("127.0.0.1", {"X-Forwarded-For": "192.168.1.7"}, 403, id="through a proxy"),
        pytest.param("127.0.0.1", {"Forwarded": "for=1.2.3.4"}, 403, id="through another proxy"),
        pytest.param("127.0.0.1", {"Origin": "http://127.0.0.1:9001"}, THROUGH, id="own page"),
        pytest.param("127.0.0.1", {"Origin": ELSEWHERE}, 403, id="page of elsewhere"),
        pytest.param("127.0.0.1", {"Origin": "null"}, 403, id="page of nowhere"),
        pytest.param("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, 403, id="says the browser"),
        pytest.param("127.0.0.1", {"Sec-Fetch-Site": "same-site"}, 403, id="another port"),
        pytest.param("127.0.0.1", {"Host": "evil.example"}, 403, id="rebound name"),
        pytest.param("127.0.0.1", {"Content-Type": "text/plain"}, 415, id="simple request"),
        pytest.param("127.0.0.1", {"Content-Type": "application/json; charset=utf-8"}, THROUGH,
                     id="with a charset"),
    ],
)  # fmt: skip
def test_without_a_key_the_store_is_changed_from_this_machine_only(client, remote, headers, status):
    answer = delete(client(), headers=headers, remote_addr=remote)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param({}, 401, id="no key, even from this machine"),
        pytest.param({"headers": {"Authorization": f"Bearer {KEY}"}}, THROUGH, id="header"),
        pytest.param({"headers": {"Authorization": f"bearer {KEY}"}}, THROUGH, id="lower case"),
        pytest.param({"headers": {"Authorization": f"Basic {KEY}"}}, 401, id="another scheme"),
        pytest.param({"headers": {"Authorization": "Bearer wrong"}}, 401, id="wrong key"),
        pytest.param({"headers": {"Authorization": "Bearer "}}, 401, id="empty key"),
        pytest.param({"params": {"api_key": KEY}}, THROUGH, id="query"),
        pytest.param({"params": {"api_key": KEY + "x"}}, 401, id="wrong in the query"),
        pytest.param({"body": {"model_id": "a/1", "api_key": KEY}}, THROUGH, id="body"),
        pytest.param({"body": {"model_id": "a/1", "api_key": None}}, 401, id="null in the body"),
        pytest.param(
            {"headers": {"Authorization": f"Bearer {KEY}", "Origin": ELSEWHERE}},
            THROUGH,
            id="a page of elsewhere that knows it",
        ),
    ],
)
@pytest.mark.parametrize("remote", ["127.0.0.1", "192.168.1.7"])
def test_with_a_key_the_store_is_changed_by_those_who_show_it(client, request_, status, remote):
    answer = delete(client(key=KEY), remote_addr=remote, **request_)
    assert answer.status_code == status, answer.text
    assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/model/registry", "/start/a/1", "/models", "/a/1", "/models/1"])
def test_the_operator_may_ask_for_the_key_on_every_route(client, path):
    guarded, free = client(key=KEY, key_for="all"), client(key=KEY)
    refused = guarded.simulate_get(path)
    assert refused.status_code == 401
    assert refused.json["status"] == 401
    assert "Bearer" in refused.json["message"]
    assert guarded.simulate_get(path, params={"api_key": KEY}).status_code != 401
    assert free.simulate_get(path).status_code != 401


def test_the_key_may_be_in_a_body_that_is_read_later(client):
    body = {"model_id": "never/1", "api_key": KEY}
    guarded = client(key=KEY, key_for="all")
    assert guarded.simulate_post("/model/remove", json=body).status_code == 200
    assert guarded.simulate_post("/model/remove", json={**body, "api_key": "x"}).status_code == 401


@pytest.mark.parametrize("path", sorted(OPEN_ROUTES - {"/static/{name}"}))
def test_probes_and_pages_need_no_key(client, path):
    assert client(key=KEY, key_for="all").simulate_get(path).status_code in (200, 503)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:9001", True),
        ("127.0.0.1", True),
        ("[::1]:9001", True),
        ("box.localhost", True),
        ("localhost.:80", True),
        ("LOCALHOST", True),
        ("inspection-3", True),
        ("evil.example:9001", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_a_server_on_loopback_answers_to_its_own_names_only(client, host, allowed):
    guarded = client(loopback=True, allowed_hosts=("Inspection-3",))
    answer = guarded.simulate_get("/info", headers={"Host": host})
    assert answer.status_code == (200 if allowed else 403)
    assert allowed or "allowed_hosts" in answer.json["message"]
    assert client().simulate_get("/info", headers={"Host": host}).status_code == 200


def test_a_unix_socket_is_asked_under_any_name(client):
    guarded = client(loopback=True)
    answer = guarded.simulate_get("/info", headers={"Host": "box"}, remote_addr="localhost")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("origins", "expected", "vary"),
    [
        (("*",), "*", None),
        ((ELSEWHERE,), ELSEWHERE, "Origin"),
        (("http://good.example",), None, "Origin"),
        ((), None, "Origin"),
    ],
)
@pytest.mark.parametrize("path", ["/info", "/nothing", "/a/1"])
def test_pages_read_answers_as_far_as_the_operator_allows(client, origins, expected, vary, path):
    answer = client(allow_origins=origins).simulate_get(path, headers={"Origin": ELSEWHERE})
    assert answer.headers.get("access-control-allow-origin") == expected
    assert answer.headers.get("vary") == vary
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers.get("access-control-expose-headers", "")
    assert ("X-Processing-Time" in exposed) == (expected is not None)


@pytest.mark.parametrize("path", ["/infer/object_detection", "/models/delete", "/nothing"])
def test_a_preflight_is_answered(client, path):
    asked = {
        "Origin": ELSEWHERE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, authorization",
    }
    answer = client(key=KEY, key_for="all").simulate_options(path, headers=asked)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "content-type, authorization"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in answer.headers


def test_every_route_that_changes_the_store_is_guarded(client):
    paths = client().simulate_get("/openapi.json").json["paths"]
    changing = {path for path, methods in paths.items()
                if path.startswith("/models/") and set(methods) != {"get"}}  # fmt: skip
    assert changing == STORE_ROUTES


def test_a_refused_delete_leaves_a_model_in_memory(tmp_path):
    with running_server(tmp_path) as url:
        post(f"{url}/model/add", {"model_id": "demo-parts/1"})
        assert post(f"{url}/models/delete", {"model_id": "demo-parts/1"}).status == 404
        assert len(send(f"{url}/model/registry").json["models"]) == 1


def test_other_methods_of_a_guarded_route_are_not_answered(client):
    answer = client(key=KEY).simulate_put("/models/delete")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


def test_the_key_of_a_real_server_comes_from_its_environment(tmp_path):
    environment = {"EDGE_SERVER_KEY": KEY}
    with running_server(tmp_path, environment=environment) as url:
        assert post(f"{url}/models/delete", {"model_id": "a/1"}).status == 401
        assert post(f"{url}/models/delete", {"model_id": "a/1", "api_key": KEY}).status == 404
        assert send(f"{url}/model/registry").status == 200
