"""Semantic segmentation: logits per class and cell, or the class of every cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.vision.activations import sigmoid, softmax
from edge_server.vision.candidates import ClassChannels, limit_of, require_finite
from edge_server.vision.head import Decoder, HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import SemanticMap
from edge_server.vision.resample import axis
from engines.base import Array

BACKGROUND = "background"

Confidence: TypeAlias = Callable[[Array], NDArray[np.float32]]
"""From values (K, h, w) to the confidence (h, w) of the strongest."""

# Floats of enlarged logits that stand in memory at a time.
_FLOATS = 2**21


def class_map(spec: HeadSpec, *, default: float, competing: bool = True) -> Decoder:
    """Logits (K, h, w), or class ids (h, w) where the graph ends in argmax.

    Args:
        spec: see ``HeadSpec``; one of its classes is the background.
        default: the family's confidence.
        competing: the confidence is the softmax of all logits; else the sigmoid of the winner.
    """
    shape, names = spec.output_shapes[0], spec.class_names
    lowered = [name.lower() for name in names]
    if BACKGROUND not in lowered:
        raise ValueError(f"its classes are {', '.join(names)}; expected {BACKGROUND!r} among them")
    background = lowered.index(BACKGROUND)
    channels = shape[1] if len(shape) == 4 else len(names)
    # A network may leave the background out: its classes then number the others.
    if len(shape) not in (3, 4) or channels not in (len(names), len(names) - 1):
        raise ValueError(
            f"its output is {shape}; expected (batch, {len(names)} classes, rows, columns)"
        )
    ids = np.array([i for i in range(len(names)) if channels == len(names) or i != background])
    thresholds = ClassChannels(spec, len(names), default)
    confidence = _confidence(fused=spec.fused, competing=competing and channels > 1)

    def decode(
        outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> list[SemanticMap]:
        grids = next(iter(outputs.values()))
        limits = thresholds.limits(params)
        return [
            _paint(grid, placement, background, ids, limits, confidence)
            for grid, placement in zip(grids, placements, strict=False)  # padded pictures follow
        ]

    return decode


def _paint(
    grid: Array,
    placement: Placement,
    background: int,
    ids: NDArray[np.int64],
    limits: NDArray[np.float32],
    confidence: Confidence,
) -> SemanticMap:
    width, height = placement.original
    class_ids = np.full((height, width), background, np.uint8)
    confidences = np.zeros((height, width), np.uint8)
    left, top, crop_width, crop_height = placement.crop
    area = (slice(top, top + crop_height), slice(left, left + crop_width))
    cells = _without_padding(grid, placement, background)
    if grid.ndim == 2:
        class_ids[area] = cv2.resize(
            cells.astype(np.uint8), (crop_width, crop_height), interpolation=cv2.INTER_NEAREST
        )
        confidences[area] = 255
        return SemanticMap(class_ids, confidences)
    logits = cells.astype(np.float32, copy=False)
    require_finite(logits)
    across, down = axis(logits.shape[2], crop_width), axis(logits.shape[1], crop_height)
    rows = max(1, _FLOATS // (len(logits) * crop_width))
    for start in range(0, crop_height, rows):
        stop = min(start + rows, crop_height)
        band = across.columns(down.rows(logits, start, stop), 0, crop_width)
        found, scores = ids[band.argmax(axis=0)], confidence(band)
        above = scores >= limit_of(limits, found)
        class_ids[area][start:stop] = np.where(above, found, background)
        confidences[area][start:stop] = np.where(above, scores * np.float32(255), 0)
    return SemanticMap(class_ids, confidences)


def _confidence(*, fused: bool, competing: bool) -> Confidence:
    if fused:
        return lambda values: np.asarray(values.max(axis=0))
    if competing:
        return lambda values: np.asarray(softmax(values).max(axis=0))
    return lambda values: sigmoid(values.max(axis=0))


def _without_padding(grid: Array, placement: Placement, background: int) -> Array:
    """Cut the letterbox's bars off; where the picture was cut, the grid goes on as background."""
    height, width = grid.shape[-2:]
    left, top, right, bottom = placement.padding_on((width, height))
    inner = grid[
        ...,
        max(top, 0) : max(height - max(bottom, 0), max(top, 0) + 1),
        max(left, 0) : max(width - max(right, 0), max(left, 0) + 1),
    ]
    beyond = [(max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0))]
    if not any(sum(pair) for pair in beyond):
        return inner
    around = [(0, 0)] * (grid.ndim - 2) + beyond
    return np.pad(inner, around, constant_values=background)
