"""Where one picture lies in the network's input: the only carrier of geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Placement:
    """How a picture was put into the tensor. Lengths are pixels, pairs are (x, y).

    Attributes:
        original: width and height of the picture as received.
        crop: the corner of the static crop within the picture.
        scale: network pixels per picture pixel.
        pad: empty pixels left of and above the picture; negative where it was cut.
    """

    original: tuple[int, int]
    crop: tuple[int, int]
    scale: tuple[float, float]
    pad: tuple[int, int]

    def to_original(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes in network pixels to whole pixels of the picture as received.

        Corners are clipped to the picture, then rounded half to even, as Roboflow Inference
        does for YOLO models.

        Args:
            boxes: (N, 4) float32 xyxy.

        Returns:
            (N, 4) float32 xyxy.
        """
        pad, scale, crop, limit = (
            np.tile(np.array(pair, np.float32), 2)
            for pair in (self.pad, self.scale, self.crop, self.original)
        )
        corners: NDArray[np.float32] = np.rint(np.clip((boxes - pad) / scale + crop, 0, limit))
        return corners
