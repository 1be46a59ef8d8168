"""A real server moves a model to TensorRT under load, on the doubles; callers notice speed only."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest

from tests.doubles.install import child_environment
from tests.edge_server.api.conftest import as_object, post, send
from tests.support import ROOT, background, running_server
from tests.upgrades import CPU, MODEL, install, picture, wait_for

_, _ENCODED = cv2.imencode(".png", picture())
PNG = _ENCODED.tobytes()


def ask(url):
    """Status, engine, and what was found."""
    answer = send(f"{url}/{MODEL}", PNG, "image/png")
    found = answer.json.get("predictions", answer.json)
    for each in found if isinstance(found, list) else ():
        each.pop("detection_id", None)
    return answer.status, answer.headers.get("X-Inference-Engine"), str(found)


def state(url):
    return next(m for m in send(f"{url}/models").json["models"] if m["model_id"] == MODEL)


def test_no_request_fails_and_no_answer_mixes_engines_while_one_takes_over(tmp_path):
    data = install(tmp_path / "data")
    slow = child_environment("10.3.0", {"seconds_per_step": 0.15})
    answers, states, done = [], [], threading.Event()
    with running_server(data, environment=slow) as url, ThreadPoolExecutor(8) as callers:
        began = time.monotonic()
        assert ask(url)[:2] == (200, CPU)
        assert time.monotonic() - began < 5

        def call():
            answers.append(ask(url))
            if answers[-1][1] != CPU:
                done.set()

        after = 0
        while after < 50:  # fifty requests a second, and one more second after the swap
            after += done.is_set()
            callers.submit(call)
            if len(answers) % 10 == 0:
                states.append(state(url).get("upgrade", ""))
            time.sleep(0.02)
            assert time.monotonic() - began < 60, states
        callers.shutdown()
        assert state(url)["engine"] == "tensorrt-fp16"
        assert "upgrade" not in state(url)
        assert b"edge_server_model_upgrade{" not in send(f"{url}/metrics").body
    assert {status for status, *_ in answers} == {200}
    by_engine = defaultdict(set)
    for _, engine, found in answers:
        by_engine[engine].add(found)
    assert {engine: len(found) for engine, found in by_engine.items()} == {
        CPU: 1,
        "tensorrt-fp16": 1,
    }
    assert by_engine[CPU] != by_engine["tensorrt-fp16"], "half precision shows in the last digits"
    told = r"serving on onnxruntime-cpu, building tensorrt-fp16, \d+ %"
    assert [text for text in states if re.match(told, text)], states


@pytest.fixture
def upgraded(tmp_path):
    """A data directory with an engine for the model."""
    data = install(tmp_path / "data")
    with running_server(data, environment=child_environment("10.3.0")) as url:
        ask(url)
        wait_for(lambda: state(url)["engine"] != CPU, lambda: state(url))
    return data


def test_the_cpu_answers_the_very_request_that_lost_the_gpu(upgraded):
    broken = child_environment("10.3.0", faults={"execute": ["", "", "sticky"]})
    with running_server(upgraded, environment=broken) as url:
        assert ask(url)[:2] == (200, "tensorrt-fp16")
        assert ask(url)[:2] == (200, CPU)
        assert ask(url)[:2] == (200, CPU)
        told = state(url)["upgrade"]
        assert told.startswith("serving on onnxruntime-cpu, the GPU is lost until a restart: ")
        metrics = send(f"{url}/metrics").body.decode()
        assert f'edge_server_model_upgrade{{model="{MODEL}",state="refused"}} 1.0' in metrics


def test_a_gpu_lost_in_the_middle_of_a_request_has_it_sent_again(upgraded):
    many = {"model_id": MODEL, "image": [as_object(PNG)] * 6}  # in passes of four
    broken = child_environment("10.3.0", faults={"execute": ["", "", "sticky"]})
    with running_server(upgraded, environment=broken) as url:
        first = post(f"{url}/infer/object_detection", many)
        assert (first.status, first.headers["Retry-After"]) == (503, "1")
        assert "Send the same request again." in first.json["message"]
        again = post(f"{url}/infer/object_detection", many)
        assert (again.status, again.headers["X-Inference-Engine"]) == (200, CPU)
        assert len(again.json) == 6


@pytest.mark.parametrize(
    "executions",
    [pytest.param(["", "sticky"], id="in a request"), pytest.param(["sticky"], id="at load")],
)
def test_a_supervised_server_asks_for_a_restart_but_not_for_ever(upgraded, executions):
    environment = {
        **child_environment("10.3.0", faults={"execute": executions}),
        "INVOCATION_ID": "of a service",
    }
    command = [sys.executable, "-m", "edge_server", "start", "--port", "0"]
    command += ["--data-dir", str(upgraded)]
    listening = re.compile(r"listening on (http://\S+)")
    for _ in range(3):
        with background(command, cwd=ROOT, environment=environment) as server:
            url = server.wait_for(listening).group(1)
            assert ask(url)[:2] == (200, CPU)
            wait_for(lambda server=server: server.status() is not None)
            assert server.stop() == 75
    with background(command, cwd=ROOT, environment=environment) as server:
        url = server.wait_for(listening).group(1)
        assert [ask(url)[:2] for _ in range(3)] == [(200, CPU)] * 3
        assert server.stop() == 0
