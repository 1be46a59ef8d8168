"""Masks: the right pixels, whatever part of the picture is worked on, in bounded memory."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.masks import longest_outline, run_lengths
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.resample import axis


def segment(boxes, placement, *, grid=(16, 16), params=None, protos=None):
    """Masks of boxes (cx, cy, w, h) whose coefficients choose the first prototype, a plane."""
    count = len(boxes)
    output = np.zeros((1, 4 + 1 + 32, count), np.float32)
    output[0, :4] = np.array(boxes, np.float32).T
    output[0, 4] = np.linspace(0.9, 0.8, count)
    output[0, 5] = 1
    planes = np.zeros((1, 32, *grid), np.float32)
    planes[0, 0] = 5 if protos is None else protos
    spec = HeadSpec(("part",), (output.shape, planes.shape))
    decode = DECODERS["instance-segmentation", "yolov8"](spec)
    params = params or InferParams(iou_threshold=1.0)
    (found,) = decode({"output0": output, "output1": planes}, [placement], params)
    return found


def filled(polygon, size):
    canvas = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(canvas, [polygon], 1)
    return canvas


def test_a_mask_is_the_enlarged_grid_cut_to_the_box():
    placement = Placement((640, 480), (0, 0, 640, 480), (64, 64), (0.1, 64 / 480), (0,) * 4)
    found = segment([(32, 32, 16, 24)], placement)
    # 4 to 8 cells of 40 x 30 pixels; half of the cell beyond the edge stays below one half.
    assert filled(found.polygons[0], found.size).sum() == pytest.approx(160 * 180, rel=0.03)
    assert found.detections.boxes.tolist() == [[240, 150, 400, 330]]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (37, 53), (2000, 1500)])
def test_pictures_of_any_shape(size):
    scale = (64 / size[0], 64 / size[1])
    placement = Placement(size, (0, 0, *size), (64, 64), scale, (0,) * 4)
    found = segment([(32, 32, 64, 64)], placement, params=InferParams(rle_masks=True))
    assert filled(found.polygons[0], size).all()
    assert found.rles == (run_lengths(np.ones(size[::-1], np.uint8), (0, 0), size),)


def test_a_box_beside_the_mask_gives_an_empty_outline():
    placement = Placement((64, 64), (0, 0, 64, 64), (64, 64), (1.0, 1.0), (0,) * 4)
    protos = np.full((16, 16), -5)
    found = segment([(32, 32, 16, 16), (-40, 32, 8, 8)], placement, protos=protos)
    assert [len(polygon) for polygon in found.polygons] == [0, 0]
    assert len(found.detections) == 2


@pytest.mark.parametrize(
    ("count", "rle"), [pytest.param(300, False, id="polygons"), pytest.param(20, True, id="RLE")]
)
def test_memory_does_not_grow_with_the_number_of_instances(count, rle):
    """Instances that fill 4000 x 3000 pixels, in patches where run lengths are wanted."""
    size = (4000, 3000)
    placement = Placement(size, (0, 0, *size), (640, 640), (0.16, 64 / 300), (0,) * 4)
    boxes = [(320, 320, 640, 640)] * count
    noise = np.random.default_rng(0).normal(size=(160, 160))
    protos = cv2.GaussianBlur(noise, (0, 0), 3) if rle else None
    params = InferParams(iou_threshold=1.0, rle_masks=rle)
    segment(boxes[:1], placement, grid=(160, 160))  # makes what is cached
    tracemalloc.start()
    found = segment(boxes, placement, grid=(160, 160), params=params, protos=protos)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.polygons) == count
    assert peak < 64 * 10**6


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(16, 100, id="enlarged"),
        pytest.param(100, 16, id="shrunk with antialiasing"),
        pytest.param(7, 7, id="unchanged"),
        pytest.param(1, 9, id="from one sample"),
    ],
)
def test_any_part_of_an_axis_is_that_part_of_the_whole(source, target):
    values = np.random.default_rng(1).normal(size=(source, 3)).astype(np.float32)
    weights = axis(source, target)
    whole = weights.rows(values, 0, target)
    for start, stop in [(0, 1), (target // 3, target // 2 + 1), (target - 1, target)]:
        np.testing.assert_allclose(weights.rows(values, start, stop), whole[start:stop], atol=1e-6)
    if target >= source:
        enlarged = cv2.resize(values, (3, target), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(whole, enlarged, atol=1e-5)
    first, last = weights.reach(source // 2, source // 2 + 1)
    spike = np.zeros((source, 1), np.float32)
    spike[source // 2] = 1
    touched = np.flatnonzero(weights.rows(spike, 0, target))
    assert first <= touched[0]
    assert touched[-1] < last


def test_shrinking_averages_what_it_covers():
    values = np.arange(8, dtype=np.float32)[:, None]
    # Triangles of two samples' reach around 0.5, 2.5, 4.5, 6.5, cut and renormalised at the ends.
    expected = [5 / 7, 2.5, 4.5, 44 / 7]
    np.testing.assert_allclose(axis(8, 4).rows(values, 0, 4)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_a_part_are_those_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    whole = np.zeros((23, 17), np.uint8)
    top, left = rng.integers(0, 8, 2)
    part = (rng.random((23 - top if seed % 2 else 9, 6)) < 0.6).astype(np.uint8)
    whole[top : top + part.shape[0], left : left + 6] = part
    counts = run_lengths(part, (left, top), (17, 23))
    assert counts == run_lengths(whole, (0, 0), (17, 23))
    assert (decoded(counts, 23, 17) == whole).all()


def decoded(text, height, width):
    counts, index = [], 0
    while index < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[index]) - 48
            index += 1
            value |= (code & 0x1F) << shift
            shift += 5
            more = bool(code & 0x20)
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return values.reshape(width, height).T


def test_an_outline_is_moved_to_its_corner():
    mask = np.ones((2, 3), np.uint8)
    assert longest_outline(mask, (10, 20)).tolist() == [[10, 20], [10, 21], [12, 21], [12, 20]]
