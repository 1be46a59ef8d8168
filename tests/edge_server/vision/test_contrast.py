"""Contrast steps: literal results of scikit-image 0.26, and what they promise beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.contrast import equalize, equalize_adaptive, stretch_contrast

STEPS = [stretch_contrast, equalize, equalize_adaptive]
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)


def gradient():
    """18 x 16, each channel another slope, with one black pixel in row 3, column 3."""
    y, x = np.mgrid[:16, :18]
    picture = np.dstack([40 + 3 * x + 2 * y, 60 + x + 4 * y, 200 - 5 * x]).astype(np.uint8)
    picture[3, 3] = 0
    return picture


# Columns 0, 3, 9 and 17 of rows 3 and 12.
GRADIENTS = [
    pytest.param(
        stretch_contrast,
        [[0, 37, 255], [0, 0, 0], [38, 53, 184], [81, 67, 113]],
        [[23, 100, 255], [38, 106, 237], [70, 116, 184], [113, 131, 113]],
        id="stretched",
    ),
    pytest.param(
        equalize,
        [[2, 37, 255], [0, 0, 0], [41, 64, 212], [109, 87, 151]],
        [[20, 134, 255], [41, 140, 240], [93, 157, 212], [151, 174, 151]],
        id="equalised",
    ),
    pytest.param(
        equalize_adaptive,
        [[58, 91, 255], [0, 0, 0], [80, 88, 170], [143, 131, 170]],
        [[81, 137, 255], [67, 102, 170], [99, 128, 170], [156, 170, 156]],
        id="equalised by tiles",
    ),
]


@pytest.mark.parametrize(("step", "row_3", "row_12"), GRADIENTS)
def test_a_gradient_comes_out_as_from_scikit_image(step, row_3, row_12):
    result = step(gradient())
    assert result.dtype == np.uint8
    assert result[3, [0, 3, 9, 17]].tolist() == row_3
    assert result[12, [0, 3, 9, 17]].tolist() == row_12


# By colour of a single pixel: what becomes of it when stretched, equalised, equalised by tiles.
PIXELS = [
    pytest.param((0, 0, 0), [(0, 0, 0), (127, 127, 127), (255, 255, 255)], id="black"),
    pytest.param((77, 77, 77), [(77, 77, 77), (127, 127, 127), (255, 255, 255)], id="grey"),
    pytest.param((10, 20, 30), [(0, 127, 255), (85, 127, 255), (85, 170, 255)], id="brown"),
    pytest.param((255, 255, 255), [(255,) * 3, (127, 127, 127), (255,) * 3], id="white"),
]


@pytest.mark.parametrize(("colour", "expected"), PIXELS)
def test_a_single_pixel_comes_out_as_from_scikit_image(colour, expected):
    picture = np.full((1, 1, 3), colour, np.uint8)
    assert [tuple(step(picture)[0, 0].tolist()) for step in STEPS] == expected


@each_step
@pytest.mark.parametrize("size", [(1, 7), (7, 1), (2, 3), (8, 8), (15, 17), (1, 5000), (5000, 1)])
def test_pictures_of_any_size_keep_it(step, size):
    picture = np.random.default_rng(0).integers(60, 120, (*size, 3), dtype=np.uint8)
    result = step(picture)
    assert result.shape == picture.shape
    assert result.max() > 240


@each_step
def test_a_picture_is_only_read(step):
    picture = gradient()
    picture.flags.writeable = False
    view = np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1)[::2, ::2]  # of another layout
    np.testing.assert_array_equal(step(view), step(picture))


@each_step
def test_grey_stays_grey(step):
    grey = np.repeat(gradient()[..., :1], 3, axis=2)
    result = step(grey)
    assert (result == result[..., :1]).all()


def test_outliers_do_not_hold_the_stretch_back():
    picture = np.tile(np.linspace(100, 150, 50).astype(np.uint8)[:, None, None], (1, 50, 3))
    picture[0, 0], picture[-1, -1] = 0, 255
    result = stretch_contrast(picture)
    assert result[1, :, 0].max() <= 5
    assert result[-2, :, 0].min() >= 250


def test_tiles_bring_out_what_is_dark_beside_what_is_bright():
    picture = np.full((80, 160, 3), 5, np.uint8)
    picture[::2, :60] = 8
    picture[:, 100:] = 250
    result = equalize_adaptive(picture).astype(int)
    assert (result[30, :40] - result[31, :40]).min() > 3 * (8 - 5)


def test_no_channel_exceeds_the_brightness_that_a_pixel_gets():
    picture = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    result = equalize_adaptive(picture)
    np.testing.assert_array_equal(
        np.take_along_axis(result, picture.argmax(2)[..., None], 2)[..., 0], result.max(2)
    )
