"""What work and weather do to metal: rust, oil, dents, chipped paint."""

from __future__ import annotations

import cv2
import numpy as np

from tools.demo_models.rendering import Float, Rng, grain

# Under the paint, BGR from 0 to 1: steel, dark primer, white primer.
_BARE = ((0.62, 0.62, 0.60), (0.40, 0.42, 0.45), (0.78, 0.80, 0.80))


def blotches(rng: Rng, shape: tuple[int, int], size: float, share: float) -> Float:
    """A field whose positive regions are irregular blotches of about ``size`` pixels.

    Args:
        rng: the only source of chance.
        shape: (H, W).
        size: of a blotch, in pixels.
        share: of the field that is positive, about.
    """
    field = grain(rng, shape, size) + 0.45 * grain(rng, shape, size / 3)
    field += 0.2 * grain(rng, shape, size / 8)
    sample = field[::4, ::4]
    return field - np.float32(np.quantile(sample, 1 - share))


def rust(rng: Rng, canvas: Float, field: Float) -> None:
    """Let ``canvas`` rust where ``field`` is positive: brown to orange, rough, darker within."""
    shape = field.shape
    cover = np.clip(field / 0.12 + 0.5, 0, 1)[..., None]
    deep = np.clip(field / 0.9 + 0.25 * grain(rng, shape, 5), 0, 1)[..., None]
    orange = np.array([0.10, 0.30, 0.58], np.float32) * rng.uniform(0.75, 1.15)
    brown = np.array([0.07, 0.13, 0.26], np.float32) * rng.uniform(0.8, 1.3)
    rough = 1 + 0.16 * grain(rng, shape, 1.4) + 0.14 * grain(rng, shape, 4)
    canvas += cover * ((orange + (brown - orange) * deep) * rough[..., None] - canvas)


def chip(rng: Rng, canvas: Float, field: Float, light: Float) -> None:
    """Break the paint off where ``field`` is positive: bare metal or primer, with a shaded rim."""
    cover = np.clip(field / 0.08 + 0.5, 0, 1)
    paint = canvas.mean((0, 1))
    distinct = [bare for bare in _BARE if np.abs(bare - paint).max() > 0.15]
    bare = np.array(distinct[rng.integers(len(distinct))], np.float32)
    texture = 1 + 0.07 * grain(rng, field.shape, 1.5) + 0.06 * grain(rng, field.shape, 12)
    canvas += cover[..., None] * (bare * texture[..., None] - canvas)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(cover, (0, 0), 1.0))
    canvas *= (1 + 1.1 * (slope_x * light[0] + slope_y * light[1]))[..., None]


def dent(rng: Rng, canvas: Float, light: Float, centre: Float, radius: float) -> None:
    """Press a hollow of ``radius`` pixels into the surface."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
    u, v = dx * np.cos(turn) + dy * np.sin(turn), (dy * np.cos(turn) - dx * np.sin(turn)) / squeeze
    depth = rng.uniform(0.35, 0.6) * radius
    hollow = -depth * np.exp(-((u**2 + v**2) ** rng.uniform(1.0, 1.8)) * 2)
    slope_y, slope_x = np.gradient(hollow)
    slope = -(slope_x * light[0] + slope_y * light[1]) / light[2]
    bright = (1 + slope) / np.sqrt(1 + slope_x**2 + slope_y**2)
    canvas *= np.clip(bright, 0.25, 1.8)[..., None]
    canvas += (0.35 * np.clip(bright - 1.15, 0, 1))[..., None]


def oil(rng: Rng, canvas: Float, field: Float, light: Float) -> None:
    """Wet the surface where ``field`` is positive: darker, tinted, with a bright bulging rim."""
    film = np.clip(field / 0.5, 0, 1)
    tint = np.array([rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.66), rng.uniform(0.55, 0.7)])
    soaked = canvas * (0.8 * tint.astype(np.float32)) + 0.02
    canvas += np.sqrt(film)[..., None] * (soaked - canvas)
    bulge = cv2.GaussianBlur(np.sqrt(film), (0, 0), 1.5)
    slope_y, slope_x = np.gradient(bulge)
    shine = np.clip(-(slope_x * light[0] + slope_y * light[1]) * 9 - 0.25, 0, 0.6)
    shine += 0.25 * film * np.clip(grain(rng, field.shape, 26) - 1.1, 0, 1)
    canvas += shine.astype(np.float32)[..., None]
