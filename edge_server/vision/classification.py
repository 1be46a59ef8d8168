"""Classifiers: one score per class for the whole picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_server.vision.activations import sigmoid, softmax
from edge_server.vision.candidates import require_finite
from edge_server.vision.head import Decoder, HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import ClassScores
from engines.base import Array

_DEFAULT_CONFIDENCE = 0.5


def single_label(spec: HeadSpec) -> Decoder:
    """(C,) logits, or probabilities where the graph ends in softmax; the classes compete."""
    return _classifier(spec, multi_label=False)


def multi_label(spec: HeadSpec) -> Decoder:
    """(C,) logits, or probabilities where the graph ends in sigmoid; each class by itself."""
    return _classifier(spec, multi_label=True)


def _classifier(spec: HeadSpec, *, multi_label: bool) -> Decoder:
    shape, names = spec.output_shapes[0], spec.class_names
    if len(shape) != 2 or shape[1] != len(names):
        raise ValueError(f"its output is {shape}; expected (batch, {len(names)} classes)")
    activate = sigmoid if multi_label else softmax

    def decode(
        outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> list[ClassScores]:
        rows = next(iter(outputs.values()))[: len(placements)].astype(np.float32, copy=False)
        require_finite(rows)
        limit = _limit(spec, params, per_class=multi_label)
        answers = []
        for row in rows:
            scores = row if spec.fused else activate(row).astype(np.float32, copy=False)
            # The reference compares in double precision: 0.35 as float32 is below 0.35.
            above = scores.astype(np.float64) >= limit
            answers.append(ClassScores(scores, above, multi_label))
        return answers

    return decode


def _limit(spec: HeadSpec, params: InferParams, *, per_class: bool) -> Array | float:
    if not isinstance(params.confidence, str):
        return params.confidence
    if not per_class:
        return _DEFAULT_CONFIDENCE
    return spec.thresholds.resolve(params.confidence, spec.class_names, _DEFAULT_CONFIDENCE)
