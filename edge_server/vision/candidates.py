"""What a detection head proposes for one picture, and which of it survives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_server.vision.boxes import nms
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections
from engines.base import Array


@dataclass(frozen=True)
class Candidates:
    """Boxes on the canvas of a ``Placement``; the caller says in which order.

    Attributes:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32.
        class_ids: (N,) int64.
        extras: (N, ...) float32: mask coefficients, keypoints or whole masks.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    extras: NDArray[np.float32]

    def pick(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Candidates:
        """The candidates at ``rows``, in their order."""
        return Candidates(
            self.boxes[rows], self.scores[rows], self.class_ids[rows], self.extras[rows]
        )

    def suppressed(self, params: InferParams) -> Candidates:
        """What non-maximum suppression leaves."""
        return self.pick(
            nms(
                self.boxes,
                self.scores,
                self.class_ids,
                iou_threshold=params.iou_threshold,
                class_agnostic=params.class_agnostic_nms,
                max_detections=params.max_detections,
            )
        )

    def detections(self, placement: Placement) -> Detections:
        """The boxes in whole pixels of the picture."""
        boxes = placement.boxes_to_original(self.boxes)
        return Detections(boxes, self.scores, self.class_ids)


Head: TypeAlias = Callable[[Sequence[Array], Placement, InferParams], Candidates]
"""Reads the outputs of one picture, without their batch axis."""


class ClassChannels:
    """The class channels of a head: their names and thresholds."""

    def __init__(self, spec: HeadSpec, count: int, default: float) -> None:
        """``default`` is the confidence that the family uses when nobody says a number."""
        # A channel beyond the package's names goes by its number, as in answers.
        unnamed = map(str, range(len(spec.class_names), count))
        self._names = (*spec.class_names, *unnamed)
        self._thresholds = spec.thresholds
        self._default = default

    def limits(self, params: InferParams) -> NDArray[np.float32]:
        """The threshold of all classes (1,), or of each (C,)."""
        return self._thresholds.resolve(params.confidence, self._names, self._default)

    def filtered(self, found: Candidates, params: InferParams) -> Candidates:
        """Only the classes that the caller asked for by name."""
        if not params.class_filter:
            return found
        wanted = [index for index, name in enumerate(self._names) if name in params.class_filter]
        return found.pick(np.isin(found.class_ids, wanted))


def limit_of(
    limits: NDArray[np.float32], class_ids: NDArray[np.int64]
) -> NDArray[np.float32] | np.float32:
    """The threshold of each class id; one number when all classes share it."""
    return limits[class_ids] if len(limits) > 1 else limits[0]


def require_finite(values: Array) -> None:
    """Refuse NaN and infinity: weights that overflow must not look like an empty picture.

    Raises:
        ValueError: there are some.
    """
    if not np.isfinite(values).all():
        raise ValueError("its output contains NaN or infinity; the weights are damaged")
