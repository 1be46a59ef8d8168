"""What classifiers promise beyond the reference's fixtures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement

PLACEMENT = Placement((8, 8), (0, 0, 8, 8), (8, 8), (1.0, 1.0), (0, 0, 0, 0))


def classify(rows, params, *, task="classification", fused=False, thresholds=None, count=1):
    output = np.array(rows, np.float32)
    names = tuple("abcdefgh"[: output.shape[1]])
    spec = HeadSpec(names, (output.shape,), thresholds or Thresholds(), fused)
    return DECODERS[task, "resnet"](spec)({"output0": output}, [PLACEMENT] * count, params)


def test_every_picture_of_a_batch_is_answered_and_padding_is_not():
    found = classify([[9, 0], [0, 9], [9, 9]], InferParams(), count=2)
    assert [scores.scores.argmax() for scores in found] == [0, 1]


def test_probabilities_are_not_softened_twice():
    (found,) = classify([[0.9, 0.1]], InferParams(), fused=True)
    assert found.scores.tolist() == pytest.approx([0.9, 0.1])


def test_large_logits_do_not_overflow():
    (found,) = classify([[1000.0, -1000.0]], InferParams())
    assert found.scores.tolist() == [1.0, 0.0]
    (found,) = classify([[1000.0, -1000.0]], InferParams(), task="multi-label-classification")
    assert found.scores.tolist() == [1.0, 0.0]


def test_best_takes_the_threshold_of_each_label():
    thresholds = Thresholds(0.5, {"a": 0.9, "b": 0.2})
    (found,) = classify(
        [[2.0, -1.0, 0.1]],
        InferParams(confidence="best"),
        task="multi-label-classification",
        thresholds=thresholds,
    )
    assert found.above.tolist() == [False, True, True]


def test_one_class_and_a_thousand_classes():
    assert classify([[3.0]], InferParams())[0].scores.tolist() == [1.0]
    output = np.zeros((1, 1000), np.float32)
    output[0, 777] = 20
    spec = HeadSpec(tuple(map(str, range(1000))), (output.shape,))
    decode = DECODERS["classification", "vit"](spec)
    (found,) = decode({"output0": output}, [PLACEMENT], InferParams())
    assert np.flatnonzero(found.above).tolist() == [777]


def test_scores_that_are_no_number_are_an_error():
    with pytest.raises(ValueError, match="NaN or infinity"):
        classify([[np.nan, 1.0]], InferParams())


def test_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"its output is \(1, 3\); expected \(batch, 2 classes\)"):
        DECODERS["classification", "vit"](HeadSpec(("a", "b"), ((1, 3),)))
