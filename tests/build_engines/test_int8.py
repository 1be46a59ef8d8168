"""INT8 from pictures, as TensorRT reads it."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from build_engines.graph import prepare_graph
from build_engines.half import halve
from build_engines.int8 import quantize
from build_engines.pictures import hash_pictures, read_pictures
from engines.onnx_cpu import open_onnx
from tests.build_engines.support import answers, recipe
from tests.networks import BY_NAME
from tests.support import ROOT

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
BUNDLED = ROOT / "edge_server" / "bundled"
DEMOS = sorted(BUNDLED.glob("*/1/weights.onnx"))
PARTS = ROOT / "tests" / "fixtures" / "demo-parts"


def pictures_for(weights, size_wh):
    own = sorted((weights.parent / "examples").glob("*.jpg"))
    fixtures = sorted(PARTS.glob("*.jpg"))[:4] if "demo-parts" in str(weights) else []
    return [cv2.resize(cv2.imread(str(path)), size_wh) for path in (*own, *fixtures)]


def quantized(tmp_path, weights, *, strongly_typed):
    full, int8 = tmp_path / "full.onnx", tmp_path / "int8.onnx"
    height, width = open_onnx(weights, threads=1).inputs[0].shape[2:]
    pictures = pictures_for(weights, (width, height))
    prepare_graph(weights, full, recipe())
    wanted = recipe(precision="int8", strongly_typed=strongly_typed)
    prepare_graph(weights, int8, wanted, iter(pictures))
    return full, int8, pictures[0][None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("strongly_typed", [False, True], ids=["by flags", "in the graph"])
@pytest.mark.parametrize("weights", DEMOS, ids=lambda path: path.parts[-3])
def test_the_demo_models_answer_much_the_same(weights, strongly_typed, tmp_path):
    full, int8, pixels = quantized(tmp_path, weights, strongly_typed=strongly_typed)
    for one, other in zip(answers(full, pixels), answers(int8, pixels, literal=True), strict=True):
        assert one.dtype == other.dtype == np.float32
        one, other = one.ravel(), other.ravel()
        alike = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert 0.99 < alike < 1, "alike, and changed"


def test_tensorrt_can_read_it(tmp_path):
    weights = BUNDLED / "demo-parts" / "1" / "weights.onnx"
    _, int8, _ = quantized(tmp_path, weights, strongly_typed=True)
    model = onnx.load(int8)
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type in QUANTIZERS]
    assert len(quantizers) > 40
    for node in quantizers:
        zero = numpy_helper.to_array(constants[node.input[2]])
        assert zero.dtype == np.int8
        assert not zero.any(), "TensorRT has no zero points"
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    per_channel = [
        constants[made[node.input[1]].input[1]].dims
        for node in convolutions
        if made.get(node.input[1]) in quantizers
    ]
    assert len(per_channel) > 10
    assert all(len(dims) == 1 and dims[0] > 1 for dims in per_channel)
    assert not any(made.get(name) in quantizers for n in convolutions for name in n.input[2:])


def test_heads_stay_as_they_were(tmp_path):
    weights = BUNDLED / "demo-parts" / "1" / "weights.onnx"
    _, int8, _ = quantized(tmp_path, weights, strongly_typed=False)
    model = onnx.load(int8)
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kinds = [made.get(node.input[1]) for node in convolutions]
    assert kinds[0] == "DequantizeLinear"
    assert kinds[-3:] == [None, None, None], "the last of each of the three strides"


def test_scales_are_half_where_the_rest_is(tmp_path):
    weights = BUNDLED / "demo-surfaces" / "1" / "weights.onnx"
    _, int8, _ = quantized(tmp_path, weights, strongly_typed=True)
    model = onnx.load(int8)
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds = [constants[node.input[1]] for node in model.graph.node if node.op_type in QUANTIZERS]
    assert kinds.count(TensorProto.FLOAT16) > 0.9 * len(kinds)


def test_scales_too_small_for_half_stay_in_full(tmp_path):
    weights = BUNDLED / "demo-surfaces" / "1" / "weights.onnx"
    _, int8, _ = quantized(tmp_path, weights, strongly_typed=False)
    model = onnx.load(int8)
    model.opset_import[0].version = 21
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale"):
            small = np.full_like(numpy_helper.to_array(tensor), 1e-6)
            tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))
    kinds = {t.data_type for t in halve(model).graph.initializer if "scale" in t.name}
    assert kinds == {TensorProto.FLOAT}


def test_a_network_that_is_all_head_is_left_alone(tmp_path):
    weights = BY_NAME["yolov8-raw"].save(tmp_path / "a.onnx")
    after = quantize(onnx.load(weights), [], half_scales=False)
    assert not {node.op_type for node in after.graph.node} & set(QUANTIZERS)


def save_pictures(folder):
    folder.mkdir()
    cv2.imwrite(str(folder / "b.png"), np.full((10, 20, 3), (1, 2, 3), np.uint8))
    np.save(folder / "a.npy", np.full((4, 8, 3), 9, np.uint8))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_pictures_are_read_by_name_in_the_size_of_the_network(tmp_path):
    first, second = read_pictures(save_pictures(tmp_path / "p"), (8, 4))
    assert np.unique(first).tolist() == [9]
    assert second.shape == (4, 8, 3)
    assert second[0, 0].tolist() == [1, 2, 3], "BGR"


def test_of_very_many_pictures_an_even_choice_is_read(tmp_path):
    for number in range(1025):
        np.save(tmp_path / f"{number:04}.npy", np.full((1, 1, 3), number // 5, np.uint8))
    values = [int(picture[0, 0, 0]) for picture in read_pictures(tmp_path, (1, 1))]
    assert len(values) == 512
    assert (values[0], values[-1]) == (0, 204)


def test_the_hash_goes_by_content(tmp_path):
    folder = save_pictures(tmp_path / "p")
    before = hash_pictures(folder)
    (folder / "a.npy").rename(folder / "z.npy")
    assert hash_pictures(folder) == before
    np.save(folder / "z.npy", np.full((4, 8, 3), 10, np.uint8))
    assert hash_pictures(folder) != before


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda folder: None, "has no pictures", id="none"),
        pytest.param(
            lambda folder: (folder / "a.jpg").write_bytes(b"no"),
            "a.jpg is no picture",
            id="damaged",
        ),
        pytest.param(
            lambda folder: np.save(folder / "a.npy", np.zeros((4, 8, 3))),
            r"a.npy is float64 \(4, 8, 3\); expected uint8 \(4, 8, 3\)",
            id="floats",
        ),
        pytest.param(
            lambda folder: np.save(folder / "a.npy", np.array([{}], object)),
            "allow_pickle=False",
            id="pickled",
        ),
    ],
)
def test_bad_pictures_are_refused_in_words(write, message, tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(read_pictures(tmp_path, (8, 4)))
