"""Bilinear resampling of float grids, antialiased when they shrink, any part of it at a time.

The filter is the triangle that torchvision's ``resize(antialias=True)`` uses on masks and
logits: for enlarging it is plain half-pixel bilinear interpolation. Working in parts is what
keeps a mask of 4000 x 3000 pixels from ever standing in memory as floats.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Output positions computed by one small matrix product.
_BAND = 64


class Axis:
    """Weights that take one axis of ``source`` samples to ``target`` samples. Immutable."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.support = max(1.0, source / target)
        centres = (np.arange(target) + 0.5) * (source / target)
        self._first = np.maximum((centres - self.support + 0.5).astype(np.int64), 0)
        self._last = np.minimum((centres + self.support + 0.5).astype(np.int64), source)
        self._bands = [
            self._weights(centres[start : start + _BAND], start)
            for start in range(0, target, _BAND)
        ]

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """The range of outputs that depend on the source samples ``start`` to ``stop``."""
        return (
            int(np.searchsorted(self._last, start, side="right")),
            int(np.searchsorted(self._first, stop, side="left")),
        )

    def rows(self, values: Floats, start: int, stop: int, offset: int = 0) -> Floats:
        """Resample the last but one axis; return its outputs ``start`` to ``stop``.

        Args:
            values: (..., R, M), the source samples from ``offset`` on; others count as 0.
            start: first output.
            stop: end of the outputs.
            offset: the source sample that ``values`` begins with.
        """
        result = np.empty((*values.shape[:-2], stop - start, values.shape[-1]), np.float32)
        end = offset + values.shape[-2]
        position = start
        while position < stop:
            number, within = divmod(position, _BAND)
            count = min(_BAND - within, stop - position)
            weights = self._bands[number][within : within + count]
            first = int(self._first[number * _BAND])
            low, high = max(first, offset), min(first + weights.shape[1], end)
            target = result[..., position - start : position - start + count, :]
            if low < high:
                used = weights[:, low - first : high - first]
                np.matmul(used, values[..., low - offset : high - offset, :], out=target)
            else:
                target[...] = 0
            position += count
        return result

    def columns(self, values: Floats, start: int, stop: int, offset: int = 0) -> Floats:
        """The same along the last axis."""
        return self.rows(values.swapaxes(-1, -2), start, stop, offset).swapaxes(-1, -2)

    def _weights(self, centres: NDArray[Any], start: int) -> Floats:
        first, last = self._first[start], self._last[start + len(centres) - 1]
        samples = np.arange(first, last) + 0.5
        distances = np.abs(samples - centres[:, None]) / self.support
        weights = np.maximum(1 - distances, 0)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@lru_cache(maxsize=32)
def axis(source: int, target: int) -> Axis:
    """The weights for these lengths; cached, because a camera's pictures are all of one size."""
    return Axis(source, target)
