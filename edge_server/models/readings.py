"""As what the outputs of a network can be read: one function per layout, each from shapes alone.

Where shapes leave a doubt, the values of a run on noise may settle it: boxes in pixels are not
boxes from 0 to 1, and scores are never below 0. What they cannot settle stays a second reading.
"""

from __future__ import annotations

from collections.abc import Sequence
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
)
from edge_server.models.onnx_file import OnnxFacts
from engines.base import Array

PROTOTYPES = 32
# The usual three levels; with a coarser one for large pictures; with a finer one.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
# NMS inside a graph keeps at most so many rows, and no DETR has more queries.
_MAX_ROWS = 1000
_MAX_QUERIES = 900
_SLACK = 0.01
# Numbers per keypoint of RF-DETR.
_RFDETR_KEYPOINT = 8
# The families whose segmentation and pose heads share the layout of YOLOv8's; the last has an
# end-to-end form of its own, so that it counts as one with NMS added only when the file says so.
_V8_LIKE = ("yolov8", "yolov11", "yolo26")


@dataclass(frozen=True)
class Reading:
    """One way to understand the outputs of a network.

    Attributes:
        task: what the network then does.
        families: those that have this layout.
        class_counts: how many class names fit, the likeliest first; empty when any number does.
        fused: the graph ends in NMS, softmax or sigmoid.
        keypoint_count: per object, for keypoint detection.
        alike: the families decode alike, so that any of them may stand for all.
        refused: a kind of network that cannot be served, named for the user; else empty.
    """

    task: str
    families: tuple[str, ...]
    class_counts: tuple[int, ...] = ()
    fused: bool = False
    keypoint_count: int = 0
    alike: bool = True
    refused: str = ""


def possible_readings(facts: OnnxFacts, task: str | None, class_count: int | None) -> list[Reading]:
    """All readings that the outputs allow.

    Args:
        facts: about the network.
        task: what it is known to do. Pose and multi-label networks look like detectors and
            classifiers, so they are readings only when this says so.
        class_count: how many classes it is known to have.
    """
    outputs = list(facts.outputs.values())
    cells = {_cells(facts, strides) for strides in _STRIDES}
    readings = _nms_outside(outputs, cells, task) + _pairs(facts, outputs, cells)
    readings += _nms_inside(facts, outputs) + _classifiers(outputs, task)
    readings += _semantic(outputs, task)
    if task == KEYPOINTS:
        readings += _pose(facts, outputs, cells, class_count)
    return [reading for reading in readings if not any(n < 1 for n in reading.class_counts[:1])]


