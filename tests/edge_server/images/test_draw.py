"""Drawing, against the census of a reference picture."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_server.errors import ImageError
from edge_server.images.draw import draw, encode_jpeg
from tests.predictions import detections, grey_image

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "reference" / "visualise_boxes.json").read_text()
)
GREY = (200, 200, 200)
VIOLET = (0xFB, 0x51, 0xA3)
RED = (0x40, 0x40, 0xFF)


def reference_box():
    box = REFERENCE["params"]["prediction"]
    x, y, half_width, half_height = box["x"], box["y"], box["width"] / 2, box["height"] / 2
    corners = (x - half_width, y - half_height, x + half_width, y + half_height)
    return detections((*corners, box["confidence"], box["class_id"]))


def colored(image):
    """Mask of the pixels that are no longer background."""
    return (image != 200).any(axis=2)


def test_a_box_colors_as_many_pixels_as_the_reference():
    drawn = draw(reference_box(), grey_image(), ["cat"])
    expected = REFERENCE["expected"]["adapter_stroke1"]["census"]
    assert int(colored(drawn).sum()) == expected[1]["pixels"] == 72
    assert tuple(drawn[14, 19].tolist()) == VIOLET


def test_a_wider_stroke_covers_the_same_pixels_as_the_reference():
    drawn = draw(reference_box(), grey_image(), ["cat"], stroke=2)
    expected = REFERENCE["expected"]["stroke2_color_FF8000_no_label"]
    mask = colored(drawn)
    assert int(mask.sum()) == expected["census"][0]["pixels"]
    assert np.flatnonzero(mask.any(axis=1)).tolist() == expected["rows_with_color"]
    assert np.flatnonzero(mask.any(axis=0)).tolist() == expected["cols_with_color"]


@pytest.mark.parametrize("stroke", [0, -3])
def test_a_stroke_below_one_is_drawn_as_one(stroke):
    thin = draw(reference_box(), grey_image(), ["cat"], stroke=1)
    assert np.array_equal(draw(reference_box(), grey_image(), ["cat"], stroke=stroke), thin)


def test_the_picture_given_is_not_changed_even_when_read_only():
    image = grey_image()
    image.setflags(write=False)
    drawn = draw(reference_box(), image, ["cat"], labels=True)
    assert (image == 200).all()
    assert drawn.flags.writeable
    assert drawn.dtype == np.uint8


def test_no_detections_leave_a_copy_of_the_picture():
    image = grey_image()
    drawn = draw(detections(), image, [], labels=True)
    assert np.array_equal(drawn, image)
    assert drawn is not image


@pytest.mark.parametrize(
    ("class_id", "color"),
    [
        pytest.param(0, VIOLET, id="first color"),
        pytest.param(1, RED, id="second color"),
        pytest.param(20, (0xC9, 0x39, 0xFF), id="last color"),
        pytest.param(21, VIOLET, id="the palette starts again"),
    ],
)
def test_the_color_depends_on_the_class_only(class_id, color):
    drawn = draw(detections((5.9, 5.9, 20, 20, 0.5, class_id)), grey_image(), ["a"])
    assert tuple(drawn[5, 5].tolist()) == color


def texts_drawn(monkeypatch, class_id, score):
    texts = []
    monkeypatch.setattr(cv2, "putText", lambda canvas, text, *rest: texts.append(text))
    found = detections((10, 10, 30, 30, score, class_id))
    draw(found, grey_image(200, 100), ["cat"], labels=True)
    return texts


@pytest.mark.parametrize(
    ("class_id", "score", "text"),
    [
        pytest.param(0, 0.876, "cat 0.88", id="two decimals"),
        pytest.param(0, 1.0, "cat 1.00", id="trailing zeros"),
        pytest.param(7, 0.5, "7 0.50", id="class without a name"),
    ],
)
def test_a_label_tells_class_and_score(monkeypatch, class_id, score, text):
    assert texts_drawn(monkeypatch, class_id, score) == [text]


def test_a_label_is_a_button_in_the_color_of_the_class_inside_the_box_corner():
    drawn = draw(detections((20, 30, 190, 90, 0.5, 1)), grey_image(200, 100), ["cat"], labels=True)
    assert tuple(drawn[31, 21].tolist()) == RED
    assert tuple(drawn[29, 21].tolist()) == GREY
    button = drawn[30:60, 20:100]
    assert (button == 255).all(axis=2).any(), "white text"


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((190, 90, 199, 99), id="lower right corner"),
        pytest.param((-30, -30, 20, 20), id="beyond the upper left corner"),
        pytest.param((250, 150, 300, 200), id="outside the picture"),
    ],
)
def test_a_label_at_the_border_is_moved_inside_the_picture(box):
    drawn = draw(detections((*box, 0.5, 0)), grey_image(200, 100), ["cat"], labels=True)
    inner = draw(detections((50, 30, 51, 31, 0.5, 0)), grey_image(200, 100), ["cat"], labels=True)

    def white(image):
        return int((image == 255).all(axis=2).sum())

    assert white(drawn) == white(inner) > 0


def test_a_label_larger_than_the_picture_is_cut_off():
    drawn = draw(detections((2, 2, 5, 5, 0.5, 0)), grey_image(12, 8), ["x" * 80], labels=True)
    assert drawn.shape == (8, 12, 3)


def test_jpeg_is_encoded_and_keeps_colors():
    image = np.full((16, 24, 3), (10, 200, 60), np.uint8)
    encoded = encode_jpeg(image)
    assert encoded.startswith(bytes.fromhex(REFERENCE["expected"]["jpeg_magic"]))
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - image).max() <= 4


def test_jpeg_quality_is_a_choice():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    assert len(encode_jpeg(noise, quality=30)) < len(encode_jpeg(noise))


def test_a_picture_too_wide_for_jpeg_is_refused_with_a_sentence():
    with pytest.raises(ImageError, match="70000 x 1 pixels does not fit a JPEG"):
        encode_jpeg(np.zeros((1, 70000, 3), np.uint8))
