"""One build in a child: whatever becomes of the child, its parent knows why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.networks import Graph
from build_engines import run
from build_engines.cache import EngineCache
from build_engines.run import BuildProgress, BuildRequest, run_build
from engines.files import STAGING_PREFIX
from tests.build_engines.support import ORIN, VERSIONS, request
from tests.doubles.install import child_environment
from tests.support import ROOT

SCRIPT = Path(__file__).with_name("scripted_child.py")
DONE = json.dumps({"result": {"failure": None, "message": ""}})


@pytest.fixture
def doubles_in_children(monkeypatch):
    """Set the TensorRT, and what is to go wrong, of children that are started from now on."""

    def set_up(version="10.3.0", gpu=None, **faults):
        for name, value in child_environment(version, gpu, faults).items():
            monkeypatch.setenv(name, value)

    set_up()
    return set_up


def build(wanted, *script, cancel=None, seen=None):
    """Run the child of ``script``, or the real one."""
    command = {"command": (sys.executable, str(SCRIPT), *script)} if script else {}
    told = seen if seen is not None else []
    return run_build(wanted, told.append, cancel or threading.Event(), **command)


def cache_of(wanted):
    return EngineCache(wanted.cache, wanted.secret)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_built_tried_and_published(version, tmp_path, doubles_in_children):
    doubles_in_children(version)
    wanted, seen = request(tmp_path, replace(ORIN, tensorrt=version), precision="fp16"), []
    result = build(wanted, seen=seen)
    assert result.failure is None, result.message
    states = [progress.state for progress in seen]
    assert states[0] == "converting"
    assert states[-2:] == ["testing", "publishing"]
    assert {progress.engine for progress in seen} == {"tensorrt-fp16"}
    artifact = cache_of(wanted).find(wanted.model, wanted.key)
    assert artifact.outputs == ("output0",)
    assert artifact.facts["workspace_mib"] == 1024
    assert not list(wanted.cache.rglob(f"{STAGING_PREFIX}*"))


def test_progress_tells_the_fraction_and_the_time_left(tmp_path, doubles_in_children):
    doubles_in_children(gpu={"seconds_per_step": 0.15})
    seen = []
    assert build(request(tmp_path), seen=seen).failure is None
    fractions = [p.fraction for p in seen if p.fraction is not None]
    assert len(fractions) >= 2
    assert fractions == sorted(fractions)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        pytest.param(
            BuildProgress("tensorrt-fp16", "building", 0.43, "", 3),
            "building tensorrt-fp16, 43 %, about 3 min left",
            id="all known",
        ),
        pytest.param(
            BuildProgress("tensorrt-fp16", "queued"), "queued tensorrt-fp16", id="nothing known"
        ),
    ],
)
def test_progress_as_people_read_it(progress, text):
    assert str(progress) == text


def test_time_left_is_counted_from_the_start_of_the_building(tmp_path, monkeypatch):
    clock = iter(range(0, 10000, 30))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    wanted = request(tmp_path, total_s=1e9, no_progress_s=1e9)
    lines = [{"state": "converting"}, {"state": "building"}]
    lines += [{"state": "building", "fraction": f, "phase": "x"} for f in (0.25, 0.5)]
    seen = []
    assert build(wanted, *map(json.dumps, lines), DONE, seen=seen).failure is None
    assert [progress.minutes_left for progress in seen[:2]] == [None, None]
    first, second = (progress.minutes_left for progress in seen[2:])
    assert 1 < first < 30
    assert second < first


@pytest.mark.parametrize(
    ("faults", "failure", "message", "tries"),
    [
        pytest.param({"build": ["none"]}, "other", "built nothing", 1, id="no plan"),
        pytest.param({"build": ["crash"]}, "crashed", "crashed with SIGSEGV", 1, id="crash"),
        pytest.param({"parse": ["Conv"]}, "parser", "has no operation Conv", 1, id="parser"),
        pytest.param(
            {"build": ["out of memory"]}, "out_of_memory", "ran out of memory", 3, id="memory"
        ),
        pytest.param({"build": ["killed"]}, "out_of_memory", "killed the build", 3, id="killed"),
        pytest.param(
            {"deserialize": ["none"]}, "other", "The new engine does not run", 1, id="no load"
        ),
        pytest.param(
            {"context": ["none"]}, "out_of_memory", "ran out of memory", 3, id="no context"
        ),
        pytest.param({"execute": ["false"]}, "other", "does not run", 1, id="no run"),
        pytest.param({"execute": ["sticky"]}, "other", "does not run", 1, id="no GPU any more"),
        pytest.param(
            {"alloc": ["out of memory"]}, "out_of_memory", "ran out of memory", 3, id="no buffers"
        ),
    ],
)
def test_a_failure_is_a_sentence_and_is_noted(
    faults, failure, message, tries, tmp_path, doubles_in_children
):
    doubles_in_children(**faults)
    wanted, seen = request(tmp_path), []
    result = build(wanted, seen=seen)
    assert (result.failure, message in result.message) == (failure, True), result.message
    assert [progress.state for progress in seen].count("converting") == tries
    noted = cache_of(wanted).failure(wanted.model, wanted.key)
    assert (noted.kind, noted.message, noted.tries) == (failure, result.message, 1)
    assert cache_of(wanted).find(wanted.model, wanted.key) is None
    assert not list(wanted.cache.rglob(f"{STAGING_PREFIX}*")), "leftovers are swept"


def test_an_engine_built_with_less_memory_is_found_under_the_first_key(tmp_path):
    wanted = request(tmp_path, workspace_mib=2048)
    note = tmp_path / "requests"
    script = (
        "import sys, json, pathlib; line = sys.stdin.readline();"
        "given = json.loads(line)['recipe']['workspace_mib'];"
        f"pathlib.Path({str(note)!r}).open('a').write(f'{{given}}\\n');"
        "kind = None if given == 512 else 'out_of_memory';"
        "print(json.dumps({'result': {'failure': kind, 'message': ''}}))"
    )
    result = run_build(wanted, print, threading.Event(), (sys.executable, "-c", script))
    assert note.read_text().split() == ["2048", "1024", "512"]
    assert (result.failure, result.recipe.workspace_mib) == (None, 512)


@pytest.mark.parametrize(
    ("script", "changes", "failure", "message"),
    [
        pytest.param(["die by SIGBUS"], {}, "crashed", "crashed with SIGBUS", id="a signal"),
        pytest.param(["exit 3"], {}, "crashed", "ended with status 3", id="a status"),
        pytest.param([], {}, "crashed", "ended with status 0", id="no result"),
        pytest.param(
            ["hang"], {"no_progress_s": 0.5}, "timed_out", "was silent for 0 s", id="silence"
        ),
        pytest.param(
            ["take 300", "hang"],
            {"memory_mib": 200, "optimization_level": 1},
            "out_of_memory",
            "more than 200",
            id="memory",
        ),
    ],
)
def test_a_child_that_does_not_end_well(script, changes, failure, message, tmp_path):
    wanted = request(tmp_path, kill_grace_s=0.2, **changes)
    result = build(wanted, *(script or ["sleep 0"]))
    assert (result.failure, message in result.message) == (failure, True), result.message


def test_a_child_that_goes_on_for_ever_is_ended(tmp_path):
    wanted = request(tmp_path, kill_grace_s=0.2, total_s=2, no_progress_s=600)
    result = build(wanted, *['{"alive": true}', "sleep 0.2"] * 100)
    assert result.failure == "timed_out"
    assert "longer than 2 s" in result.message


def test_what_a_library_prints_while_it_is_imported_is_passed_over(tmp_path):
    assert build(request(tmp_path), "hello from a library", "", DONE).failure is None


def test_waiting_for_another_build_is_not_building_time(tmp_path):
    wanted = request(tmp_path, total_s=1, no_progress_s=600)
    waiting = ['{"state": "queued"}', "sleep 0.5"]
    assert build(wanted, *waiting * 4, DONE).failure is None


def test_a_child_that_ends_by_itself_when_cancelled_is_not_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    cancel = threading.Event()
    cancel.set()
    result = build(request(tmp_path, kill_grace_s=60), "note the end", cancel=cancel)
    assert result.failure == "cancelled"
    assert (tmp_path / "note").read_text() == "ended"


def test_a_child_that_does_not_is_killed_and_nothing_is_noted(tmp_path):
    cancel, wanted = threading.Event(), request(tmp_path, kill_grace_s=0.2)
    cancel.set()
    assert build(wanted, "hang", cancel=cancel).failure == "cancelled"
    assert cache_of(wanted).failure(wanted.model, wanted.key) is None


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_a_real_build_can_be_cancelled(version, tmp_path, doubles_in_children):
    doubles_in_children(version, gpu={"seconds_per_step": 0.3})
    wanted = request(tmp_path, replace(ORIN, tensorrt=version), kill_grace_s=1)
    cancel = threading.Event()

    def on_progress(progress):
        if progress.state == "building":
            cancel.set()

    assert run_build(wanted, on_progress, cancel).failure == "cancelled"
    assert not list(wanted.cache.rglob(f"{STAGING_PREFIX}*"))


def test_nothing_starts_while_too_little_memory_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_available_mib", lambda: 1535)
    wanted = request(tmp_path)
    result = build(wanted, "hang")
    assert result.failure == "no_memory_yet"
    assert result.message.startswith("1535 MiB of memory are free, a build of this model needs 15")
    assert cache_of(wanted).failure(wanted.model, wanted.key) is None, "no try is used up"


def test_memory_that_is_free_is_known():
    assert 100 < run._available_mib() < 1 << 24


def test_a_machine_without_tensorrt_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    result = build(request(tmp_path))
    assert result.failure == "other"
    assert "TensorRT cannot be used by" in result.message


def test_weights_that_are_no_network_are_refused_in_words(tmp_path, doubles_in_children):
    (tmp_path / "weights.onnx").write_bytes(b"no network")
    result = build(request(tmp_path))
    assert result.failure == "other"
    assert "GraphError: weights.onnx cannot be read" in result.message


def test_an_engine_that_answers_no_numbers_is_refused(tmp_path, doubles_in_children):
    graph = Graph()
    zero = graph.add("Mul", "images", graph.constant(np.zeros(1, np.float32)))
    graph.save(tmp_path / "weights.onnx", {"y": graph.add("Log", zero)}, size=(64, 64))
    wanted = request(tmp_path, batch=(1, 1, 1))
    result = build(wanted)
    assert result.failure == "refused"
    assert "infinite y" in result.message
    assert cache_of(wanted).failure(wanted.model, wanted.key).kind == "refused"


def test_int8_from_a_folder_of_pictures(tmp_path, doubles_in_children):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        picture = np.full((64, 64, 3), 50 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), picture)
    wanted = replace(request(tmp_path, precision="int8"), calibration=tmp_path / "pictures")
    result = build(wanted)
    assert result.failure is None, result.message


def test_without_onnx_the_weights_are_built_as_they_are(tmp_path, doubles_in_children, monkeypatch):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'onnx' else real(name, *a)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{hidden}{os.pathsep}{os.environ['PYTHONPATH']}")
    made = replace(request(tmp_path).recipe, precision="fp16", pixels=None, strongly_typed=False)
    wanted = replace(request(tmp_path), recipe=made, key=made.key("0" * 64, ORIN))
    assert build(wanted).failure is None
    assert cache_of(wanted).find(wanted.model, wanted.key) is not None


def test_builds_on_one_gpu_wait_for_each_other_and_the_second_finds_the_engine(
    tmp_path, doubles_in_children
):
    wanted, seen = request(tmp_path), []
    with cache_of(wanted).build_lock(ORIN):
        waiting = threading.Thread(target=build, args=(wanted,), kwargs={"seen": seen})
        waiting.start()
        until(lambda: any(progress.state == "queued" for progress in seen))
        trial = cache_of(wanted).write(
            tmp_path / "trial", wanted.key, b"built meanwhile", outputs=("y",), facts={}
        )
        cache_of(wanted).publish(wanted.model, trial)
    waiting.join()
    assert {progress.state for progress in seen} == {"queued"}
    assert cache_of(wanted).find(wanted.model, wanted.key).load_plan() == b"built meanwhile"


def test_the_child_is_the_first_to_go_and_the_last_to_run(tmp_path, doubles_in_children):
    doubles_in_children(gpu={"seconds_per_step": 0.3})
    process = start_child(request(tmp_path))
    try:
        until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == 19)
        until(lambda: Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "800")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_a_child_whose_parent_dies_ends(version, tmp_path, doubles_in_children):
    doubles_in_children(version, gpu={"seconds_per_step": 0.3})
    process = start_child(request(tmp_path, replace(ORIN, tensorrt=version), kill_grace_s=1))
    process.stdout.readline()
    process.stdin.close()  # as the kernel does for a dead process
    assert process.wait(60) in (0, 1)
    process.stdout.close()
    assert not list((tmp_path / "engines").rglob("*.plan"))


def test_a_request_survives_its_way_to_the_child(tmp_path):
    wanted = replace(request(tmp_path), calibration=tmp_path)
    assert BuildRequest.decode(wanted.encode()) == wanted
    assert BuildRequest.decode(request(tmp_path).encode()) == request(tmp_path)


def start_child(wanted):
    process = subprocess.Popen(run.CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(wanted.encode())
    process.stdin.flush()
    return process


def until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
