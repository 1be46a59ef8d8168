"""What a model found in one picture, as structs of arrays in pixels of that picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""A picture: (H, W, 3) BGR."""

Polygon: TypeAlias = NDArray[np.int32]
"""Corners (P, 2) of a closed outline, x before y."""


@dataclass(frozen=True)
class Detections:
    """Boxes found in one picture: by falling score, or as a head with NMS inside ranks them.

    Attributes:
        boxes: (N, 4) float32 xyxy.
        scores: (N,) float32 from 0 to 1.
        class_ids: (N,) int64.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.class_ids.shape != (count,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and class_ids "
                f"{self.class_ids.shape} do not belong together"
            )

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class InstanceMasks:
    """Detections with the outline of each.

    Attributes:
        detections: boxes in pixels of ``size``.
        polygons: one per detection, in pixels of ``size``; of no corner where the mask is empty.
        rles: the whole masks as compressed COCO run lengths, when the caller asked for them.
        size: width and height of the grid that all coordinates refer to: the picture's, unless
            the caller allowed a coarser one.
    """

    detections: Detections
    polygons: tuple[Polygon, ...]
    rles: tuple[str, ...] | None
    size: tuple[int, int]


@dataclass(frozen=True)
class KeyPoints:
    """Detections with the keypoints of each.

    Attributes:
        detections: the boxes.
        points: (N, K, 2) float32, x before y; they may lie outside the picture.
        confidences: (N, K) float32; 0 where the keypoint was not found or its class has none.
    """

    detections: Detections
    points: NDArray[np.float32]
    confidences: NDArray[np.float32]


@dataclass(frozen=True)
class ClassScores:
    """How well each class describes the whole picture.

    Attributes:
        scores: (C,) float32 from 0 to 1, by class id.
        above: (C,) whether the score reaches the threshold.
        multi_label: several classes may be right at once; else the scores compete.
    """

    scores: NDArray[np.float32]
    above: NDArray[np.bool_]
    multi_label: bool


@dataclass(frozen=True)
class SemanticMap:
    """The class of every pixel.

    Attributes:
        class_ids: (H, W) uint8; the background's where no class reaches the threshold.
        confidences: (H, W) uint8, 255 times the confidence, truncated; 0 below the threshold.
    """

    class_ids: NDArray[np.uint8]
    confidences: NDArray[np.uint8]

    def pixel_counts(self) -> NDArray[np.int64]:
        """How many pixels each of the 256 possible class ids has: (256,)."""
        counts = cv2.calcHist([self.class_ids], [0], None, [256], [0, 256])
        return np.asarray(counts, np.int64).ravel()


Prediction: TypeAlias = Detections | InstanceMasks | KeyPoints | ClassScores | SemanticMap
