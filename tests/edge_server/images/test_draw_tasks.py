"""Drawing of masks, keypoints, classes of pictures and classes of pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_server.images.draw import draw
from edge_server.vision.predictions import (
    ClassScores,
    InstanceMasks,
    KeyPoints,
    SemanticMap,
)
from tests.predictions import detections, grey_image

# The first colours of the palette, as blue, green, red.
VIOLET, RED, PINK = (0xFB, 0x51, 0xA3), (0x40, 0x40, 0xFF), (0xA0, 0xA1, 0xFF)
GREY = (200, 200, 200)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def pixel(image, x, y):
    return tuple(image[y, x].tolist())


def count(image, color):
    return int((image == color).all(axis=2).sum())


def outlined(*corners, size=(60, 40)):
    polygon = np.array(corners, np.int32).reshape(-1, 2)
    return InstanceMasks(detections((5, 5, 55, 35, 0.9, 1)), (polygon,), None, size)


def test_an_outline_is_closed_and_not_filled():
    drawn = draw(outlined((10, 10), (50, 10), (50, 30), (10, 30)), grey_image(), ["cat"])
    for corner in ((10, 10), (50, 10), (50, 30), (10, 30), (10, 20), (30, 10)):
        assert pixel(drawn, *corner) == RED
    assert pixel(drawn, 30, 20) == GREY
    assert pixel(drawn, 5, 5) == pixel(drawn, 55, 35) == RED, "the box is drawn too"


@pytest.mark.parametrize("corners", [[], [(30, 20)], [(20, 20), (40, 20)]])
def test_less_than_three_corners_are_no_outline(corners):
    drawn = draw(outlined(*corners), grey_image(), ["cat"])
    only_box = draw(detections((5, 5, 55, 35, 0.9, 1)), grey_image(), ["cat"])
    assert np.array_equal(drawn, only_box)


def test_a_coarse_mask_is_drawn_where_it_is_in_the_picture():
    polygon = np.array([(2, 2), (10, 2), (10, 6), (2, 6)], np.int32)
    coarse = InstanceMasks(detections((1, 1, 11, 7, 0.9, 1)), (polygon,), None, (12, 8))
    fine = outlined((10, 10), (50, 10), (50, 30), (10, 30))
    image = grey_image()
    labels = {"class_names": ["a", "b"], "labels": True}
    assert np.array_equal(draw(coarse, image, **labels), draw(fine, image, **labels))


def pose(*points, confidence=0.9, class_id=0):
    array = np.array([points], np.float32)
    confidences = np.full(array.shape[:2], confidence, np.float32)
    return KeyPoints(detections((2, 2, 57, 37, 0.9, class_id)), array, confidences)


@pytest.mark.parametrize("stroke", [1, 4])
def test_a_keypoint_is_a_disc_with_a_rim(stroke):
    drawn = draw(pose((29.6, 20.4)), grey_image(), ["cat"], stroke=stroke)
    assert pixel(drawn, 30, 20) == pixel(drawn, 30 + stroke, 20) == VIOLET
    assert pixel(drawn, 30, 20 - stroke) == VIOLET
    assert pixel(drawn, 30 + stroke + 1, 20) == WHITE
    assert pixel(drawn, 30 + stroke + 2, 20) == GREY


@pytest.mark.parametrize(
    "point",
    [(-30, 20), (30, 1e12), (np.nan, 20), (np.inf, 20), (61.5, 20)],
    ids=["left of", "far below", "nowhere", "endless", "just right of"],
)
def test_keypoints_outside_the_picture_are_not_drawn(point):
    drawn = draw(pose(point), grey_image(), ["cat"])
    only_box = draw(detections((2, 2, 57, 37, 0.9, 0)), grey_image(), ["cat"])
    assert np.array_equal(drawn, only_box)


def test_keypoints_that_were_not_found_are_not_drawn():
    drawn = draw(pose((30, 20), confidence=0), grey_image(), ["cat"])
    assert pixel(drawn, 30, 20) == GREY


def test_nobody_is_drawn():
    nobody = KeyPoints(detections(), np.zeros((0, 3, 2), np.float32), np.zeros((0, 3), np.float32))
    nothing = InstanceMasks(detections(), (), None, (60, 40))
    for prediction in (nobody, nothing):
        drawn = draw(prediction, grey_image(), ["cat"], labels=True)
        assert np.array_equal(drawn, grey_image())


def scores(*values, threshold=0.5, multi_label=False):
    array = np.array(values, np.float32)
    return ClassScores(array, array >= threshold, multi_label)


@pytest.mark.parametrize(("width", "height"), [(200, 80), (80, 200)], ids=["landscape", "portrait"])
@pytest.mark.parametrize("stroke", [1, 3])
def test_the_class_of_a_picture_is_a_border_all_around(width, height, stroke):
    drawn = draw(scores(0.1, 0.9), grey_image(width, height), ["a", "b"], stroke=stroke)
    inner = drawn[40:-stroke, stroke:-stroke]  # below the button
    assert (inner == 200).all()
    for edge in (drawn[40:, :stroke], drawn[40:, -stroke:], drawn[-stroke:], drawn[:stroke, 80:]):
        assert (edge == RED).all()


def texts_drawn(monkeypatch, prediction, names, image=None, **options):
    texts = []
    monkeypatch.setattr(cv2, "putText", lambda canvas, text, *rest: texts.append(text))
    draw(prediction, grey_image(300, 200) if image is None else image, names, **options)
    return texts


@pytest.mark.parametrize(
    ("found", "texts"),
    [
        pytest.param(scores(0.1, 0.876), ["1 - dog 0.88"], id="the best of them"),
        pytest.param(scores(0.1, 0.2, 0.7), ["2 - 2 0.70"], id="class without a name"),
        pytest.param(scores(0.6, 0.9, threshold=0.5), ["1 - dog 0.90"], id="only the best"),
        pytest.param(scores(0.4, 0.4), [], id="none above"),
        pytest.param(
            scores(0.6, 0.9, multi_label=True), ["0 - cat 0.60", "1 - dog 0.90"], id="several"
        ),
        pytest.param(scores(0.6, 0.1, multi_label=True), ["0 - cat 0.60"], id="one of several"),
        pytest.param(scores(0.1, 0.1, multi_label=True), [], id="none of several"),
        pytest.param(scores(multi_label=True), [], id="no classes at all"),
    ],
)
def test_the_classes_of_a_picture_are_told(monkeypatch, found, texts):
    assert texts_drawn(monkeypatch, found, ["cat", "dog"]) == texts


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_picture_of_no_class_is_not_changed(multi_label):
    drawn = draw(scores(0.1, 0.2, multi_label=multi_label), grey_image(), ["a", "b"])
    assert np.array_equal(drawn, grey_image())


def test_the_buttons_of_several_classes_are_stacked():
    drawn = draw(scores(0.9, 0.6, 0.8, multi_label=True), grey_image(200, 200), ["a", "b", "c"])
    assert pixel(drawn, 4, 4) == VIOLET
    height = int((drawn[:, 4] == VIOLET).all(axis=1)[:100].sum())
    assert pixel(drawn, 4, height + 4) == RED
    assert pixel(drawn, 4, 2 * height + 4) == PINK
    assert pixel(drawn, 4, 3 * height + 4) == GREY
    assert pixel(drawn, 199, 199) == VIOLET, "the border has the colour of the best"


def test_buttons_that_do_not_fit_are_left_out(monkeypatch):
    many = scores(*[0.9] * 20, multi_label=True)
    small = grey_image(200, 100)
    assert 1 < len(texts_drawn(monkeypatch, many, [], small)) < 5
    assert len(texts_drawn(monkeypatch, many, [], grey_image(9, 9))) == 1


@pytest.mark.parametrize(
    ("class_id", "color"), [(0, WHITE), (1, WHITE), (2, BLACK), (5, BLACK), (17, WHITE)]
)
def test_text_can_be_read_on_its_button(class_id, color):
    found = scores(*[0.0] * class_id, 0.9)
    button = draw(found, grey_image(200, 100), [])[2:30, 2:80]
    assert count(button, color) > 10


def class_map(rows):
    class_ids = np.array(rows, np.uint8)
    return SemanticMap(class_ids, np.full_like(class_ids, 200))


def test_pixels_are_tinted_and_the_background_is_not():
    found = class_map([[0, 1, 2], [0, 0, 30]])
    drawn = draw(found, grey_image(3, 2), ["Background", "road"])
    assert pixel(drawn, 0, 0) == pixel(drawn, 1, 1) == GREY
    assert pixel(drawn, 1, 0) == (132, 132, 228)  # half of RED, half of GREY
    assert pixel(drawn, 2, 0) == (180, 180, 228)  # 90.5 rounds half to even
    assert pixel(drawn, 2, 1) == (132, 175, 114)  # the palette starts again after 21 classes


def test_without_a_background_every_class_is_tinted():
    drawn = draw(class_map([[0, 1]]), grey_image(2, 1), ["sky", "road"])
    assert GREY not in (pixel(drawn, 0, 0), pixel(drawn, 1, 0))


def test_the_background_may_be_any_class():
    drawn = draw(class_map([[0, 1]]), grey_image(2, 1), ["road", "background"])
    assert pixel(drawn, 1, 0) == GREY
    assert pixel(drawn, 0, 0) != GREY


def test_a_legend_tells_what_is_there(monkeypatch):
    class_ids = np.zeros((200, 300), np.uint8)
    class_ids[:50] = 2
    found = SemanticMap(class_ids, class_ids)
    names = ["background", "road", "car"]
    assert texts_drawn(monkeypatch, found, names, labels=True) == ["car 25.0%"]
    assert texts_drawn(monkeypatch, found, names) == []


def test_the_widest_stroke_is_bounded():
    for prediction in (
        detections((5, 5, 55, 35, 0.9, 1)),
        outlined((10, 10), (50, 10), (50, 30)),
        pose((30, 20)),
        scores(0.9),
        class_map(np.zeros((40, 60))),
    ):
        drawn = draw(prediction, grey_image(), ["cat"], labels=True, stroke=10**9)
        assert drawn.shape == (40, 60, 3)


@pytest.mark.parametrize(
    "prediction",
    [scores(0.9), class_map([[1, 0], [1, 1]]), pose((1, 1)), outlined((0, 0), (1, 0), (1, 1))],
)
def test_the_picture_given_is_not_changed(prediction):
    image = grey_image(2, 2)
    image.setflags(write=False)
    drawn = draw(prediction, image, ["a", "b"], labels=True)
    assert (image == 200).all()
    assert drawn.flags.writeable
