"""The networks that tests and benchmarks are made with do what they are trusted to do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.networks import gflops, save_nano_yolo
from engines.onnx_cpu import open_onnx
from tests.networks import BY_NAME, NETWORKS, SIZE

RED = np.array([1, 0, 0], np.float32).reshape(3, 1, 1)


def picture():
    """Black, with a red square in the upper left: RGB from 0 to 1."""
    image = np.zeros((1, 3, SIZE, SIZE), np.float32)
    image[0, :, 8:24, 8:24] = RED
    return image


def answer(path, image):
    engine = open_onnx(path, threads=1)
    return list(engine.run({"images": image}).values())


@pytest.mark.parametrize("network", NETWORKS, ids=[network.name for network in NETWORKS])
def test_every_network_sees_the_picture(tmp_path, network):
    path = network.save(tmp_path / "net.onnx")
    something, nothing = answer(path, picture()), answer(path, 0 * picture())
    assert any(not np.array_equal(a, b) for a, b in zip(something, nothing, strict=True))


@pytest.mark.parametrize("int8", [False, True])
def test_a_detector_finds_the_red_square(tmp_path, int8):
    path = BY_NAME["yolov8-raw"].save(tmp_path / "net.onnx", int8=int8)
    (head,) = answer(path, picture())
    found = head[0, :, head[0, 4:].max(axis=0) > 0.5].T
    # The four finest cells that are wholly red; coarser ones see black around it.
    assert found[:4].T.tolist() == [
        [12, 12, 16, 16], [20, 12, 16, 16], [12, 20, 16, 16], [20, 20, 16, 16]
    ]  # fmt: skip
    assert (found[4] > 0.99).all()
    assert (found[5:] < 0.01).all()


def test_rows_with_nms_inside_come_best_first_and_padded(tmp_path):
    (rows,) = answer(BY_NAME["yolov8-nms"].save(tmp_path / "net.onnx"), picture())
    assert rows.shape == (1, 84, 6)
    assert sorted(rows[0, :4, :4].tolist()) == [
        [4, 4, 20, 20], [4, 12, 20, 28], [12, 4, 28, 20], [12, 12, 28, 28]
    ]  # fmt: skip
    assert (rows[0, :4, 4] > 0.99).all()
    assert not rows[0, 4:].any()


def test_a_segmenter_draws_the_red_square(tmp_path):
    head, protos = answer(BY_NAME["yolov8-seg"].save(tmp_path / "net.onnx"), picture())
    best = head[0, :, head[0, 4].argmax()]
    mask = np.einsum("c,chw->hw", best[7:], protos[0]) > 0
    expected = np.zeros((16, 16), bool)
    expected[2:6, 2:6] = True
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("task", "billions", "shapes"),
    [
        ("detect", 8.7, [(1, 84, 8400)]),
        ("segment", 11.8, [(1, 116, 8400), (1, 32, 160, 160)]),
        ("pose", 9.2, [(1, 56, 8400)]),
    ],
)
def test_the_benchmark_network_costs_what_a_nano_yolo_costs(tmp_path, task, billions, shapes):
    path = save_nano_yolo(tmp_path / "nano.onnx", task)
    assert gflops(path) == pytest.approx(billions, abs=0.1)
    noise = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    assert [array.shape for array in answer(path, noise)] == shapes
