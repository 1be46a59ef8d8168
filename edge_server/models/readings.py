"""As what the outputs of a network can be read: one function per layout, each from shapes alone.

Where shapes leave a doubt, the values of a run on noise may settle it: boxes in pixels are not
boxes from 0 to 1, and scores are never below 0. What they cannot settle stays a second reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_server.models.families import (
    ANCHOR_FREE,
    BACKBONES,
    CLASSIFICATION,
    DEEPLAB,
    DETECTION,
    KEYPOINTS,
    MULTI_LABEL,
    RFDETR,
    SEGMENTATION,
    SEMANTIC,
    families,
)
from edge_server.models.onnx_file import OnnxFacts
from engines.base import Array

RTDETR = "an RT-DETR export of Ultralytics"
DEPTH = "a network that measures depth"

_PROTOTYPES = 32
# The usual three levels; with a coarser one for large pictures; with a finer one.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
# NMS inside a graph keeps at most so many rows, and no DETR has more queries.
_MAX_ROWS = 1000
_MAX_QUERIES = 900
_SLACK = 0.01
# Numbers per keypoint of RF-DETR.
_RFDETR_KEYPOINT = 8
# The families whose segmentation and pose heads share the layout of YOLOv8's.
_V8_LIKE = ("yolov8", "yolov11", "yolo26")


@dataclass(frozen=True)
class Reading:
    """One way to understand the outputs of a network.

    Attributes:
        task: what the network then does.
        families: those that have this layout and decode alike, so that any may stand for all; or
            the one name of a kind of network that cannot be served.
        class_counts: how many class names fit, the likeliest first; empty when any number does.
        fused: the graph ends in NMS, softmax or sigmoid.
        keypoint_count: per object, for keypoint detection.
    """

    task: str
    families: tuple[str, ...]
    class_counts: tuple[int, ...] = ()
    fused: bool = False
    keypoint_count: int = 0

    @property
    def family(self) -> str:
        """The one that stands for all."""
        return self.families[0]

    @property
    def served(self) -> bool:
        """Whether such a network can be served at all."""
        return self.family in families(self.task)


def possible_readings(facts: OnnxFacts, task: str | None, class_count: int | None) -> list[Reading]:
    """All readings that the outputs allow.

    Args:
        facts: about the network.
        task: what it is known to do. Pose and multi-label networks look like detectors and
            classifiers, so they are readings only when this says so.
        class_count: how many classes it is known to have.
    """
    outputs = list(facts.outputs.values())
    cells = {
        sum(-(-facts.height // stride) * -(-facts.width // stride) for stride in strides)
        for strides in _STRIDES
    }
    found = [*_boxes_and_scores(facts, outputs, cells), *_classifiers(outputs, task)]
    found += _semantic(outputs, task)
    if outputs[0].ndim == 3:
        found += [*_detectors(outputs, cells, task), *_segmenters(outputs, cells)]
        if task == KEYPOINTS and len(outputs) == 1:
            found += _pose(outputs[0], cells, facts.metadata.keypoint_count, class_count)
    return [reading for reading in found if not any(n < 1 for n in reading.class_counts[:1])]


def _detectors(outputs: Sequence[Array], cells: set[int], task: str | None) -> Iterator[Reading]:
    """One table with a row or a column per box: all YOLO detectors, and YOLOX."""
    table, others = outputs[0], outputs[1:]
    _, rows, columns = table.shape
    # YOLOv5 and YOLOv7 propose three boxes per cell.
    if rows / 3 in cells and all(array.ndim == 5 for array in others):
        yield Reading(DETECTION, ("yolov5",), (columns - 5,))
    if others:
        return
    # Rows that are no scores are those of keypoints; who says that it detects is believed.
    if columns in cells and (task == DETECTION or _are_shares(table[:, 4:])):
        yield Reading(DETECTION, ANCHOR_FREE, (rows - 4,))
    if rows in cells and _are_shares(table[..., 4:]):
        yield Reading(DETECTION, ("YOLOX",), (columns - 5,))
    if columns == 6 and _are_boxes_after_nms(table):
        if table[..., :4].any() and _are_normalised(table[..., :4]):
            yield Reading(DETECTION, (RTDETR,))
            return
        yield Reading(DETECTION, ("yolov10",))
        yield Reading(DETECTION, ("yolo26",))
        yield Reading(DETECTION, ANCHOR_FREE, fused=True)
        yield Reading(DETECTION, ("yololite",), fused=True)


def _segmenters(outputs: Sequence[Array], cells: set[int]) -> Iterator[Reading]:
    """Such a table with the weights of prototypes behind each box, and the prototypes."""
    _, rows, columns = outputs[0].shape
    is_protos = [array.ndim == 4 and array.shape[1] == _PROTOTYPES for array in outputs]
    # YOLOv7 puts its raw heads before the prototypes, YOLOv5 after them.
    for family, place in (("yolov5", 1), ("yolov7", 4)):
        only = [index for index, protos in enumerate(is_protos) if protos] == [place]
        if only and rows / 3 in cells:
            yield Reading(SEGMENTATION, (family,), (columns - 5 - _PROTOTYPES,))
    if is_protos != [False, True]:
        return
    if columns in cells:
        yield Reading(SEGMENTATION, _V8_LIKE, (rows - 4 - _PROTOTYPES,))
    if columns == 6 + _PROTOTYPES and _are_boxes_after_nms(outputs[0]):
        yield Reading(SEGMENTATION, ("yolo26",))
        yield Reading(SEGMENTATION, _V8_LIKE, fused=True)


def _pose(
    table: Array, cells: set[int], known: int | None, class_count: int | None
) -> Iterator[Reading]:
    """Such a table with three numbers per keypoint behind each box; ``known`` says how many."""
    _, rows, columns = table.shape
    if columns in cells and (known or class_count):
        count, rest = (known, 0) if known else divmod(rows - 4 - (class_count or 0), 3)
        if count > 0 and rest == 0:
            yield Reading(KEYPOINTS, _V8_LIKE, (rows - 4 - 3 * count,), keypoint_count=count)
    count, rest = divmod(columns - 6, 3)
    if count > 0 and rest == 0 and count == (known or count) and _are_boxes_after_nms(table):
        yield Reading(KEYPOINTS, ("yolo26",), keypoint_count=count)
        yield Reading(KEYPOINTS, _V8_LIKE, fused=True, keypoint_count=count)


def _boxes_and_scores(
    facts: OnnxFacts, outputs: Sequence[Array], cells: set[int]
) -> Iterator[Reading]:
    """Boxes and scores as outputs of their own: RF-DETR, YOLO-NAS, YOLOLite."""
    shapes = [array.shape for array in outputs]
    if not 2 <= len(shapes) <= 3 or [len(shape) for shape in shapes[:2]] != [3, 3]:
        return
    boxes, scores = outputs[:2]
    count, classes = boxes.shape[1], scores.shape[2]
    if boxes.shape[2] != 4 or scores.shape[1] != count:
        return
    if list(facts.outputs)[:2] == ["dets", "labels"]:
        yield from _rfdetr(shapes)
    elif len(shapes) == 3 and len(shapes[2]) == 3:
        if classes == 1 and shapes[2][1] == count:
            yield Reading(DETECTION, ("yololite",), (shapes[2][2],))
    elif _are_normalised(boxes):
        if count <= _MAX_QUERIES:
            yield from _rfdetr(shapes)
    elif len(shapes) == 2 and count in cells and _are_shares(scores):
        yield Reading(DETECTION, ("yolonas",), (classes,))


def _rfdetr(shapes: Sequence[tuple[int, ...]]) -> Iterator[Reading]:
    classes = shapes[1][2]
    counts = (classes, classes - 1)  # the last column may be one that no class uses
    if len(shapes) == 2:
        yield Reading(DETECTION, (RFDETR,), counts)
    elif len(shapes[2]) == 4 and shapes[2][1] == shapes[0][1]:
        if shapes[2][3] == _RFDETR_KEYPOINT:
            yield Reading(KEYPOINTS, ("RF-DETR with keypoints",))
        else:
            yield Reading(SEGMENTATION, (RFDETR,), counts)


def _classifiers(outputs: Sequence[Array], task: str | None) -> Iterator[Reading]:
    """One row of scores per picture. Never called multi-label from shapes."""
    scores = outputs[0]
    if scores.ndim != 2 or len(outputs) != 1:
        return
    counts = (scores.shape[1],)
    if task == MULTI_LABEL:
        for family in BACKBONES:
            yield Reading(MULTI_LABEL, (family,), counts, fused=_are_shares(scores))
        return
    softmax = _is_softmax(scores)
    for family in BACKBONES:
        yield Reading(CLASSIFICATION, (family,), counts, fused=softmax)
    if softmax:
        yield Reading(CLASSIFICATION, ("yolov8", "yolov11"), counts, fused=True)


def _semantic(outputs: Sequence[Array], task: str | None) -> Iterator[Reading]:
    """A score per class and place, or the number of the best class."""
    first = outputs[0]
    is_class_map = first.ndim == 3 and first.dtype.kind in "iu"
    if len(outputs) != 1 or not (first.ndim == 4 or is_class_map):
        return
    channels = first.shape[1]
    counts = () if is_class_map else (channels, channels + 1)
    fused = not is_class_map and channels > 1 and _is_softmax(first)
    for family in (DEEPLAB, "yolo26", RFDETR):
        yield Reading(SEMANTIC, (family,), counts, fused=fused)
    if first.ndim == 4 and channels == 1 and task is None:
        yield Reading("depth-estimation", (DEPTH,))


def _is_softmax(scores: Array) -> bool:
    """Whether these are probabilities over axis 1 already, as a softmax in the graph gives."""
    values = scores.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1, rtol=0, atol=1e-3))


def _are_shares(scores: Array) -> bool:
    """Whether all values lie in 0 to 1, but for what INT8 may add."""
    return bool(((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all())


def _are_normalised(boxes: Array) -> bool:
    """Whether these boxes are shares of the picture rather than pixels."""
    return bool(boxes.min() >= 0 and boxes.max() <= 1)


def _are_boxes_after_nms(table: Array) -> bool:
    """Whether this can be x1, y1, x2, y2, score and class of at most ``_MAX_ROWS`` boxes."""
    classes = table[..., 5]
    whole = bool((classes == np.round(classes)).all())
    return table.shape[1] <= _MAX_ROWS and whole and _are_shares(table[..., 4])
