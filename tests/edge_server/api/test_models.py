"""/model/*: which models are in memory, and changing that."""

from __future__ import annotations

import pytest

from tests.edge_server.api.conftest import as_object, picture, post, send


@pytest.fixture
def fresh(known):
    """The server with nothing loaded."""
    assert send(f"{known}/model/clear", b"", "application/octet-stream").json["models"] == []
    return known


def ids(answer):
    assert answer.status == 200, answer.body
    return [model["model_id"] for model in answer.json["models"]]


def test_models_come_and_go(fresh):
    assert ids(post(f"{fresh}/model/add", {"model_id": "boxes/1"})) == ["boxes/1"]
    assert ids(post(f"{fresh}/model/add", {"model_id": "word", "api_key": None})) == [
        "boxes/1",
        "word",
    ]
    assert ids(post(f"{fresh}/model/add", {"model_id": "boxes/1"})) == ["boxes/1", "word"]
    assert ids(send(f"{fresh}/model/registry?api_key=None")) == ["boxes/1", "word"]
    assert ids(post(f"{fresh}/model/remove", {"model_id": "boxes/1"})) == ["word"]
    assert ids(post(f"{fresh}/model/remove", {"model_id": "never/1"})) == ["word"]
    assert ids(send(f"{fresh}/model/clear", b"")) == []


def test_the_registry_describes_a_model_with_null_where_nothing_is_known(fresh):
    answer = post(f"{fresh}/model/add", {"model_id": "boxes-of-two/1"})
    (model,) = answer.json["models"]
    assert model == {
        "model_id": "boxes-of-two/1",
        "task_type": "object-detection",
        "batch_size": 2,
        "input_height": 64,
        "input_width": 64,
        "vram_bytes": None,
        "request_aliases": [],
        "request_paths": ["/model/add"],
    }
    assert answer.json["gpu_memory_total"] is None
    _, dynamic = post(f"{fresh}/model/add", {"model_id": "boxes/1"}).json["models"]
    assert dynamic["batch_size"] is None


def test_an_inference_loads_its_model(fresh):
    body = {"model_id": "boxes/1", "image": as_object(picture())}
    assert post(f"{fresh}/infer/object_detection", body).status == 200
    assert ids(send(f"{fresh}/model/registry")) == ["boxes/1"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model_id": "nothing/1"}, 404),
        ({"model_id": "a/b/c"}, 400),
        ({"model_id": "broken/1"}, 500),
        ({"model_id": None}, 422),
        ({}, 422),
        ([], 422),
    ],
)
def test_a_model_that_cannot_be_added_says_why(fresh, body, status):
    answer = post(f"{fresh}/model/add", body)
    assert answer.status == status
    assert answer.json.get("message") or answer.json["detail"][0]["msg"]
    assert ids(send(f"{fresh}/model/registry")) == []
