"""Decisions about a build, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_engines.recipe import (
    DeviceFacts,
    ModelFacts,
    PixelInput,
    choose_recipe,
    minutes_left,
    needed_mib,
    next_rung,
)
from tests.build_engines.support import ORIN, recipe

GIB = 1024
MODEL = ModelFacts((640, 640), None, 8, PixelInput())


def device(tensorrt="10.3.0", memory_mib=8 * GIB, capability="8.7", has_onnx=True):
    host = replace(ORIN, tensorrt=tensorrt, compute_capability=capability)
    return DeviceFacts(host, memory_mib, has_onnx)


@pytest.mark.parametrize(
    ("where", "what", "precision", "typed"),
    [
        pytest.param({"tensorrt": "8.6.1"}, {}, "fp16", False, id="8 is told by flags"),
        pytest.param({}, {}, "fp16", True, id="10 by the graph"),
        pytest.param({"has_onnx": False}, {}, "fp16", False, id="10 without onnx by flags"),
        pytest.param({"tensorrt": "11.4.1"}, {}, "fp16", True, id="11 by the graph"),
        pytest.param(
            {"tensorrt": "11.4.1", "has_onnx": False}, {}, "fp32", True, id="11 without onnx: full"
        ),
        pytest.param({}, {"calibrated": True}, "int8", True, id="pictures make INT8"),
        pytest.param(
            {"has_onnx": False}, {"calibrated": True}, "fp16", False, id="INT8 needs onnx"
        ),
        pytest.param(
            {"capability": "5.3"}, {"calibrated": True}, "fp16", True, id="no INT8 on Maxwell"
        ),
    ],
)
def test_the_fastest_precision_that_can_be_built(where, what, precision, typed):
    chosen = choose_recipe(device(**where), replace(MODEL, **what))
    assert (chosen.precision, chosen.strongly_typed) == (precision, typed)


@pytest.mark.parametrize(
    ("wish", "refused", "precision"),
    [
        pytest.param("auto", {"int8"}, "fp16", id="the next after a refusal"),
        pytest.param("auto", {"int8", "fp16"}, "fp32", id="and the next"),
        pytest.param("auto", {"int8", "fp16", "fp32"}, None, id="nothing left"),
        pytest.param("fp32", set(), "fp32", id="as told"),
        pytest.param("fp16", {"fp16"}, None, id="told what was refused"),
    ],
)
def test_what_was_refused_is_not_tried_again(wish, refused, precision):
    chosen = choose_recipe(device(), replace(MODEL, calibrated=True), wish, frozenset(refused))
    assert (chosen and chosen.precision) == precision


def test_int8_is_not_chosen_without_pictures_even_when_told():
    assert choose_recipe(device(), MODEL, "int8") is None


@pytest.mark.parametrize(
    ("memory_mib", "workspace_mib", "level", "batch"),
    [
        pytest.param(4 * GIB, 512, 2, (1, 1, 1), id="Orin Nano 4 GB"),
        pytest.param(8 * GIB, 2048, 3, (1, 1, 4), id="Orin Nano 8 GB"),
        pytest.param(16 * GIB, 4096, 3, (1, 1, 8), id="Orin NX 16 GB"),
        pytest.param(64 * GIB, 4096, 3, (1, 1, 8), id="AGX Orin"),
    ],
)
def test_means_go_by_memory(memory_mib, workspace_mib, level, batch):
    chosen = choose_recipe(device(memory_mib=memory_mib), MODEL)
    assert (chosen.workspace_mib, chosen.optimization_level) == (workspace_mib, level)
    assert chosen.batch == batch
    assert memory_mib / 2 < chosen.memory_mib < memory_mib


@pytest.mark.parametrize(
    ("static", "most", "batch"),
    [
        pytest.param(None, 8, (1, 1, 4), id="as many as memory allows"),
        pytest.param(None, 2, (1, 1, 2), id="as many as are wanted"),
        pytest.param(None, 0, (1, 1, 1), id="at least one"),
        pytest.param(16, 1, (16, 16, 16), id="as the network has it"),
    ],
)
def test_batches(static, most, batch):
    model = replace(MODEL, static_batch=static, max_batch=most)
    assert choose_recipe(device(), model).batch == batch


def test_without_onnx_the_input_stays_as_it_is():
    assert choose_recipe(device(), MODEL).pixels == PixelInput()
    assert choose_recipe(device(has_onnx=False), MODEL).pixels is None


def test_the_ladder_goes_down_to_level_1_and_ends():
    rungs = [recipe(workspace_mib=2048, optimization_level=3)]
    while (rung := next_rung(rungs[-1], "out_of_memory")) is not None:
        rungs.append(rung)
    assert [(rung.workspace_mib, rung.optimization_level) for rung in rungs] == [
        (2048, 3),
        (1024, 2),
        (512, 1),
    ]
    assert len({replace(r, workspace_mib=0, optimization_level=0) for r in rungs}) == 1


def test_the_ladder_ends_before_builds_fail_for_lack_of_workspace():
    assert next_rung(recipe(workspace_mib=200, optimization_level=5), "out_of_memory") is None


@pytest.mark.parametrize("failure", ["parser", "unsupported", "crashed", "timed_out", "other"])
def test_only_lack_of_memory_leads_down_the_ladder(failure):
    assert next_rung(recipe(), failure) is None


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp16"},
        {"batch": (1, 1, 1)},
        {"size_wh": (32, 64)},
        {"pixels": None},
        {"pixels": PixelInput(rgb=False)},
        {"pixels": PixelInput(scaling=1)},
        {"strongly_typed": False},
        {"workspace_mib": 512},
        {"optimization_level": 2},
    ],
    ids=str,
)
def test_what_changes_a_plan_changes_its_key(change):
    assert recipe(**change).key("0", ORIN).digest != recipe().key("0", ORIN).digest


def test_limits_of_a_build_and_pictures_it_does_not_use_leave_its_key():
    same = recipe(no_progress_s=1, total_s=1, kill_grace_s=1, memory_mib=1)
    assert same.key("0", ORIN, "calibration").digest == recipe().key("0", ORIN).digest
    int8 = recipe(precision="int8")
    assert int8.key("0", ORIN, "a").digest != int8.key("0", ORIN, "b").digest


@pytest.mark.parametrize(
    ("weights_mib", "needed"),
    [
        pytest.param(12, 1536, id="a small detector"),
        pytest.param(500, 2524, id="a large one"),
    ],
)
def test_memory_that_a_build_needs(weights_mib, needed):
    assert needed_mib(weights_mib << 20) == needed


@pytest.mark.parametrize(
    ("elapsed_s", "fraction", "minutes"),
    [
        pytest.param(2, 0.5, None, id="too early"),
        pytest.param(600, 0.01, None, id="too little done"),
        pytest.param(60, 0.5, 1, id="as long again"),
        pytest.param(61, 0.5, 2, id="rounded up"),
        pytest.param(129, 0.43, 3, id="as in the log"),
        pytest.param(600, 1.0, 0, id="done"),
    ],
)
def test_minutes_left(elapsed_s, fraction, minutes):
    assert minutes_left(elapsed_s, fraction) == minutes
