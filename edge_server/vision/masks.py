"""Instance masks: from the network's mask grid to outlines in pixels of the picture.

One instance at a time, and only the part of the picture that it can touch: the memory needed
does not grow with the number of instances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.vision.activations import sigmoid
from edge_server.vision.candidates import Candidates, require_finite
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections, InstanceMasks, Polygon
from edge_server.vision.resample import axis
from engines.base import Array

# Rows of the enlarged mask that stand in memory as floats at a time.
_ROWS = 128


@dataclass(frozen=True)
class Patch:
    """A part of a grid (h, w) with its corner (x, y); the grid is 0 elsewhere."""

    values: NDArray[np.float32]
    x: int
    y: int


Patches: TypeAlias = Callable[[Candidates, Array, Placement], Iterable[Patch]]
"""From the candidates and the output with the grids, the mask of every candidate."""


@dataclass(frozen=True)
class MaskRule:
    """How a family's mask grids are read.

    Attributes:
        patches: makes them.
        threshold: a pixel belongs to the instance when the enlarged grid exceeds it.
    """

    patches: Patches
    threshold: float


def prototype_patches(*, activate: bool) -> Patches:
    """Masks as weighted sums of prototypes (C, h, w), cut to the box.

    Args:
        activate: pass the sums through a sigmoid before they are enlarged.
    """

    def patches(found: Candidates, grids: Array, placement: Placement) -> Iterable[Patch]:
        prototypes = grids.astype(np.float32, copy=False)
        count, height, width = prototypes.shape
        scale = np.array([width, height] * 2, np.float32) / np.array(placement.frame * 2)
        corners = np.rint(found.boxes * scale).clip(0, [width, height] * 2).astype(int)
        for weights, (left, top, right, bottom) in zip(found.extras, corners, strict=True):
            if left >= right or top >= bottom:
                yield Patch(np.zeros((0, 0), np.float32), 0, 0)
                continue
            area = prototypes[:, top:bottom, left:right]
            sums = (weights @ area.reshape(count, -1)).reshape(area.shape[1:])
            yield Patch(sigmoid(sums) if activate else sums, left, top)

    return patches


def whole_patches(found: Candidates, grids: Array, placement: Placement) -> Iterable[Patch]:
    """Masks that the network gives whole, one per candidate (RF-DETR)."""
    for grid in found.extras:
        yield Patch(grid, 0, 0)


def instance_masks(
    found: Candidates, grids: Array, placement: Placement, params: InferParams, rule: MaskRule
) -> InstanceMasks:
    """The candidates with their outlines, in pixels of the picture or of a coarser grid.

    Args:
        found: with what ``rule`` needs as extras.
        grids: the output (C, h, w) that holds masks or their prototypes.
        placement: of the picture.
        params: of the request.
        rule: of the family.
    """
    height, width = grids.shape[-2:]
    raster = _raster(placement, (width, height), params.mask_resolution)
    polygons, rles = [], []
    for patch in rule.patches(found, grids, placement):
        require_finite(patch.values)
        mask, corner = raster.draw(patch, rule.threshold)
        polygons.append(longest_outline(mask, corner))
        if params.rle_masks:
            rles.append(run_lengths(mask, corner, raster.size))
    return InstanceMasks(
        raster.detections(found, placement),
        tuple(polygons),
        tuple(rles) if params.rle_masks else None,
        raster.size,
    )


@dataclass(frozen=True)
class _Raster:
    """Where masks are drawn.

    Attributes:
        size: width and height of the whole raster.
        area: left, top, width and height of the static crop on it.
        grid: width and height of the mask grid without padding.
        pad: cells of the mask grid left of and above the picture; negative where it was cut.
    """

    size: tuple[int, int]
    area: tuple[int, int, int, int]
    grid: tuple[int, int]
    pad: tuple[int, int]

    def draw(self, patch: Patch, threshold: float) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """The mask (h, w) of 0 and 1 around the instance, and its corner on the raster."""
        left, top, width, height = self.area
        across, down = axis(self.grid[0], width), axis(self.grid[1], height)
        margin = math.ceil(2 * max(across.support, down.support))
        values, x, y = self._visible(patch, threshold, margin)
        if values.size == 0:
            return np.zeros((0, 0), np.uint8), (0, 0)
        first, last = across.reach(x, x + values.shape[1])
        start, stop = down.reach(y, y + values.shape[0])
        wide = across.columns(values, first, last, x)
        mask = np.empty((stop - start, last - first), np.uint8)
        for row in range(start, stop, _ROWS):
            end = min(row + _ROWS, stop)
            np.greater(
                down.rows(wide, row, end, y),
                threshold,
                out=mask[row - start : end - start].view(np.bool_),
            )
        return mask, (left + first, top + start)

    def _visible(self, patch: Patch, threshold: float, margin: int) -> tuple[Array, int, int]:
        """The part of the patch that can show, on the grid without padding, and its corner."""
        x, y = patch.x - self.pad[0], patch.y - self.pad[1]
        cut_x, cut_y = max(-x, 0), max(-y, 0)
        values = patch.values[cut_y : max(self.grid[1] - y, 0), cut_x : max(self.grid[0] - x, 0)]
        x, y = x + cut_x, y + cut_y
        above = values > threshold
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if len(rows) == 0:
            return values[:0], 0, 0
        top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
        part = values[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
        return part, x + int(left), y + int(top)

    def detections(self, found: Candidates, placement: Placement) -> Detections:
        """Boxes on the raster: whole pixels on the picture's own, fractions on a coarser one."""
        if self.size == placement.original:
            return found.detections(placement)
        corners = placement.to_original(found.boxes.reshape(-1, 2, 2))
        limit = np.array(placement.original, np.float32)
        scale = np.array(self.size, np.float32) / limit
        boxes = (np.clip(corners, 0, limit) * scale).reshape(-1, 4)
        return Detections(boxes, found.scores, found.class_ids)