def _cells(facts: OnnxFacts, strides: Sequence[int]) -> int:
    return sum(-(-facts.height // stride) * -(-facts.width // stride) for stride in strides)


def _nms_outside(outputs: Sequence[Array], cells: set[int], task: str | None) -> list[Reading]:
    """One row or column per cell: YOLO heads whose NMS is ours to do, and YOLOX."""
    first, others = outputs[0], outputs[1:]
    if first.ndim != 3:
        return []
    _, rows, columns = first.shape
    protos = [index for index, array in enumerate(outputs) if _is_protos(array)]
    readings = []
    if columns in cells and protos == [1] and len(outputs) == 2:
        readings.append(Reading(SEGMENTATION, _V8_LIKE, (rows - 4 - PROTOTYPES,)))
    # Rows that are no scores are those of keypoints; who says that it detects is believed.
    if columns in cells and not others and (task == DETECTION or _are_shares(first[:, 4:])):
        readings.append(Reading(DETECTION, ANCHOR_FREE, (rows - 4,)))
    if rows in {3 * count for count in cells}:
        if protos:  # YOLOv7 puts its raw heads before the prototypes, YOLOv5 after them
            family = "yolov7" if protos == [4] else "yolov5"
            if protos in ([1], [4]):
                readings.append(Reading(SEGMENTATION, (family,), (columns - 5 - PROTOTYPES,)))
        elif all(array.ndim == 5 for array in others):
            readings.append(Reading(DETECTION, ("yolov5",), (columns - 5,)))
    if rows in cells and not others and _are_shares(first[..., 4:]):
        readings.append(Reading(DETECTION, (), (columns - 5,), refused="YOLOX"))
    return readings


def _nms_inside(facts: OnnxFacts, outputs: Sequence[Array]) -> list[Reading]:
    """Rows of x1, y1, x2, y2, score, class: end-to-end heads, and NMS added by an exporter."""
    first, metadata = outputs[0], facts.metadata
    if not _are_rows(first):
        return []
    columns = first.shape[2]
    if columns == 6 + PROTOTYPES and len(outputs) == 2 and _is_protos(outputs[1]):
        with_nms = _V8_LIKE if metadata.nms else _V8_LIKE[:-1]
        return [Reading(SEGMENTATION, ("yolo26",)), Reading(SEGMENTATION, with_nms, fused=True)]
    if columns != 6 or len(outputs) != 1:
        return []
    boxes = first[..., :4]
    if boxes.any() and boxes.min() >= 0 and boxes.max() <= 1:
        return [Reading(DETECTION, (), refused="an RT-DETR export of Ultralytics")]
    added = ANCHOR_FREE if metadata.nms else ANCHOR_FREE[:-2]
    readings = [Reading(DETECTION, ("yolov10",)), Reading(DETECTION, ("yolo26",))]
    readings.append(Reading(DETECTION, added, fused=True))
    if not metadata.ultralytics:
        readings.append(Reading(DETECTION, ("yololite",), fused=True))
    return readings


def _pose(
    facts: OnnxFacts, outputs: Sequence[Array], cells: set[int], class_count: int | None
) -> list[Reading]:
    """Detection heads with three numbers more per keypoint."""
    first, shape = outputs[0], facts.metadata.keypoint_shape
    if first.ndim != 3 or len(outputs) != 1:
        return []
    _, rows, columns = first.shape
    readings = []
    if columns in cells:
        extra = 3 * shape[0] if shape else rows - 4 - (class_count or rows)
        if extra > 0 and extra % 3 == 0:
            readings.append(
                Reading(KEYPOINTS, _V8_LIKE, (rows - 4 - extra,), keypoint_count=extra // 3)
            )
    extra = columns - 6
    fits = extra == 3 * shape[0] if shape else extra % 3 == 0
    if extra > 0 and fits and _are_rows(first):
        added = _V8_LIKE if facts.metadata.nms else _V8_LIKE[:-1]
        for families, fused in (("yolo26",), False), (added, True):
            readings.append(Reading(KEYPOINTS, families, fused=fused, keypoint_count=extra // 3))
    return readings


def _pairs(facts: OnnxFacts, outputs: Sequence[Array], cells: set[int]) -> list[Reading]:
    """Boxes and scores as outputs of their own: RF-DETR, YOLO-NAS, YOLOLite."""
    shapes = [array.shape for array in outputs]
    if not 2 <= len(shapes) <= 3 or [len(shape) for shape in shapes[:2]] != [3, 3]:
        return []
    boxes, scores = outputs[:2]
    count = boxes.shape[1]
    if boxes.shape[2] != 4 or scores.shape[1] != count:
        return []
    classes = scores.shape[2]
    if list(facts.outputs)[:2] == ["dets", "labels"]:
        return _rfdetr(shapes, classes)
    if len(shapes) == 3 and len(shapes[2]) == 3:
        fits = classes == 1 and shapes[2][1] == count
        return [Reading(DETECTION, ("yololite",), (shapes[2][2],))] if fits else []
    readings = []
    normalised = bool(boxes.min() >= 0 and boxes.max() <= 1)
    if len(shapes) == 2 and count in cells and _are_shares(scores) and not normalised:
        readings.append(Reading(DETECTION, ("yolonas",), (classes,)))
    if count <= _MAX_QUERIES and normalised:
        readings += _rfdetr(shapes, classes)
    return readings


def _rfdetr(shapes: Sequence[tuple[int, ...]], classes: int) -> list[Reading]:
    # The last column may be one that no class uses.
    counts = (classes, classes - 1)
    if len(shapes) == 2:
        return [Reading(DETECTION, (RFDETR,), counts)]
    if len(shapes[2]) != 4 or shapes[2][1] != shapes[0][1]:
        return []
    if shapes[2][3] == _RFDETR_KEYPOINT:
        return [Reading(KEYPOINTS, (), refused="RF-DETR with keypoints")]
    return [Reading(SEGMENTATION, (RFDETR,), counts)]


def _classifiers(outputs: Sequence[Array], task: str | None) -> list[Reading]:
    """One row of scores per picture. Never called multi-label from shapes."""
    first = outputs[0]
    if first.ndim != 2 or len(outputs) != 1:
        return []
    counts = (first.shape[1],)
    if task == MULTI_LABEL:
        return [Reading(MULTI_LABEL, BACKBONES, counts, fused=_are_shares(first), alike=False)]
    softmax = _is_softmax(first)
    readings = [Reading(CLASSIFICATION, BACKBONES, counts, fused=softmax, alike=False)]
    if softmax:
        readings.append(Reading(CLASSIFICATION, ("yolov8", "yolov11"), counts, fused=True))
    return readings


def _semantic(outputs: Sequence[Array], task: str | None) -> list[Reading]:
    """A score per class and place, or the number of the best class."""
    first = outputs[0]
    if len(outputs) != 1 or first.ndim not in (3, 4):
        return []
    families = (DEEPLAB, "yolo26", RFDETR)
    if first.ndim == 3:
        is_class_map = first.dtype.kind in "iu"
        return [Reading(SEMANTIC, families, alike=False)] if is_class_map else []
    channels = first.shape[1]
    fused = channels > 1 and _is_softmax(first)
    readings = [Reading(SEMANTIC, families, (channels, channels + 1), fused=fused, alike=False)]
    if channels == 1 and task is None:
        readings.append(Reading("depth-estimation", (), refused="a network that measures depth"))
    return readings


def _is_softmax(scores: Array) -> bool:
    """Whether these are probabilities over axis 1 already, as a softmax in the graph gives."""
    values = scores.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1, rtol=0, atol=1e-3))


def _are_shares(scores: Array) -> bool:
    """Whether all values lie in 0 to 1, but for what INT8 may add."""
    return bool(((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all())


def _are_rows(array: Array) -> bool:
    """Whether columns 4 and 5 can be the score and the class of at most ``_MAX_ROWS`` boxes."""
    if array.ndim != 3 or array.shape[1] > _MAX_ROWS or array.shape[2] < 6:
        return False
    classes = array[..., 5]
    return _are_shares(array[..., 4]) and bool((classes == np.round(classes)).all())


def _is_protos(array: Array) -> bool:
    return array.ndim == 4 and array.shape[1] == PROTOTYPES
