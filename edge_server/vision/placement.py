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
        crop: left, top, width and height of the static crop within the picture.
        frame: width and height of the canvas that ``scale`` and ``pad`` refer to: the network's
            input, or the one before it where a picture is resized twice.
        scale: canvas pixels per picture pixel.
        pad: empty canvas pixels left of, above, right of and below the picture; negative where
            it was cut.
    """

    original: tuple[int, int]
    crop: tuple[int, int, int, int]
    frame: tuple[int, int]
    scale: tuple[float, float]
    pad: tuple[int, int, int, int]

    def to_original(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points on the canvas (..., 2) to points of the picture as received, unrounded."""
        moved: NDArray[np.float32] = points - np.array(self.pad[:2], np.float32)
        moved /= np.array(self.scale, np.float32)
        moved += np.array(self.crop[:2], np.float32)
        return moved

    def padding_on(self, grid: tuple[int, int]) -> tuple[int, int, int, int]:
        """``pad`` in cells of a grid (width, height) that covers the canvas."""
        cell_x, cell_y = grid[0] / self.frame[0], grid[1] / self.frame[1]
        left, top, right, bottom = self.pad
        return (
            round(left * cell_x),
            round(top * cell_y),
            round(right * cell_x),
            round(bottom * cell_y),
        )

    def boxes_to_original(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes on the canvas to whole pixels of the picture as received.

        Corners are clipped to the picture, then rounded half to even, as Roboflow Inference
        does.

        Args:
            boxes: (N, 4) float32 xyxy.

        Returns:
            (N, 4) float32 xyxy.
        """
        corners = self.to_original(boxes.reshape(-1, 2, 2))
        np.minimum(corners, np.array(self.original, np.float32), out=corners)
        np.maximum(corners, 0, out=corners)
        return np.rint(corners, out=corners).reshape(-1, 4)
