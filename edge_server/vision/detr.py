"""The heads of RF-DETR: a fixed number of queries, each with a box and class logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.vision.activations import sigmoid
from edge_server.vision.boxes import xywh_to_xyxy
from edge_server.vision.candidates import (
    Candidates,
    ClassChannels,
    Head,
    limit_of,
    require_finite,
)
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from engines.base import Array


def queries(spec: HeadSpec, default: float, *, masks: bool) -> Head:
    """Boxes (Q, 4) cx cy w h from 0 to 1, logits (Q, C), and mask logits (Q, h, w).

    The best Q of all Q x C scores compete, so that one query may give several classes and a
    background column takes places. Nothing is suppressed.

    Args:
        spec: see ``HeadSpec``.
        default: the family's confidence.
        masks: whether the third output is read; ``max_detections`` counts only then, as in
            the reference.
    """
    shapes = spec.output_shapes[: 3 if masks else 2]
    ranks = [len(shape) for shape in shapes]
    alike = len({shape[1:2] for shape in shapes}) == 1
    if ranks != ([3, 3, 4] if masks else [3, 3]) or shapes[0][2] != 4 or not alike:
        raise ValueError(
            f"its outputs are {spec.found}; expected (batch, queries, 4), "
            "(batch, queries, classes)" + (" and (batch, queries, rows, columns)" * masks)
        )
    class_of = _class_of_column(spec, shapes[1][2])
    names = ClassChannels(spec, len(spec.class_names), default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        boxes, logits = (output.astype(np.float32, copy=False) for output in outputs[:2])
        require_finite(logits)
        require_finite(boxes)
        scores = sigmoid(logits).reshape(-1)
        best = _best(scores, len(logits))
        query, column = np.divmod(best, logits.shape[1])
        class_ids = class_of[column]
        limits = limit_of(names.limits(params), class_ids)
        kept = np.flatnonzero((class_ids >= 0) & (scores[best] > limits))
        if masks:
            kept = kept[: params.max_detections]
        query, class_ids = query[kept], class_ids[kept]
        corners = xywh_to_xyxy(boxes[query]) * np.array(placement.frame * 2, np.float32)
        extras = outputs[2][query].astype(np.float32, copy=False) if masks else boxes[query, :0]
        found = Candidates(corners, scores[best][kept], class_ids, extras)
        return names.filtered(found, params)

    return read


def _class_of_column(spec: HeadSpec, columns: int) -> Array:
    """The class id of every logit column, -1 for those that are no class of the package."""
    class_of = np.full(columns, -1, np.int64)
    left = [column for column in range(columns) if column not in spec.removed_columns]
    for class_id, column in enumerate(left[: len(spec.class_names)]):
        class_of[column] = class_id
    if len(left) < len(spec.class_names):
        raise ValueError(
            f"its output has {columns} class columns; expected {len(spec.class_names)} or more"
        )
    return class_of


def _best(scores: Array, count: int) -> Array:
    """Indices of the ``count`` highest scores, falling."""
    if count < len(scores):
        candidates = np.sort(np.argpartition(-scores, count)[:count])
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")]
