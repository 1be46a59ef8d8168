"""What preprocessing promises beyond the reference's fixtures."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import cv2
import numpy as np
import pytest

from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.preprocess import (
    Contrast,
    NetworkInput,
    ResizeMode,
    StaticCrop,
    make_feed,
    make_preprocess,
)
from engines.base import TensorSpec
from tests.support import ROOT

RNG = np.random.default_rng(0)
MODES = get_args(ResizeMode)
FIXED_MODES = ("stretch", "letterbox", "center-crop")
SIZES = [(48, 64), (640, 480), (1, 1000), (1000, 1), (1, 1), (33, 65), (2000, 1500)]
HALF = StaticCrop(10, 55, 20, 90)

# Every way into a network of 96 x 64.
WAYS = {
    **{mode: {"resize_mode": mode} for mode in MODES},
    **{
        f"antialias after {mode}": {
            "resize_mode": mode,
            "antialias": True,
            "dataset_size": (80, 70),
        }
        for mode in MODES
    },
    "antialias at once": {"resize_mode": "letterbox", "antialias": True},
}


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def spec(dtype, *shape):
    return TensorSpec("images", np.dtype(dtype), shape)


def network_of(way, **others):
    return NetworkInput(height=64, width=96, **WAYS[way], **others)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [None, HALF])
def test_points_come_back_to_the_picture_they_came_from(way, size, crop):
    height, width = size
    network = network_of(way, static_crop=crop)
    pixels, (placement,) = make_preprocess(network)([noise(height, width)], InferParams())
    left, top, inner_width, inner_height = placement.crop
    assert placement.original == (width, height)
    assert left + inner_width <= width
    assert top + inner_height <= height
    if way == "fit-longer-edge":
        assert placement.frame == (pixels.shape[2], pixels.shape[1])
    else:
        assert pixels.shape == (1, 64, 96, 3)
    for side, axis in ((inner_width, 0), (inner_height, 1)):
        before, after = placement.pad[axis], placement.pad[axis + 2]
        inside = placement.frame[axis] - before - after
        assert abs(inside - side * placement.scale[axis]) < 1, "pads and picture fill the frame"
    points = (RNG.uniform(0, 1, (50, 2)) * (width, height)).astype(np.float32)
    on_canvas = (points - (left, top)) * placement.scale + placement.pad[:2]
    np.testing.assert_allclose(
        placement.to_original(on_canvas.astype(np.float32)), points, rtol=1e-4, atol=1e-2
    )


EXTREMES = [(1, 1), (1, 5000), (5000, 1), (6000, 8000)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", EXTREMES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("crop", [None, HALF], ids=["whole", "cropped"])
def test_extreme_pictures_work_in_every_mode(way, size, crop):
    white = np.full((*size, 3), 255, np.uint8)
    network = network_of(way, static_crop=crop)
    pixels, (placement,) = make_preprocess(network)([white], InferParams())
    assert pixels.size > 0
    assert pixels.max() > 0
    assert min(placement.crop[2:]) > 0
    assert min(placement.frame) > 0
    assert np.isfinite(placement.to_original(np.zeros((1, 2), np.float32))).all()


@pytest.mark.parametrize("mode", FIXED_MODES)
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
        left, top = placement.pad[:2]
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
        left, top = placement.pad[:2]
        assert (pixels[:top] == 114).all()
        assert (pixels[:, :left] == 114).all()
        assert placement.scale[0] == placement.scale[1]


STEPS = {
    "static_crop": StaticCrop(0, 50, 0, 50),
    "grayscale": True,
    "contrast": "Contrast Stretching",
}


@pytest.mark.parametrize("step", STEPS)
def test_the_caller_may_switch_off_each_step(step):
    picture = noise(16, 16) // 2
    size = {"height": 8, "width": 8, "resize_mode": "stretch"}
    without = {name: value for name, value in STEPS.items() if name != step}
    expected, _ = make_preprocess(NetworkInput(**size, **without))([picture], InferParams())
    preprocess = make_preprocess(NetworkInput(**size, **STEPS))
    switched_off, _ = preprocess([picture], InferParams(**{f"disable_{step}": True}))
    np.testing.assert_array_equal(switched_off, expected)
    everything, (placement,) = preprocess([picture], InferParams())
    assert (everything != expected).any()
    assert placement.crop == (0, 0, 8, 8)


def test_contrast_comes_after_crop_and_grey():
    """It sees only what the crop left: brightness from 60 to 90, spread over 0 to 255."""
    picture = np.full((20, 20, 3), 255, np.uint8)
    picture[:10, :10] = np.linspace(60, 90, 10)[:, None, None]
    network = NetworkInput(height=10, width=10, resize_mode="center-crop", **STEPS)
    (pixels,), _ = make_preprocess(network)([picture], InferParams())
    assert pixels[:, 0, 0].tolist() == [0, 25, 51, 85, 110, 136, 170, 195, 221, 255]
    assert (pixels == pixels[:, :1, :1]).all()


@pytest.mark.parametrize("contrast", get_args(Contrast))
def test_every_contrast_is_applied_before_the_resize(contrast):
    picture = noise(40, 40) // 4 + 60
    network = NetworkInput(height=40, width=40, resize_mode="stretch", contrast=contrast)
    (pixels,), _ = make_preprocess(network)([picture], InferParams())
    assert pixels.min() < 10
    assert pixels.max() > 245


# Sizes are (width, height), the network is 96 x 64.
FITTED = [
    pytest.param((960, 640), (96, 64), id="same proportions"),
    pytest.param((13, 7), (96, 52), id="wide: 51.7 is rounded up"),
    pytest.param((7, 13), (34, 64), id="high: 34.46 is rounded down"),
    pytest.param((5000, 1), (96, 1), id="never less than a pixel high"),
    pytest.param((1, 5000), (1, 64), id="never less than a pixel wide"),
]


@pytest.mark.parametrize(("size", "fitted"), FITTED)
def test_the_longer_edge_fits_and_the_other_follows(size, fitted):
    preprocess = make_preprocess(network_of("fit-longer-edge"))
    pixels, placements = preprocess([noise(size[1], size[0])] * 2, InferParams())
    assert [placement.frame for placement in placements] == [fitted] * 2
    assert pixels.shape == (2, fitted[1], fitted[0], 3)
    assert pixels.flags.c_contiguous


def test_pictures_that_come_out_differently_cannot_be_one_batch():
    preprocess = make_preprocess(network_of("fit-longer-edge"))
    with pytest.raises(ValueError, match=r"\(64, 64\), \(96, 64\).*one by one"):
        preprocess([noise(10, 10), noise(64, 96)], InferParams())


ANTIALIASED = [
    pytest.param({}, ((96, 64), (0.096, 0.32), (0, 0, 0, 0)), id="stretch"),
    pytest.param(
        {"resize_mode": "letterbox"},
        ((96, 64), (0.096, 0.32), (0, 0, 0, 0)),
        id="letterbox without a size of the dataset is a stretch",
    ),
    pytest.param(
        {"dataset_size": (100, 70)},
        ((96, 64), (0.096, 0.32), (0, 0, 0, 0)),
        id="stretch to the size of the dataset is skipped",
    ),
    pytest.param(
        {"dataset_size": (100, 70), "resize_mode": "letterbox"},
        ((100, 70), (0.1, 0.1), (0, 25, 0, 25)),
        id="letterbox into the size of the dataset",
    ),
    pytest.param(
        {"dataset_size": (500, 300), "resize_mode": "center-crop"},
        ((500, 300), (1.0, 1.0), (-250, 50, -250, 50)),
        id="cut and pad to the size of the dataset",
    ),
    pytest.param(
        {"dataset_size": (100, 70), "resize_mode": "fit-longer-edge"},
        ((100, 20), (0.1, 0.1), (0, 0, 0, 0)),
        id="fit into the size of the dataset",
    ),
]


@pytest.mark.parametrize(("fields", "geometry"), ANTIALIASED)
def test_antialiased_pictures_are_placed_where_the_dataset_had_them(fields, geometry):
    network = NetworkInput(
        height=64, width=96, antialias=True, **{"resize_mode": "stretch", **fields}
    )
    pixels, (placement,) = make_preprocess(network)([noise(200, 1000)], InferParams())
    assert pixels.shape == (1, 64, 96, 3)
    assert placement == Placement((1000, 200), (0, 0, 1000, 200), *geometry)


def test_antialiasing_averages_what_a_plain_resize_skips():
    stripes = np.zeros((64, 640, 3), np.uint8)
    stripes[:, ::10] = 255
    network = NetworkInput(height=64, width=64, resize_mode="stretch", antialias=True)
    (smooth,), _ = make_preprocess(network)([stripes], InferParams())
    assert set(smooth[:, 2:-2].ravel()) <= {25, 26}
    plain = NetworkInput(height=64, width=64, resize_mode="stretch")
    (aliased,), _ = make_preprocess(plain)([stripes], InferParams())
    assert aliased.max() == 0


@pytest.mark.parametrize(
    ("antialias", "loads"),
    [pytest.param(False, "False", id="YOLO"), pytest.param(True, "True", id="RF-DETR")],
)
def test_pillow_is_loaded_only_for_networks_that_need_it(antialias, loads):
    program = f"""
