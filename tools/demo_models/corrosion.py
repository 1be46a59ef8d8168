"""Painted metal panels that rust and lose their paint, with the state of every pixel."""

from __future__ import annotations

import cv2
import numpy as np

from tools.demo_models import parts, wear
from tools.demo_models.rendering import Float, Rng, Scene, grain, lamp, photograph, stamp

CLASSES = ("background", "rust", "coating-damage")
RUST, DAMAGE = 1, 2

# Paints, BGR from 0 to 1.
_PAINTS = (
    (0.55, 0.35, 0.12),  # blue
    (0.30, 0.42, 0.18),  # green
    (0.14, 0.60, 0.80),  # yellow
    (0.50, 0.48, 0.45),  # grey
    (0.78, 0.82, 0.82),  # white
    (0.16, 0.16, 0.60),  # red
    (0.22, 0.20, 0.18),  # anthracite
)


def render_panel(rng: Rng, width: int, height: int) -> Scene:
    """Render one panel; ``labels`` hold the class of every pixel, boxes there are none.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    shape, side = (height, width), min(width, height)
    light = lamp(rng)
    canvas = _panel(rng, shape, light)
    labels = np.zeros(shape, np.uint8)
    if rng.random() < 0.75:
        field = _patchy(rng, shape, side * rng.uniform(0.12, 0.3), rng.uniform(0.05, 0.3))
        wear.chip(rng, canvas, field, light)
        labels[field > 0] = DAMAGE
    if rng.random() < 0.8:
        field = _patchy(rng, shape, side * rng.uniform(0.12, 0.35), rng.uniform(0.08, 0.4))
        wear.rust(rng, canvas, field)
        labels[field > 0] = RUST
    return Scene(
        photograph(rng, np.clip(canvas, 0, 1), width, height),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        labels,
        np.zeros((0, 0, 3), np.float32),
    )


def _panel(rng: Rng, shape: tuple[int, int], light: Float) -> Float:
    """Paint with the texture of its spraying, uneven light, dirt, a joint and bolts."""
    height, width = shape
    paint = np.array(_PAINTS[rng.integers(len(_PAINTS))], np.float32) * rng.uniform(0.85, 1.15)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    level = 1 + 0.025 * grain(rng, shape, 3) + 0.03 * grain(rng, shape, 40)
    level *= 1 + rng.uniform(0.05, 0.25) * (x * light[0] + y * light[1])
    dirt = np.clip(grain(rng, shape, min(shape) * 0.2) - rng.uniform(0.6, 1.6), 0, 1)
    canvas = (level * (1 - 0.35 * dirt))[..., None] * paint
    if rng.random() < 0.4:
        column = int(rng.uniform(0.15, 0.85) * width)
        cv2.line(canvas, (column, 0), (column, height), (paint * 0.35).tolist(), 3, cv2.LINE_AA)
    for _ in range(rng.integers(0, 4)):
        centre = rng.uniform(0.05, 0.95, 2) * [width, height]
        shape_of = parts.SHAPES[rng.integers(2)]
        stamp(rng, canvas, shape_of, (centre[0], centre[1]), min(shape) * 0.06, light)
    return canvas


def _patchy(rng: Rng, shape: tuple[int, int], size: float, share: float) -> Float:
    """Blotches, or blotches around one place."""
    field = wear.blotches(rng, shape, size, share)
    if rng.random() < 0.5:
        y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
        away = np.hypot(x - rng.uniform(-0.8, 0.8), y - rng.uniform(-0.8, 0.8))
        field += 0.5 - np.float32(rng.uniform(0.9, 1.8)) * away
    return field
