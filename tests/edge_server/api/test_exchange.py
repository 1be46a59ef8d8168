"""What is told about every answer, and the description of the API."""

from __future__ import annotations

import re
import uuid

import pytest

from tests.edge_server.api.conftest import as_object, picture, post, send

BODY = {"model_id": "boxes/1", "image": as_object(picture())}


@pytest.mark.parametrize("path", ["/info", "/nothing", "/model/registry", "/a/b/c", "/a/1"])
def test_every_answer_has_an_id_and_a_time(known, path):
    headers = send(known + path).headers
    assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Request-ID"])
    assert 0 <= float(headers["X-Processing-Time"]) < 60
    assert headers["X-Model-Cold-Start"] == "false"
    assert headers["X-Model-Cold-Start-Count"] == "0"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (str(uuid.UUID(int=7)), True),
        (uuid.UUID(int=7).hex, True),
        ("my-request", False),
        ("x" * 10_000, False),
        ("", False),
    ],
    ids=["a UUID", "its digits", "a word", "a long one", "nothing"],
)
def test_the_id_of_a_request_comes_back_when_it_is_a_uuid(known, sent, kept):
    answer = send(f"{known}/info", headers={"X-Request-ID": sent})
    assert (answer.headers["X-Request-ID"] == sent) == kept


def test_a_request_that_loads_its_model_says_so(known):
    send(f"{known}/model/clear", b"")
    cold = post(f"{known}/infer/object_detection", BODY).headers
    assert (cold["X-Model-Id"], cold["X-Model-Cold-Start"]) == ("boxes/1", "true")
    assert cold["X-Model-Cold-Start-Count"] == "1"
    assert 0 < float(cold["X-Model-Load-Time"]) < 60
    assert re.fullmatch(r'\[{"m":"boxes/1","t":[0-9.]+}\]', cold["X-Model-Load-Details"])
    assert cold["X-Inference-Engine"] == "onnxruntime-cpu"
    warm = post(f"{known}/infer/object_detection", BODY).headers
    assert (warm["X-Model-Id"], warm["X-Model-Cold-Start"]) == ("boxes/1", "false")
    assert "X-Model-Load-Time" not in warm


def test_an_error_names_the_model_it_was_about(known):
    assert send(f"{known}/no/model", b"", "text/plain").headers["X-Model-Id"] == "no/model"
    answer = post(f"{known}/infer/object_detection", {**BODY, "model_id": "no/m\r\nX-Evil: 1"})
    assert answer.status == 400
    assert answer.headers["X-Model-Id"] == "no/m??X-Evil: 1"
    assert answer.headers["X-Evil"] is None


def test_start_and_clear_cache_load_and_unload(known):
    send(f"{known}/model/clear", b"")
    started = send(f"{known}/start/boxes/1?api_key=x&countinference=False")
    assert (started.status, started.json["status"]) == (200, 200)
    assert started.headers["X-Model-Cold-Start"] == "true"
    assert [model["model_id"] for model in send(f"{known}/model/registry").json["models"]] == [
        "boxes/1"
    ]
    assert send(f"{known}/start/no/1").status == 404
    assert send(f"{known}/clear_cache").json == "Cache Cleared"
    assert send(f"{known}/model/registry").json["models"] == []


def test_models_are_listed_with_their_state(known):
    send(f"{known}/model/clear", b"")
    assert post(f"{known}/infer/object_detection", {**BODY, "model_id": "broken/1"}).status == 500
    post(f"{known}/infer/object_detection", BODY)
    listed = {model["model_id"]: model for model in send(f"{known}/models").json["models"]}
    assert listed["word"]["state"] == "installed"
    assert listed["broken/1"]["state"] == "failed"
    assert "cannot be loaded" in listed["broken/1"]["error"]
    loaded = listed["boxes/1"]
    assert (loaded["state"], loaded["engine"]) == ("loaded", "onnxruntime-cpu")
    assert loaded["precision"] == "fp32"
    assert loaded["memory_bytes"] > 0
    assert (loaded["task"], loaded["classes"], loaded["bundled"]) == ("object-detection", 2, False)
    assert listed["demo-parts/1"]["bundled"] is True
