"""YOLO heads: grids of cells with boxes, class scores and whatever else each cell says.

Every maker takes the number of ``extras``, the channels behind the class scores: mask
coefficients or keypoints. Comparisons and the order of steps are those of Roboflow Inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

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

HeadMaker: TypeAlias = Callable[[HeadSpec, int, float], Head]
"""From the spec, the number of extra channels, and the family's default confidence."""


def anchor_free(spec: HeadSpec, extras: int, default: float) -> Head:
    """(4 + C + extras, N): cx cy w h, class scores, extras, as YOLOv8, v9, v11 and v12 export.

    An export with NMS in its graph is read as ``end_to_end``.
    """
    if _is_end_to_end(spec, extras):
        return end_to_end(spec, extras, default)
    layout = f"(batch, 4 + classes + {extras}, cells)"
    classes = _table_classes(spec, 1, 4, extras, layout)
    names = ClassChannels(spec, classes, default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        rows = outputs[0].astype(np.float32, copy=False)
        limits = names.limits(params)
        # Most cells see nothing: drop them on the class rows alone, before anything is copied.
        best = rows[4 : 4 + classes].max(axis=0)
        require_finite(best.max(initial=0))
        found = _candidates(rows.take(np.flatnonzero(best > limits.min()), axis=1).T, 4, classes)
        if len(limits) > 1:
            found = found.pick(found.scores > limits[found.class_ids])
        return names.filtered(found.suppressed(params), params)

    return read


def objectness(spec: HeadSpec, extras: int, default: float) -> Head:
    """(N, 5 + C + extras): cx cy w h, objectness, class scores, extras, as YOLOv5 and v7 export.

    A cell counts when its objectness exceeds the threshold; the confidence is its best class
    score. The two are not multiplied: that is what the reference does. With one class the rows
    are as wide as those of ``end_to_end``, so only the package tells them apart.
    """
    if spec.fused and _is_end_to_end(spec, extras):
        return end_to_end(spec, extras, default)
    layout = f"(batch, cells, 5 + classes + {extras})"
    classes = _table_classes(spec, 2, 5, extras, layout)
    names = ClassChannels(spec, classes, default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        rows = outputs[0].astype(np.float32, copy=False)
        limits = names.limits(params)
        present = rows[:, 4]
        require_finite(present.max(initial=0))
        found = rows[present > limits.min()]
        if len(limits) > 1:
            found = found[found[:, 4] > limits[found[:, 5 : 5 + classes].argmax(axis=1)]]
        candidates = _candidates(found, 5, classes)
        return names.filtered(candidates.suppressed(params), params)

    return read


def end_to_end(
    spec: HeadSpec, extras: int, default: float, *, strict: bool = False, cut: bool = False
) -> Head:
    """(K, 6 + extras): corners, score, class id, extras; suppression is done in the graph.

    Args:
        spec: see ``HeadSpec``.
        extras: channels behind the class id.
        default: the family's confidence.
        strict: a score must exceed the threshold, not only reach it.
        cut: keep no more than ``max_detections`` rows.
    """
    names = ClassChannels(spec, len(spec.class_names), default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        rows = outputs[0].astype(np.float32, copy=False)
        require_finite(rows)
        class_ids = rows[:, 5].astype(np.int64)
        limits = limit_of(names.limits(params), class_ids.clip(0, len(spec.class_names) - 1))
        above = rows[:, 4] > limits if strict else rows[:, 4] >= limits
        above &= rows[:, 4] > 0  # rows of zeros fill up the fixed count
        found = Candidates(rows[:, :4], rows[:, 4], class_ids, rows[:, 6:]).pick(above)
        if cut:
            found = found.pick(slice(params.max_detections))
        return names.filtered(found, params)

    return read


def one_to_one(spec: HeadSpec, extras: int, default: float) -> Head:
    """YOLOv10: end to end, or the raw head that newer exporters write by default."""
    if _is_end_to_end(spec, extras):
        return end_to_end(spec, extras, default, strict=True, cut=True)
    return anchor_free(spec, extras, default)


def boxes_and_scores(spec: HeadSpec, extras: int, default: float) -> Head:
    """YOLO-NAS: corners (N, 4) and class scores (N, C) as two outputs."""
    _require_same_cells(spec, 2)
    classes = _class_count(spec, spec.output_shapes[1][-1], "(batch, cells, classes)")
    names = ClassChannels(spec, classes, default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        boxes, scores = (output.astype(np.float32, copy=False) for output in outputs[:2])
        return _corners(boxes, scores, names, params)

    return read


def boxes_objectness_and_logits(spec: HeadSpec, extras: int, default: float) -> Head:
    """YOLOLite: corners (N, 4), objectness logits (N, 1) and class logits (N, C)."""
    if _is_end_to_end(spec, extras):
        return end_to_end(spec, extras, default)
    _require_same_cells(spec, 3)
    classes = _class_count(spec, spec.output_shapes[2][-1], "(batch, cells, classes)")
    names = ClassChannels(spec, classes, default)

    def read(outputs: Sequence[Array], placement: Placement, params: InferParams) -> Candidates:
        boxes, present, logits = (output.astype(np.float32, copy=False) for output in outputs[:3])
        return _corners(boxes, sigmoid(present) * sigmoid(logits), names, params)

    return read


def _corners(boxes: Array, scores: Array, names: ClassChannels, params: InferParams) -> Candidates:
    limits = names.limits(params)
    best = scores.max(axis=1)
    require_finite(best)
    above = best > limits.min()
    boxes = boxes[above]
    require_finite(boxes)
    found = Candidates(boxes, best[above], scores[above].argmax(axis=1), boxes[:, :0])
    found = found.pick(found.scores > limit_of(limits, found.class_ids))
    return names.filtered(found.suppressed(params), params)


def _candidates(rows: Array, first: int, classes: int) -> Candidates:
    """Rows (N, first + classes + extras) that begin with cx cy w h, by their best class."""
    require_finite(rows)
    scores = rows[:, first : first + classes]
    return Candidates(
        xywh_to_xyxy(rows[:, :4]),
        scores.max(axis=1),
        scores.argmax(axis=1),
        rows[:, first + classes :],
    )


def _is_end_to_end(spec: HeadSpec, extras: int) -> bool:
    """Told by the shape: families named end to end are exported raw as well."""
    shape = spec.output_shapes[0]
    raw_channels = 4 + len(spec.class_names) + extras
    return len(shape) == 3 and shape[2] == 6 + extras and (spec.fused or shape[1] != raw_channels)


def _table_classes(spec: HeadSpec, axis: int, first: int, extras: int, layout: str) -> int:
    """Classes of a table whose ``axis`` holds ``first`` other channels, them, and extras."""
    shape = spec.output_shapes[0]
    channels = shape[axis] if len(shape) == 3 else 0
    return _class_count(spec, channels - first - extras, layout, exact=extras > 0)


def _class_count(spec: HeadSpec, count: int, layout: str, *, exact: bool = False) -> int:
    """Check the number of class channels; with extras nothing else says where they end."""
    named = len(spec.class_names)
    if count < named or (exact and count > named):
        raise ValueError(f"its outputs are {spec.found}; expected {layout} for {named} classes")
    return count


def _require_same_cells(spec: HeadSpec, count: int) -> None:
    shapes = spec.output_shapes[:count]
    if len(shapes) < count or any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"its outputs are {spec.found}; expected {count} of three dimensions")
    if len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"its outputs are {spec.found}; expected as many rows in each")
