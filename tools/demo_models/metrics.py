"""How good answers are, as the field counts it; one measure for each kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KEYPOINT_SIGMA = 0.05  # of every keypoint, in square roots of the box's area


@dataclass(frozen=True)
class Instances:
    """What is, or what was found, in one picture.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        class_ids: (N,).
        scores: (N,); None for the truth.
        masks: (N, H, W) bool at the picture's size, or None.
        points: (N, K, 2 or 3) x, y in pixels; the truth has 1 third where visible, else 0.
    """

    boxes: NDArray[np.floating]
    class_ids: NDArray[np.integer]
    scores: NDArray[np.floating] | None = None
    masks: NDArray[np.bool_] | None = None
    points: NDArray[np.floating] | None = None

    def __getitem__(self, rows: NDArray[np.integer]) -> Instances:
        """Those of ``rows``, in their order."""
        scores, masks, points = (
            None if column is None else column[rows]
            for column in (self.scores, self.masks, self.points)
        )
        return Instances(self.boxes[rows], self.class_ids[rows], scores, masks, points)


Overlap = Callable[[Instances, Instances], Array]


def box_overlap(found: Instances, truth: Instances) -> Array:
    """IoU of the boxes: (N, M)."""
    return iou_matrix(found.boxes, truth.boxes)


def mask_overlap(found: Instances, truth: Instances) -> Array:
    """IoU of the masks: (N, M)."""
    if found.masks is None or truth.masks is None:
        raise ValueError("Both sides need masks.")
    pixels = int(np.prod(truth.masks.shape[1:]))
    a, b = (side.masks.reshape(-1, pixels) for side in (found, truth))
    shared = a.astype(np.float32) @ b.astype(np.float32).T
    areas = a.sum(1)[:, None] + b.sum(1)[None]
    return np.asarray(shared / np.maximum(areas - shared, 1), np.float64)


def point_overlap(found: Instances, truth: Instances) -> Array:
    """Object keypoint similarity (N, M), as COCO defines it.

    The mean over the visible points of exp(-d^2 / (2 A k^2)) with the distance d in pixels, the
    area A of the true box and k = 2 sigma.
    """
    if found.points is None or truth.points is None:
        raise ValueError("Both sides need points.")
    if not len(truth.boxes):
        return np.zeros((len(found.boxes), 0))
    area = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(1)[:, None]
    apart = found.points[:, None, :, :2] - truth.points[None, :, :, :2]
    similar = np.exp(-(apart**2).sum(3) / (2 * area * (2 * KEYPOINT_SIGMA) ** 2))
    visible = truth.points[..., 2] > 0
    return np.asarray((similar * visible).sum(2) / np.maximum(visible.sum(1), 1), np.float64)


def mean_average_precision(
    found: Sequence[Instances],
    truth: Sequence[Instances],
    num_classes: int,
    threshold: float = 0.5,
    overlap: Overlap = box_overlap,
) -> tuple[float, Array]:
    """Mean over the classes, and each class's average precision (NaN for a class without truth).

    COCO's 101-point interpolation.

    Args:
        found: per picture, with scores.
        truth: per picture, in the same order.
        num_classes: class ids are below it.
        threshold: overlap from which a detection counts as right.
        overlap: of boxes, masks or points.
    """
    per_class = np.array(
        [_average_precision(found, truth, c, threshold, overlap) for c in range(num_classes)]
    )
    return float(np.nanmean(per_class)), per_class


def top1_accuracy(found: Sequence[int], truth: Sequence[int]) -> float:
    """The share of pictures whose likeliest class is the true one."""
    return float(np.mean(np.asarray(found) == np.asarray(truth)))


def micro_f1(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """F1 over all labels of all pictures together.

    Args:
        found: (pictures, classes), at or above the threshold.
        truth: (pictures, classes).
    """
    right = np.logical_and(found, truth).sum()
    return float(2 * right / max(found.sum() + truth.sum(), 1))


def mean_iou(
    found: Sequence[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]], num_classes: int
) -> tuple[float, Array]:
    """Mean over the classes of the IoU of their pixels in all pictures together, and each class's.

    Args:
        found: per picture (H, W) class ids.
        truth: likewise, in the same order.
        num_classes: class ids are below it; the background is one.
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    for guess, real in zip(found, truth, strict=True):
        pairs = real.astype(np.int64) * num_classes + guess
        counts += np.bincount(pairs.ravel(), minlength=num_classes**2).reshape(counts.shape)
    shared = counts.diagonal()
    per_class = shared / np.maximum(counts.sum(0) + counts.sum(1) - shared, 1)
    return float(per_class.mean()), per_class


def iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
    """IoU of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), both xyxy: (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None]
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def _average_precision(
    found: Sequence[Instances],
    truth: Sequence[Instances],
    class_id: int,
    threshold: float,
    overlap: Overlap,
) -> float:
    scores: list[float] = []
    right: list[bool] = []
    total = 0
    for prediction, real in zip(found, truth, strict=True):
        targets = real[np.flatnonzero(real.class_ids == class_id)]
        total += len(targets.boxes)
        if prediction.scores is None:
            raise ValueError("What was found needs scores.")
        mine = np.flatnonzero(prediction.class_ids == class_id)
        mine = mine[np.argsort(-prediction.scores[mine], kind="stable")]
        scores += prediction.scores[mine].tolist()
        right += _match(overlap(prediction[mine], targets), threshold)
    if total == 0:
        return float("nan")
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, bool)[order])
    recall = hits / total
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def _match(overlaps: Array, threshold: float) -> list[bool]:
    """For detections in falling order of score: does each claim a target that is still free?"""
    free = np.ones(overlaps.shape[1], bool)
    right = []
    for row in overlaps:
        candidates = np.where(free, row, 0)
        best = int(candidates.argmax()) if len(candidates) else -1
        claimed = best >= 0 and candidates[best] >= threshold
        if claimed:
            free[best] = False
        right.append(claimed)
    return right
