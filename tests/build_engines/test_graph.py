"""Networks that take pixels answer as those that take what ``make_feed`` makes of pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from build_engines.graph import GraphError, prepare_graph
from build_engines.recipe import PixelInput
from edge_server.vision.preprocess import NetworkInput, make_feed
from engines.onnx_cpu import open_onnx
from tests.build_engines.support import answers, pixels_of, recipe
from tests.networks import BY_NAME, IMAGENET, NETWORKS, SIZE

RANDOM = np.random.default_rng(5)


def pictures(count: int = 2, size: int = SIZE) -> np.ndarray:
    """Noise, and a patch of each colour, which the networks take for objects."""
    pixels = RANDOM.integers(0, 256, (count, size, size, 3), np.uint8)
    for colour in range(3):
        part = pixels[:, 32 * (colour // 2) :, 32 * (colour % 2) :][:, :32, :32]
        part[:] = 0
        part[..., colour] = 255
    return pixels


def fed_as_served(weights, given: PixelInput, pixels: np.ndarray) -> list[np.ndarray]:
    height, width = pixels.shape[1:3]
    seen = NetworkInput(
        height,
        width,
        "stretch",
        color_mode="rgb" if given.rgb else "bgr",
        scaling_factor=given.scaling,
        normalization=given.normalization,
    )
    engine = open_onnx(weights, threads=1)
    feed = make_feed(seen, engine.inputs[0])
    return list(engine.run({engine.inputs[0].name: feed(pixels)}).values())


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        # ONNX Runtime computes half networks in float32 on a CPU, and drops casts on its way.
        rounding = 1e-2 if one.dtype == np.float16 else 1e-6
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_every_family_answers_pixels_as_it_answers_floats(network, tmp_path):
    weights, target = network.save(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    prepare_graph(weights, target, recipe(pixels=pixels_of(network)))
    pixels = pictures()
    assert_equal(answers(target, pixels), fed_as_served(weights, pixels_of(network), pixels))


@pytest.mark.parametrize(
    ("given", "saved"),
    [
        pytest.param(PixelInput(rgb=False), {}, id="blue first"),
        pytest.param(PixelInput(scaling=1.0), {}, id="0 to 255"),
        pytest.param(PixelInput(scaling=127.5), {}, id="an odd scaling"),
        pytest.param(
            PixelInput(normalization=tuple(map(tuple, IMAGENET)), rgb=False), {}, id="normalised"
        ),
        pytest.param(PixelInput(), {"dtype": TensorProto.FLOAT16}, id="a half network"),
        pytest.param(PixelInput(), {"batch": 2}, id="a fixed batch"),
        pytest.param(PixelInput(), {"dynamic_size": True}, id="any size"),
        pytest.param(PixelInput(), {"int8": True}, id="an INT8 network"),
    ],
)
def test_every_kind_of_input(given, saved, tmp_path):
    weights, target = BY_NAME["yolov8-raw"].save(tmp_path / "a.onnx", **saved), tmp_path / "b.onnx"
    prepare_graph(weights, target, recipe(pixels=given))
    pixels = pictures()
    assert_equal(answers(target, pixels), fed_as_served(weights, given, pixels))


def test_the_input_is_declared_as_it_was_but_for_pixels(tmp_path):
    weights, target = BY_NAME["yolov8-raw"].save(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    prepare_graph(weights, target, recipe())
    (entry,) = open_onnx(target, threads=1).inputs
    assert (entry.name, entry.dtype, entry.shape) == ("pixels", np.uint8, (None, SIZE, SIZE, 3))


def test_a_size_that_was_left_open_is_fixed(tmp_path):
    weights, target = tmp_path / "a.onnx", tmp_path / "b.onnx"
    BY_NAME["yolov8-raw"].save(weights, size_hw=(32, 64), dynamic_size=True)
    prepare_graph(weights, target, recipe(size_wh=(64, 32)))
    assert open_onnx(target, threads=1).inputs[0].shape == (None, 32, 64, 3)


def test_without_pixels_the_network_stays_as_it_was(tmp_path):
    weights, target = BY_NAME["yolov8-raw"].save(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    prepare_graph(weights, target, recipe(pixels=None))
    assert onnx.load(target).graph == onnx.load(weights).graph


def test_a_name_that_is_taken_is_not_taken_again(tmp_path):
    weights, target = BY_NAME["resnet"].save(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    model = onnx.load(weights)
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]
    model.graph.input[0].name = "pixels"
    onnx.save(model, weights)
    prepare_graph(weights, target, recipe())
    assert open_onnx(target, threads=1).inputs[0].name == "pixels_"


def damaged(path):
    content = BY_NAME["yolov8-raw"].save(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def two_inputs(path):
    values = [helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("a", "b", "c")]
    save_nodes(path, [helper.make_node("Add", ["a", "b"], ["c"])], values[:2], values[2:])


def grey(path):
    values = [helper.make_tensor_value_info(name, 1, [1, 1, 8, 8]) for name in ("a", "c")]
    save_nodes(path, [helper.make_node("Relu", ["a"], ["c"])], values[:1], values[1:])


def unsound(path):
    values = [helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("a", "c")]
    save_nodes(path, [helper.make_node("Relu", ["nothing"], ["c"])], values[:1], values[1:])


def save_nodes(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "network", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(damaged, "a.onnx cannot be read", id="cut"),
        pytest.param(lambda path: path.write_bytes(b""), "expected one float input", id="empty"),
        pytest.param(lambda path: None, "a.onnx cannot be read", id="missing"),
        pytest.param(two_inputs, "The network takes a, b; expected one", id="two inputs"),
        pytest.param(grey, r"takes a; expected one float input \(B, 3, H, W\)", id="grey"),
        pytest.param(unsound, "a.onnx is no sound network: .*nothing", id="an unknown tensor"),
    ],
)
def test_what_cannot_be_changed_is_refused_in_words(write, message, tmp_path):
    write(tmp_path / "a.onnx")
    with pytest.raises(GraphError, match=message):
        prepare_graph(tmp_path / "a.onnx", tmp_path / "b.onnx", recipe())
    assert not (tmp_path / "b.onnx").exists()


def test_int8_without_pictures_is_refused(tmp_path):
    weights = BY_NAME["yolov8-raw"].save(tmp_path / "a.onnx")
    with pytest.raises(GraphError, match="INT8 needs pictures"):
        prepare_graph(weights, tmp_path / "b.onnx", recipe(precision="int8"))


def save_with_external(path, location):
    """A network whose only weight lies in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    values = [helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("x", "y")]
    save_nodes(path, [helper.make_node("Mul", ["x", "w"], ["y"])], values[:1], values[1:], [weight])


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("../secret.bin", id="above"),
        pytest.param("inside/../../secret.bin", id="above by a detour"),
        pytest.param("{root}/secret.bin", id="absolute"),
        pytest.param("link.bin", id="a link to a file"),
        pytest.param("linked/secret.bin", id="a link to a folder"),
        pytest.param("none.bin", id="missing"),
        pytest.param("", id="no name"),
    ],
)
def test_external_data_outside_of_the_folder_is_refused(location, tmp_path):
    folder = tmp_path / "model"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(np.ones(3, np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    save_with_external(folder / "a.onnx", location.format(root=tmp_path))
    with pytest.raises(GraphError, match=r"a\.onnx cannot be read"):
        prepare_graph(folder / "a.onnx", tmp_path / "b.onnx", recipe())


def test_external_data_beside_the_weights_is_taken_in(tmp_path):
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "w.bin").write_bytes(np.array([2, 3, 4], np.float32).tobytes())
    save_with_external(folder / "a.onnx", "data/w.bin")
    prepare_graph(folder / "a.onnx", tmp_path / "b.onnx", recipe())
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "b.onnx").graph.initializer
    }
    assert stored["w"].ravel().tolist() == [2, 3, 4]
