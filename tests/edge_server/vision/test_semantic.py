"""What class maps promise beyond the reference's fixtures."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement


def paint(output, names, *, size=(16, 16), pad=(0, 0, 0, 0), params=None, family="deeplabv3plus"):
    inner = (16 - pad[0] - pad[2], 16 - pad[1] - pad[3])
    scale = (inner[0] / size[0], inner[1] / size[1])
    placement = Placement(size, (0, 0, *size), (16, 16), scale, pad)
    decode = DECODERS["semantic-segmentation", family](HeadSpec(names, (output.shape,)))
    (found,) = decode({"output0": output}, [placement], params or InferParams())
    return found


def halves(*levels, grid=(8, 8)):
    """Logits per class: ``left`` in the left half of the grid, ``right`` in the right half."""
    logits = np.zeros((1, len(levels), *grid), np.float32)
    for channel, (left, right) in enumerate(levels):
        logits[0, channel, :, : grid[1] // 2] = left
        logits[0, channel, :, grid[1] // 2 :] = right
    return logits


def test_the_background_may_stand_anywhere_in_the_list():
    found = paint(halves((9, 0), (0, 9)), ("road", "Background"))
    assert found.class_ids[0, [0, 15]].tolist() == [0, 1]
    found = paint(halves((9, -9)), ("Background", "road"))
    assert found.class_ids[0, [0, 15]].tolist() == [1, 0]


def test_pixels_below_the_threshold_are_background_without_confidence():
    logits = halves((0, 0), (1, 9))
    found = paint(logits, ("background", "road"), params=InferParams(confidence=0.9))
    assert found.class_ids[0, [0, 15]].tolist() == [0, 1]
    assert found.confidences[0, [0, 15]].tolist() == [0, 254]


def test_class_ids_from_the_graph_are_enlarged_without_mixing():
    ids = np.zeros((1, 16, 16), np.uint8)
    ids[0, 4:12] = 2  # the letterbox leaves these rows to the picture
    found = paint(
        ids, ("background", "road", "car"), size=(40, 20), pad=(0, 4, 0, 4), family="yolo26"
    )
    assert np.unique(found.class_ids).tolist() == [2]
    assert np.unique(found.confidences).tolist() == [255]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_pictures_of_any_shape(size):
    found = paint(halves((0, 0), (9, 9)), ("background", "road"), size=size)
    assert found.class_ids.shape == (size[1], size[0])
    assert found.class_ids.all()


def test_memory_is_bounded_by_the_maps_not_by_the_classes():
    logits = np.random.default_rng(0).normal(size=(1, 21, 64, 64)).astype(np.float32)
    names = ("background", *map(str, range(20)))
    paint(logits, names, size=(4000, 3000))
    tracemalloc.start()
    paint(logits, names, size=(4000, 3000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 12e6 + 64e6  # the two maps, and some working space


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_number_are_an_error(value):
    logits = halves((0, 0), (9, 9))
    logits[0, 1, 3, 3] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        paint(logits, ("background", "road"))


@pytest.mark.parametrize(
    ("names", "shape", "message"),
    [
        (("road", "car"), (1, 2, 8, 8), "its classes are road, car; expected 'background'"),
        (("background", "road"), (1, 5, 8, 8), r"\(1, 5, 8, 8\); expected \(batch, 2 classes"),
        (("background", "road"), (1, 2), r"\(1, 2\); expected \(batch, 2 classes"),
    ],
)
def test_outputs_of_another_family_are_refused(names, shape, message):
    with pytest.raises(ValueError, match=message):
        paint(np.zeros(shape, np.float32), names)