import sys, numpy as np
from edge_server.vision.params import InferParams
from edge_server.vision.preprocess import NetworkInput, make_preprocess
network = NetworkInput(height=8, width=8, resize_mode="letterbox", antialias={antialias})
make_preprocess(network)([np.zeros((9, 9, 3), np.uint8)], InferParams())
print("PIL" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == loads


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5000, 1)])
def test_a_crop_of_a_tiny_picture_keeps_a_pixel(size):
    view, (left, top) = StaticCrop(40, 41, 98, 99).apply(noise(*size))
    assert min(view.shape) >= 1
    assert left + view.shape[1] <= size[1]
    assert top + view.shape[0] <= size[0]


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


# One pixel of BGR (10, 20, 30), the fields of the network, and what it is fed in its own order.
SCALES = [
    pytest.param({}, [30 / 255, 20 / 255, 10 / 255], id="RGB by 255"),
    pytest.param({"color_mode": "bgr"}, [10 / 255, 20 / 255, 30 / 255], id="BGR"),
    pytest.param({"scaling_factor": None}, [30, 20, 10], id="no scaling casts only"),
    pytest.param({"scaling_factor": 2.0}, [15, 10, 5], id="another factor"),
    pytest.param(
        {"scaling_factor": 10.0, "normalization": ((1, 1, 1), (2, 1, 0.5))},
        [1, 1, 0],
        id="mean and deviation after scaling",
    ),
    pytest.param(
        {"scaling_factor": None, "normalization": ((20, 20, 20), (10, 5, 2))},
        [1, 0, -5],
        id="mean and deviation of 0 to 255",
    ),
    pytest.param({"antialias": True}, [30 / 255, 20 / 255, 10 / 255], id="RF-DETR by 255"),
    pytest.param(
        {"antialias": True, "scaling_factor": None},
        [30 / 255, 20 / 255, 10 / 255],
        id="RF-DETR without a factor still by 255",
    ),
    pytest.param(
        {"antialias": True, "scaling_factor": 10.0}, [3, 2, 1], id="RF-DETR by another factor"
    ),
    pytest.param(
        {"antialias": True, "scaling_factor": 1.0}, [30, 20, 10], id="RF-DETR by factor one"
    ),
    pytest.param(
        {"antialias": True, "scaling_factor": 10.0, "normalization": ((0, 0, 0), (1, 1, 0.5))},
        [30 / 255, 20 / 255, 20 / 255],
        id="RF-DETR normalised: by 255 whatever the factor",
    ),
]


@pytest.mark.parametrize(("fields", "fed"), SCALES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_are_scaled_and_normalised(fields, fed, dtype):
    network = NetworkInput(height=1, width=1, resize_mode="stretch", **fields)
    pixel = np.array([[[[10, 20, 30]]]], np.uint8)
    tensor = make_feed(network, spec(dtype, None, 3, 1, 1))(pixel)
    assert tensor.dtype == dtype
    assert tensor.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(tensor.ravel(), fed, rtol=1e-3 if dtype == np.float16 else 1e-6)