def _raster(placement: Placement, grid: tuple[int, int], resolution: float | None) -> _Raster:
    left, top, right, bottom = placement.padding_on(grid)
    pad, inner = (left, top), (max(1, grid[0] - left - right), max(1, grid[1] - top - bottom))
    if resolution is None:
        return _Raster(placement.original, placement.crop, inner, pad)
    x, y, width, height = placement.crop
    scale_x = _between(inner[0], width, resolution) / width
    scale_y = _between(inner[1], height, resolution) / height
    whole = (placement.original[0] * scale_x, placement.original[1] * scale_y)
    return _Raster(
        size=(max(1, round(whole[0])), max(1, round(whole[1]))),
        area=(
            round(x * scale_x),
            round(y * scale_y),
            max(1, round(width * scale_x)),
            max(1, round(height * scale_y)),
        ),
        grid=inner,
        pad=pad,
    )


def _between(coarse: int, fine: int, share: float) -> int:
    return max(1, round(coarse * (1 - share) + fine * share))


def longest_outline(mask: NDArray[np.uint8], corner: tuple[int, int] = (0, 0)) -> Polygon:
    """The outer contour with the most corners, the first of equals; empty for an empty mask.

    The reference chooses by corners, not by area, and drops holes and further parts.

    Args:
        mask: (h, w) of 0 and 1.
        corner: added to all coordinates.
    """
    if mask.size == 0:
        return np.zeros((0, 2), np.int32)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
    longest = max(contours, key=len, default=np.zeros((0, 2), np.int32))
    return np.asarray(longest, np.int32).reshape(-1, 2)


def run_lengths(mask: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int]) -> str:
    """The mask as compressed COCO run lengths: down the columns, zeros first.

    Format: https://github.com/cocodataset/cocoapi, ``rleToString``.

    Args:
        mask: (h, w) of 0 and 1.
        corner: of ``mask`` within the whole, x before y.
        size: width and height of the whole.
    """
    width, height = size
    rows = len(mask) + 1
    columns = np.zeros((mask.shape[1], rows), np.uint8)
    columns[:, :-1] = mask.T  # a 0 ends every column
    flat = columns.reshape(-1)
    flips = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        flips = np.concatenate([[0], flips])
    column, row = np.divmod(flips, rows)
    edges = (corner[0] + column) * height + corner[1] + row
    # A run that goes on at the top of the next column is one with it.
    joints = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([joints, joints + 1]))
    counts = np.diff(np.concatenate([[0], edges, [width * height]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return _compressed(counts.tolist())


def _compressed(counts: Sequence[int]) -> str:
    """Five bits a character, lowest first; from the third on differences to the last but one."""
    text = bytearray()
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            low = value & 0x1F
            value >>= 5
            more = value != (-1 if low & 0x10 else 0)
            text.append(48 + (low | 0x20 if more else low))
    return text.decode("ascii")
