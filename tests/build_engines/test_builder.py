"""The builder on doubles with the exact surface of each version."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from build_engines.graph import prepare_graph
from tests.build_engines.support import VERSIONS, recipe
from tests.doubles.install import doubles
from tests.networks import BY_NAME


class Build:
    """Builds a small detector on one version, and remembers what was told meanwhile."""

    def __init__(self, version, folder):
        self.version, self.folder = version, folder
        self.seen = []

    def __call__(self, stop_at=2.0, network=None, **changes):
        typed = not self.version.startswith("8")
        wanted = recipe(**{"strongly_typed": typed, **changes})
        if network is None:
            network = self.folder / "network.onnx"
            prepare_graph(BY_NAME["yolov8-raw"].save(self.folder / "a.onnx"), network, wanted)

        def progress(fraction, phase):
            self.seen.append((fraction, phase))
            return fraction is None or fraction < stop_at

        return self.module.build_plan(network, wanted, self.folder / "timing.cache", progress)


@pytest.fixture
def build(request, tmp_path):
    made = Build(request.param if hasattr(request, "param") else "10.3.0", tmp_path)
    with doubles(made.version) as here:
        made.module, made.gpu, made.trt = (
            here.module("build_engines.builder"),
            here.gpu,
            here.tensorrt,
        )
        yield made


on_each_version = pytest.mark.parametrize("build", VERSIONS, indirect=True)
on_flags = pytest.mark.parametrize("build", ["8.6.1", "10.3.0"], indirect=True)


@on_each_version
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_and_the_names_of_its_outputs(build, precision):
    plan, outputs = build(precision=precision)
    assert isinstance(plan, bytes)
    assert len(plan) > 1000
    assert outputs == ("output0",)


@on_each_version
def test_outputs_are_named_in_the_order_of_the_network(build, tmp_path):
    weights = BY_NAME["rfdetr-seg"].save(tmp_path / "b.onnx")
    _, outputs = build(network=weights, pixels=None)
    assert outputs == ("dets", "labels", "masks")


@pytest.mark.parametrize("build", VERSIONS[1:], indirect=True)
def test_progress_rises_from_0_to_1(build):
    build()
    fractions = [fraction for fraction, _ in build.seen if fraction is not None]
    assert len(fractions) > 10
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.1
    assert fractions[-1] == 1
    assert "Tactic timing" in {phase for _, phase in build.seen}


@pytest.mark.parametrize("build", ["8.6.1"], indirect=True)
def test_version_8_gives_signs_of_life_alone(build):
    build.gpu.fail("build", "none")
    with pytest.raises(build.module.BuildError):
        build()
    assert build.seen
    assert {fraction for fraction, _ in build.seen} == {None}


@pytest.mark.parametrize("build", VERSIONS[1:], indirect=True)
def test_progress_can_cancel(build):
    with pytest.raises(build.module.BuildError, match="cancelled") as caught:
        build(stop_at=0.3)
    assert caught.value.kind == "cancelled"
    assert max(fraction or 0 for fraction, _ in build.seen) < 0.4


@on_each_version
def test_timings_make_the_next_build_faster(build):
    build()
    first = build.gpu.calls["tactic"]
    build()
    assert build.gpu.calls["tactic"] == first > 0


def test_timings_of_a_failed_build_are_kept(build):
    build.gpu.fail("build", "none")
    with pytest.raises(build.module.BuildError):
        build()
    first = build.gpu.calls["tactic"]
    build()
    assert build.gpu.calls["tactic"] == first


@pytest.mark.parametrize("content", [b"damaged", b""], ids=["damaged", "empty"])
def test_a_damaged_timing_cache_is_replaced(build, content):
    (build.folder / "timing.cache").write_bytes(content)
    build()
    assert (build.folder / "timing.cache").read_bytes().startswith(b"TIMING")


@on_each_version
@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        pytest.param("none", "other", "TensorRT built nothing. .*Internal Error", id="no reason"),
        pytest.param("out of memory", "out_of_memory", "ran out of memory", id="memory"),
        pytest.param("workspace", "other", "give --workspace-mib more", id="workspace"),
    ],
)
def test_none_becomes_a_sentence(build, fault, kind, message):
    build.gpu.fail("build", fault)
    with pytest.raises(build.module.BuildError, match=message) as caught:
        build()
    assert caught.value.kind == kind


@on_each_version
def test_what_the_parser_refuses_is_named(build):
    build.gpu.fail("parse", "Sigmoid")
    with pytest.raises(build.module.BuildError) as caught:
        build()
    assert caught.value.kind == "parser"
    assert f"TensorRT {build.trt.__version__} has no operation Sigmoid (node " in str(caught.value)
    assert "or keep to the CPU engine." in str(caught.value)


@on_each_version
def test_a_file_that_is_no_network_is_refused(build, tmp_path):
    for name, content in (("cut", BY_NAME["yolov8-raw"].save(tmp_path / "a").read_bytes()[:900]),
                          ("garbage", b"hello world"), ("empty", b"")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(build.module.BuildError, match="damaged") as caught:
            build(network=tmp_path / name)
        assert caught.value.kind == "parser"


@on_each_version
def test_a_machine_without_a_driver_is_refused(build):
    build.gpu.driver = False
    with pytest.raises(build.module.BuildError, match="makes no builder on this machine"):
        build()


@on_each_version
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"batch": (2, 1, 4)}, id="best below least"),
        pytest.param({"batch": (1, 4, 2)}, id="best above most"),
        pytest.param({"batch": (0, 1, 1)}, id="no picture"),
    ],
)
def test_shapes_that_tensorrt_would_not_check_are_refused(build, changes):
    with pytest.raises(build.module.BuildError, match="the recipe wants"):
        build(**changes)


@pytest.mark.parametrize(
    ("saved", "changes", "message"),
    [
        pytest.param({"batch": 4}, {}, r"takes \(4, .*wants \(1, ", id="a fixed batch"),
        pytest.param({}, {"size_wh": (96, 64)}, r"\(-1, 3, 64, 64\).*\(1, 3, 64, 96\)", id="size"),
    ],
)
def test_a_recipe_that_does_not_fit_the_network_is_refused(build, saved, changes, message):
    weights = BY_NAME["yolov8-raw"].save(build.folder / "b.onnx", **saved)
    with pytest.raises(build.module.BuildError, match=message):
        build(network=weights, pixels=None, **changes)


@on_each_version
def test_a_network_of_fixed_shape_needs_no_profile(build):
    weights = BY_NAME["yolov8-raw"].save(build.folder / "b.onnx", batch=2)
    plan, _ = build(network=weights, pixels=None, batch=(2, 2, 2))
    assert plan


def test_several_inputs_are_refused(build):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 64, 64]) for n in "abc"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])], "g", values[:2], values[2:]
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), build.folder / "b.onnx")
    with pytest.raises(build.module.BuildError, match="The network takes"):
        build(network=build.folder / "b.onnx", pixels=None)


@on_flags
@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", ()), ("fp16", ("FP16",)), ("int8", ("INT8", "FP16"))]
)
def test_precision_by_flags(build, precision, flags, monkeypatch):
    seen = []
    real = build.trt.IBuilderConfig.set_flag
    monkeypatch.setattr(
        build.trt.IBuilderConfig,
        "set_flag",
        lambda self, flag: (seen.append(flag.name), real(self, flag))[1],
    )
    weights = BY_NAME["yolov8-raw"].save(build.folder / "b.onnx")
    build(network=weights, pixels=None, precision=precision, strongly_typed=False)
    assert tuple(seen) == flags


@on_each_version
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_is_not_rounded_to_tf32(build, precision, monkeypatch):
    cleared = []
    monkeypatch.setattr(
        build.trt.IBuilderConfig, "clear_flag", lambda self, flag: cleared.append(flag.name)
    )
    build(precision=precision)
    assert cleared == (["TF32"] if precision == "fp32" else [])


@pytest.mark.parametrize("build", ["11.4.0"], indirect=True)
def test_version_11_says_what_it_needs_where_flags_are_wanted(build):
    weights = BY_NAME["yolov8-raw"].save(build.folder / "b.onnx")
    with pytest.raises(build.module.BuildError, match="install the package onnx") as caught:
        build(network=weights, pixels=None, precision="fp16", strongly_typed=False)
    assert caught.value.kind == "unsupported"


def test_phases_that_nest_make_one_fraction(build):
    progress = build.module.Progress()
    progress.start("Building", None, 4)
    assert progress.step("Building", 0) == 0.25
    progress.start("Timing", "Building", 2)
    progress.start("Layer", "Timing", 4)
    assert progress.step("Layer", 1) == pytest.approx((1 + (0 + 0.5) / 2) / 4)
    progress.finish("Layer")
    assert progress.step("Timing", 0) == pytest.approx((1 + 0.5) / 4)
    progress.finish("Timing")
    progress.start("Again", "Building", 2)
    assert progress.step("Again", 0) == pytest.approx((1 + 0.5) / 4), "it never falls"
    assert progress.step("Building", 3) == 1
    assert progress.step("unknown", 0) == 1
