"""FP16 where it pays, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.networks import Graph, save_nano_yolo
from build_engines.graph import prepare_graph
from build_engines.half import halve, heights
from engines.onnx_cpu import open_onnx
from tests.build_engines.support import answers, recipe
from tests.networks import BY_NAME
from tests.support import ROOT

DEMOS = sorted((ROOT / "edge_server" / "bundled").glob("*/1/weights.onnx"))


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that ONNX can tell."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def halved(tmp_path, weights):
    full, half = tmp_path / "full.onnx", tmp_path / "half.onnx"
    (height, width) = open_onnx(weights, threads=1).inputs[0].shape[2:]
    prepare_graph(weights, full, recipe())
    prepare_graph(weights, half, recipe(precision="fp16"))
    return full, half, (width, height)


@pytest.mark.parametrize("weights", DEMOS, ids=lambda path: path.parts[-3])
def test_the_demo_models_answer_nearly_the_same(weights, tmp_path):
    full, half, size_wh = halved(tmp_path, weights)
    picture = cv2.imread(str(sorted((weights.parent / "examples").iterdir())[0]))
    pixels = cv2.resize(picture, size_wh)[None]
    for one, other in zip(answers(full, pixels), answers(half, pixels), strict=True):
        assert one.dtype == other.dtype == np.float32
        assert np.abs(one - other).max() <= 2e-3 * np.abs(one).max() + 1e-2
        assert not np.array_equal(one, other), "nothing was converted"


def test_all_weights_of_a_real_detector_are_halved_and_nothing_after_them(tmp_path):
    model = halve(onnx.load(save_nano_yolo(tmp_path / "a.onnx", size=64)))
    found = types(model)
    kinds = {
        node.op_type: {found[name] for name in node.input if name in found}
        for node in model.graph.node
    }
    assert kinds["Conv"] == {TensorProto.FLOAT16}
    made = {name: node for node in model.graph.node for name in node.output}
    last = made["output0"]
    while last.op_type in ("Identity", "Concat", "Mul"):  # boxes and scores beside each other
        assert {found[name] for name in last.input} <= {TensorProto.FLOAT}
        last = made[last.input[0]]


def test_inputs_and_outputs_keep_their_types(tmp_path):
    before = onnx.load(BY_NAME["yolov8-seg"].save(tmp_path / "a.onnx"))
    after = halve(before)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output


def test_what_reads_a_converted_tensor_in_full_gets_it_in_full(tmp_path):
    graph = Graph()
    weights = np.full((3, 3, 1, 1), 0.1, np.float32)
    first = graph.conv("images", weights, np.zeros(3, np.float32))
    second = graph.conv(first, weights, np.zeros(3, np.float32))
    graph.save(
        tmp_path / "a.onnx", {"middle": first, "mean": graph.add("Exp", second)}, size=(8, 8)
    )
    onnx.save(halve(onnx.load(tmp_path / "a.onnx")), tmp_path / "b.onnx")
    pixels = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    for one, other in zip(
        answers(tmp_path / "a.onnx", pixels), answers(tmp_path / "b.onnx", pixels), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-3)
    casts = [node for node in onnx.load(tmp_path / "b.onnx").graph.node if node.op_type == "Cast"]
    assert len(casts) == 3, "into half once, and back for each reader"


def test_weights_beyond_the_range_of_half_stay_in_full(tmp_path):
    graph = Graph()
    weights = np.full((3, 3, 1, 1), 1e5, np.float32)
    x = graph.conv("images", weights, np.zeros(3, np.float32))
    graph.save(tmp_path / "a.onnx", {"y": x}, size=(8, 8))
    model = halve(onnx.load(tmp_path / "a.onnx"))
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT}


@pytest.mark.parametrize(
    ("operation", "attributes", "converted"),
    [
        pytest.param("Relu", {}, True, id="bears half"),
        pytest.param("Exp", {}, False, id="grows beyond it"),
        pytest.param("Softmax", {"axis": 1}, False, id="sums many terms"),
        pytest.param("Reciprocal", {}, False, id="divides"),
    ],
)
def test_only_operations_that_bear_half_are_converted(operation, attributes, converted, tmp_path):
    graph = Graph()
    weights, bias = np.ones((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)
    middle = graph.add(operation, graph.conv("images", weights, bias), **attributes)
    graph.save(tmp_path / "a.onnx", {"y": graph.conv(middle, weights, bias)}, size=(8, 8))
    model = halve(onnx.load(tmp_path / "a.onnx"))
    (node,) = (node for node in model.graph.node if node.op_type == operation)
    assert types(model)[node.output[0]] == (TensorProto.FLOAT16 if converted else TensorProto.FLOAT)


def test_resize_keeps_its_scales_and_shapes_stay_whole_numbers(tmp_path):
    graph = Graph()
    weights, bias = np.ones((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)
    x = graph.conv("images", weights, bias)
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    x = graph.add("Resize", x, "", scales, mode="nearest")
    x = graph.reshape(x, 0, 3, 16, 16)
    graph.save(tmp_path / "a.onnx", {"y": graph.conv(x, weights, bias)}, size=(8, 8))
    model = halve(onnx.load(tmp_path / "a.onnx"))
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    assert found[scales] == TensorProto.FLOAT
    (resize,) = (node for node in model.graph.node if node.op_type == "Resize")
    assert found[resize.output[0]] == TensorProto.FLOAT16


def test_an_inner_graph_may_read_what_was_converted(tmp_path):
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Exp", ["middle"], ["inner"])], "inner", [], [value("inner", 1, None)]
    )
    weights = numpy_helper.from_array(np.full((3, 3, 1, 1), 0.1, np.float32), "w")
    truth = numpy_helper.from_array(np.array(True), "truth")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["middle"]),
        helper.make_node("If", ["truth"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, [1, 3, 4, 4])], [value("y", 1, None)], [weights, truth]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    onnx.save(halve(model), tmp_path / "b.onnx")
    pixels = np.ones((1, 3, 4, 4), np.float32)
    (one,), (other,) = (answers(tmp_path / name, pixels) for name in ("a.onnx", "b.onnx"))
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_heights_count_heavy_operations_to_the_outputs(tmp_path):
    graph = Graph()
    weights, bias = np.ones((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)
    a = graph.conv("images", weights, bias)
    b = graph.conv(graph.add("Relu", a), weights, bias)
    graph.save(tmp_path / "a.onnx", {"y": graph.add("Sigmoid", b), "z": a}, size=(8, 8))
    model = onnx.load(tmp_path / "a.onnx")
    by_kind = [(n.op_type, h) for n, h in zip(model.graph.node, heights(model.graph), strict=True)]
    assert by_kind == [
        ("Conv", 2), ("Relu", 1), ("Conv", 1), ("Sigmoid", 0), ("Identity", 0), ("Identity", 0)
    ]  # fmt: skip
