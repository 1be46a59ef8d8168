"""What preprocessing promises beyond the reference's fixtures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_server.vision.params import InferParams
from edge_server.vision.preprocess import NetworkInput, StaticCrop, make_feed, make_preprocess
from engines.base import TensorSpec

RNG = np.random.default_rng(0)
MODES = ("stretch", "letterbox", "center-crop")
SIZES = [(48, 64), (640, 480), (1, 1000), (1000, 1), (1, 1), (33, 65), (2000, 1500)]


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def spec(dtype, *shape):
    return TensorSpec("images", np.dtype(dtype), shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [None, StaticCrop(10, 55, 20, 90)])
def test_boxes_come_back_to_the_picture_they_came_from(mode, size, crop):
    height, width = size
    network = NetworkInput(height=64, width=96, resize_mode=mode, static_crop=crop)
    pixels, (placement,) = make_preprocess(network)([noise(height, width)], InferParams())
    assert pixels.shape == (1, 64, 96, 3)
    corners = RNG.uniform(0, 1, (50, 2, 2)) * (width, height)
    boxes = np.hstack([corners.min(1), corners.max(1)]).astype(np.float32)
    forward = np.tile(placement.scale, 2), np.tile(placement.pad, 2), np.tile(placement.crop, 2)
    scale, pad, offset = (np.asarray(value, np.float32) for value in forward)
    back = placement.to_original((boxes - offset) * scale + pad)
    np.testing.assert_allclose(back, np.rint(boxes), atol=1)
    assert (back >= 0).all()
    assert (back <= [width, height, width, height]).all()


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_one_batch_do_not_touch_each_other(mode):
    preprocess = make_preprocess(NetworkInput(height=32, width=48, resize_mode=mode))
    pictures = [noise(20, 90), noise(64, 16), noise(32, 48)]
    together, _ = preprocess(pictures, InferParams())
    for picture, pixels in zip(pictures, together, strict=True):
        alone, _ = preprocess([picture], InferParams())
        np.testing.assert_array_equal(alone[0], pixels)


@pytest.mark.parametrize("size", SIZES)
def test_resizing_into_the_canvas_equals_a_plain_resize(size):
    picture = noise(*size)
    for mode in ("stretch", "letterbox"):
        network = NetworkInput(height=64, width=96, resize_mode=mode, padding_value=114)
        (pixels,), (placement,) = make_preprocess(network)([picture], InferParams())
        left, top = placement.pad
        width, height = 96, 64
        if mode == "letterbox":
            width, height = (max(1, int(side * placement.scale[0])) for side in size[::-1])
        expected = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        inner = pixels[top : top + height, left : left + width]
        np.testing.assert_array_equal(inner, expected)


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (1, 100_000)])
def test_the_thinnest_picture_still_covers_a_pixel(size):
    network = NetworkInput(height=64, width=64, resize_mode="letterbox", padding_value=114)
    white = np.full((*size, 3), 255, np.uint8)
    (pixels,), _ = make_preprocess(network)([white], InferParams())
    assert (pixels == 255).all(axis=2).sum() == 64


# Of the reference: size (x, y), percentages, corner (x, y) and size (x, y) of the crop.
CROPS = [
    ((21, 17), (15, 85, 10, 75), (3, 1), (14, 11)),
    ((21, 17), (0, 50, 33, 100), (0, 5), (10, 12)),
    ((101, 77), (15, 85, 10, 75), (15, 7), (70, 50)),
    ((101, 77), (0, 50, 33, 100), (0, 25), (50, 52)),
    ((640, 481), (15, 85, 10, 75), (96, 48), (448, 312)),
    ((640, 481), (0, 50, 33, 100), (0, 158), (320, 323)),
]


@pytest.mark.parametrize(("size", "edges", "corner", "cropped"), CROPS)
def test_both_edges_of_a_crop_are_truncated(size, edges, corner, cropped):
    view, found = StaticCrop(*edges).apply(noise(size[1], size[0]))
    assert found == corner
    assert view.shape == (cropped[1], cropped[0], 3)


def test_a_letterbox_is_padded_on_every_side_that_is_empty():
    network = NetworkInput(height=64, width=64, resize_mode="letterbox", padding_value=114)
    for size in ((1000, 1), (1, 1000), (30, 64)):
        (pixels,), (placement,) = make_preprocess(network)([noise(*size)], InferParams())
        left, top = placement.pad
        assert (pixels[:top] == 114).all()
        assert (pixels[:, :left] == 114).all()
        assert placement.scale[0] == placement.scale[1]


def test_the_caller_may_switch_off_crop_and_grey():
    network = NetworkInput(
        height=8,
        width=8,
        resize_mode="stretch",
        static_crop=StaticCrop(0, 50, 0, 50),
        grayscale=True,
    )
    picture = noise(16, 16)
    preprocess = make_preprocess(network)
    (full,), (placement,) = preprocess(
        [picture], InferParams(disable_static_crop=True, disable_grayscale=True)
    )
    plain = make_preprocess(NetworkInput(height=8, width=8, resize_mode="stretch"))
    np.testing.assert_array_equal(full, plain([picture], InferParams())[0][0])
    assert placement.crop == (0, 0)
    (cropped,), _ = preprocess([picture], InferParams())
    assert (cropped[..., 0] == cropped[..., 1]).all()


@pytest.mark.parametrize("edges", [(50, 50, 0, 10), (0, 101, 0, 10), (-1, 5, 0, 10), (0, 5, 9, 3)])
def test_a_crop_that_is_none_is_refused(edges):
    with pytest.raises(ValueError, match="edges must rise"):
        StaticCrop(*edges)


def test_an_engine_that_takes_pixels_gets_the_very_same_memory():
    network = NetworkInput(height=8, width=8, resize_mode="stretch")
    pixels, _ = make_preprocess(network)([noise(16, 16)], InferParams())
    fed = make_feed(network, spec(np.uint8, None, 8, 8, 3))(pixels)
    assert fed is pixels
    assert pixels.flags.c_contiguous


def test_half_precision_engines_get_half_precision():
    network = NetworkInput(height=8, width=8, resize_mode="stretch")
    pixels, _ = make_preprocess(network)([noise(16, 16)], InferParams())
    single = make_feed(network, spec(np.float32, 1, 3, 8, 8))(pixels)
    half = make_feed(network, spec(np.float16, 1, 3, 8, 8))(pixels)
    assert half.dtype == np.float16
    np.testing.assert_allclose(single, half, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (np.float32, (1, 3, 16, 8)),
        (np.float32, (1, 4, 8, 8)),
        (np.float32, (1, 8, 8, 3)),
        (np.uint8, (1, 3, 8, 8)),
        (np.int64, (1, 3, 8, 8)),
        (np.float32, (3, 8, 8)),
    ],
)
def test_an_input_that_cannot_be_fed_is_refused_by_name(dtype, shape):
    network = NetworkInput(height=8, width=8, resize_mode="stretch")
    with pytest.raises(ValueError, match=r"its input is images: .*; expected float"):
        make_feed(network, spec(dtype, *shape))
