"""Contrast steps that a model may have been trained with, uint8 BGR to uint8 BGR.

They give what Roboflow Inference gets from scikit-image, without that dependency. Where a step
maps every value on its own, the mapping is computed for the 256 values and looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.vision.predictions import Image

Plane: TypeAlias = NDArray[np.uint8]
Neighbour: TypeAlias = tuple[int, NDArray[np.float64]]

# Of the adaptive equalisation: grey levels inside it, how many of them share one bin of a
# histogram, and the part of a tile's pixels that one bin may count.
_LEVELS = 2**14
_LEVELS_PER_BIN = 65
_CLIP_LIMIT = 0.03

_STRIP = 32  # rows that are coloured at a time, so that the many steps stay in the cache


def stretch_contrast(image: Image) -> Image:
    """Spread what lies between the 2nd and 98th percentile of all channels over 0 to 255."""
    counts = _histogram(image)
    low, high = _percentile(counts, 0.02), _percentile(counts, 0.98)
    table = np.clip(np.arange(256.0), low, high)
    if low < high:
        table = (table - low) / (high - low) * 255
    return _look_up(table, image)


def equalize(image: Image) -> Image:
    """Give every brightness about as many values, all channels counted together."""
    counts = _histogram(image)
    values = np.arange(256, dtype=np.float32) / 255
    found = counts > 0
    filled, edges = np.histogram(values[found], bins=256, weights=counts[found])
    share = np.cumsum(filled) / counts.sum()
    table = np.interp(values, (edges[:-1] + edges[1:]) / 2, share).astype(np.float32)
    return _look_up(table * 255, image)


def equalize_adaptive(image: Image) -> Image:
    """Equalise brightness tile by tile, with limited contrast; hue and saturation stay.

    The algorithm is Zuiderveld's CLAHE (Graphics Gems IV, 1994) on the largest channel, with
    about 8 x 8 tiles. Its result is spread over 0 to 255.
    """
    planes = cv2.split(image)
    value = np.asarray(cv2.max(cv2.max(planes[0], planes[1]), planes[2]), np.uint8)
    levels = _equalize_tiles(value)
    low, high = float(levels.min()), float(levels.max())
    result = np.empty_like(image, order="C")
    for top in range(0, len(image), _STRIP):
        rows = slice(top, top + _STRIP)
        # One level everywhere becomes white, as in the reference.
        spread = (levels[rows] - low) / (high - low) if low < high else np.minimum(levels[rows], 1)
        result[rows] = _brightened(image[rows], spread)
    return result


def _histogram(image: Image) -> NDArray[np.int64]:
    """How often each of the 256 values occurs in all channels together."""
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.asarray(np.sum(counts, axis=0), np.int64).reshape(256)


def _percentile(counts: NDArray[np.int64], part: float) -> float:
    """The value below which ``part`` of the counted ones lie, between neighbours linearly."""
    cumulated = np.cumsum(counts)
    position = part * float(cumulated[-1] - 1)
    first = int(position)
    ranks = (first, min(first + 1, int(cumulated[-1]) - 1))
    below, above = np.searchsorted(cumulated, ranks, side="right")
    return float(below + (above - below) * (position - first))


def _look_up(table: NDArray[np.floating], image: Image) -> Image:
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)), np.uint8)


def _brightened(image: Image, brightness: NDArray[np.float32]) -> Image:
    """Pixels with another brightness from 0 to 1, and the hue and saturation they had.

    By way of HSV in single precision, as the reference goes: fractions are cut off at the end,
    and scaling the channels would often give 170 where that gives 169.99997.
    """
    planes = [np.divide(plane, 255, dtype=np.float32) for plane in cv2.split(image)]
    first, second, third = planes
    high = np.maximum(np.maximum(first, second), third)
    low = np.minimum(np.minimum(first, second), third)
    spread = high - low
    saturation = spread / np.where(high > 0, high, 1)
    spread[spread == 0] = 1  # grey, of any hue
    hue = (second - third) / spread
    hue = np.where(second == high, 2 + (third - first) / spread, hue)
    hue = np.where(third == high, 4 + (first - second) / spread, hue) / 6
    hue += hue < 0
    hue *= 6
    sector = np.floor(hue)
    hue -= sector
    # Within a sixth of the circle the middle channel goes up, in the next one down.
    falling = sector.astype(np.uint8) & 1 == 1
    middle = 1 - np.where(falling, hue, 1 - hue) * saturation
    for plane in planes:
        kept = np.where(plane == low, 1 - saturation, middle)
        kept[plane == high] = 1
        plane[:] = brightness * kept * 255
    return np.asarray(cv2.merge(planes), np.uint8)


def _equalize_tiles(value: Plane) -> NDArray[np.float32]:
    """The equalised levels of pixels: whole numbers, each mixed from the four tiles around."""
    bins = np.asarray(cv2.LUT(value, _bin_table(value)), np.uint8)
    tile = (max(bins.shape[0] // 8, 1), max(bins.shape[1] // 8, 1))
    maps = _tile_maps(bins, tile)
    rows, columns = (list(_cells(*axis)) for axis in zip(bins.shape, tile, strict=True))
    levels = np.empty(bins.shape, np.float32)
    for (down, *beside_y), (across, *beside_x) in product(rows, columns):
        part, mixed = bins[down, across], levels[down, across]
        mixed[:] = 0
        for (row, weight_y), (column, weight_x) in product(beside_y, beside_x):
            mapped = np.asarray(cv2.LUT(part, maps[row, column]), np.float64)
            mapped *= weight_y[:, None] * weight_x
            mixed += mapped.astype(np.float32)
        np.trunc(mixed, out=mixed)
    return levels


def _bin_table(value: Plane) -> NDArray[np.uint8]:
    """The bin of each of the 256 values once they are spread over all levels."""
    low, high = int(value.min()), int(value.max())
    if low == high:
        levels = np.minimum(np.arange(256) * 257, _LEVELS - 1)
    else:
        levels = np.rint(np.clip((np.arange(256) - low) / (high - low), 0, 1) * (_LEVELS - 1))
    return (levels // _LEVELS_PER_BIN).astype(np.uint8)


def _tile_maps(bins: Plane, tile: tuple[int, int]) -> NDArray[np.float64]:
    """From bin to level for each tile, (tiles down, tiles across, 256)."""
    height, width = tile
    missing = [(0, -side % step) for side, step in zip(bins.shape, tile, strict=True)]
    whole = np.pad(bins, missing, mode="reflect")
    across = whole.shape[1] // width
    tiles = whole.reshape(-1, height, across, width).swapaxes(1, 2).reshape(-1, height * width)
    limit = max(int(_CLIP_LIMIT * (height * width)), 1)
    counts = [_limited(np.bincount(pixels, minlength=256), limit) for pixels in tiles]
    levels = np.cumsum(counts, axis=1) * ((_LEVELS - 1) / (height * width))
    maps: NDArray[np.float64] = np.minimum(np.trunc(levels), _LEVELS - 1)
    return maps.reshape(-1, across, 256)


def _limited(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Cut a histogram at ``limit`` and hand what was cut to the bins that have room."""
    total = counts.sum()
    counts = np.minimum(counts, limit)
    share = (total - counts.sum()) // len(counts)
    if share:
        counts = np.where(counts + 2 * share < limit, counts + share, limit)
    left, first = total - counts.sum(), 0
    while left > 0:  # every so many bins get one more, starting one bin later each time
        room = counts < limit
        step = max(np.count_nonzero(room) // left, 1)
        room = room[first::step]
        counts[first::step] += room
        left -= np.count_nonzero(room)
        first = (first + 1) % len(counts)
    return counts


def _cells(side: int, tile: int) -> Iterator[tuple[slice, Neighbour, Neighbour]]:
    """Along one axis: stretches of pixels between two tiles' centres, and what each tile weighs.

    Pixels beyond the outermost centres have the same tile on both sides.
    """
    last = -(-side // tile) - 1
    for cell in range(last + 2):
        start = cell * tile - tile // 2
        pixels = np.arange(max(start, 0), min(start + tile, side))
        if len(pixels):
            weights = (pixels - start) / tile
            before, after = max(cell - 1, 0), min(cell, last)
            yield slice(pixels[0], pixels[-1] + 1), (before, 1 - weights), (after, weights)
