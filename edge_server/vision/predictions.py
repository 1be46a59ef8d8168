"""What a model found in one picture, as a struct of arrays in pixels of that picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""A picture: (H, W, 3) BGR."""


@dataclass(frozen=True)
class Detections:
    """Boxes found in one picture, by falling score.

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
