"""What the heads of RF-DETR promise beyond the reference's fixtures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement

PLACEMENT = Placement((100, 50), (0, 0, 100, 50), (64, 64), (0.64, 1.28), (0, 0, 0, 0))


def outputs(*queries, masks=None):
    """Each query is a box cx cy w h from 0 to 1 and its logits."""
    boxes = np.array([[box for box, _ in queries]], np.float32)
    logits = np.array([[row for _, row in queries]], np.float32)
    named = {"dets": boxes, "labels": logits}
    return named if masks is None else {**named, "masks": masks}


def decode(tensors, params=None, *, task="object-detection", names=("cat", "dog"), removed=()):
    shapes = tuple(tensor.shape for tensor in tensors.values())
    spec = HeadSpec(names, shapes, removed_columns=removed)
    return DECODERS[task, "rfdetr"](spec)(tensors, [PLACEMENT], params or InferParams())[0]


def test_boxes_are_fractions_of_the_network_input():
    found = decode(outputs(([0.5, 0.5, 0.2, 0.4], [3, -3])))
    assert found.boxes.tolist() == [[40, 15, 60, 35]]


def test_a_column_taken_out_moves_the_ids_behind_it_down():
    box, low = [0.5, 0.5, 0.2, 0.4], [-9, -9, -9]
    tensors = outputs((box, [-3, 5, 3]), (box, [2, -9, -9]), (box, low))
    found = decode(tensors, removed=(1,))
    assert found.class_ids.tolist() == [1, 0]


def test_max_detections_counts_for_masks_only():
    queries = [([0.5, 0.5, 0.2, 0.4], [3, -3]), ([0.4, 0.5, 0.2, 0.4], [2, -3])]
    params = InferParams(max_detections=1)
    assert len(decode(outputs(*queries), params)) == 2
    masks = np.full((1, 2, 8, 8), -1, np.float32)
    masks[0, :, 2:6, 2:6] = 1
    found = decode(outputs(*queries, masks=masks), params, task="instance-segmentation")
    assert len(found.detections) == len(found.polygons) == 1


def test_a_mask_is_not_cut_to_its_box():
    masks = np.full((1, 1, 8, 8), -1, np.float32)
    masks[0, 0, :, 4:] = 1
    tensors = outputs(([0.1, 0.1, 0.1, 0.1], [3, -3]), masks=masks)
    found = decode(tensors, task="instance-segmentation")
    # Half of the grid: columns from the middle, where the logits cross zero.
    assert found.polygons[0].tolist() == [[50, 0], [50, 49], [99, 49], [99, 0]]


def test_the_scores_of_other_classes_take_places_among_the_best():
    """Two queries: only the two best of six scores compete, the nameless one among them."""
    tensors = outputs(([0.5, 0.5, 0.2, 0.4], [2, 1, 4]), ([0.2, 0.2, 0.1, 0.1], [-9, -9, -9]))
    found = decode(tensors)
    assert found.class_ids.tolist() == [0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_an_error(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        decode(outputs(([0.5, 0.5, 0.2, 0.4], [value, 0])))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 9, 4),), r"expected \(batch, queries, 4\)"),
        (((1, 9, 5), (1, 9, 2)), r"expected \(batch, queries, 4\)"),
        (((1, 9, 4), (1, 9, 1)), "1 class columns; expected 2 or more"),
    ],
)
def test_outputs_of_another_family_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        DECODERS["object-detection", "rfdetr"](HeadSpec(("cat", "dog"), shapes))
