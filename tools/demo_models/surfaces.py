"""Close-ups of one metal surface in one condition."""

from __future__ import annotations

import numpy as np

from tools.demo_models import wear
from tools.demo_models.parts import draw_scratch
from tools.demo_models.rendering import Float, Rng, Scene, lamp, photograph, surface

CLASSES = ("clean", "scratched", "rusty", "dented", "oily")
_GOUGE = (0.01, 0.018)  # thickness of a scratch in sides of the picture: it must survive 128 pixels


def render_surface(rng: Rng, width: int, height: int) -> Scene:
    """Render one surface; its condition is the class of the only box, the whole picture.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    light = lamp(rng)
    level, tint = surface(rng, rng.choice(["brushed", "milled", "bench"]), (height, width))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    level = level * (1 + rng.uniform(0.05, 0.25) * (x * light[0] + y * light[1]))
    canvas = np.clip(level[..., None] * tint, 0.02, 1).astype(np.float32)
    condition = int(rng.integers(len(CLASSES)))
    _wear_down(rng, canvas, CLASSES[condition], light)
    return Scene(
        photograph(rng, np.clip(canvas, 0, 1), width, height),
        np.array([[0, 0, width, height]], np.float32),
        np.array([condition]),
        np.zeros((height, width), np.uint8),
        np.zeros((1, 0, 3), np.float32),
    )


def _wear_down(rng: Rng, canvas: Float, condition: str, light: Float) -> None:
    shape = (canvas.shape[0], canvas.shape[1])
    side = min(shape)
    if condition == "scratched":
        wanted = rng.integers(2, 7)
        for _ in range(60):
            wanted -= draw_scratch(rng, canvas, side, _GOUGE) is not None
            if wanted == 0:
                break
    elif condition == "rusty":
        field = wear.blotches(rng, shape, side * rng.uniform(0.15, 0.4), rng.uniform(0.1, 0.5))
        wear.rust(rng, canvas, field)
    elif condition == "dented":
        for _ in range(rng.integers(1, 4)):
            centre = rng.uniform(0.2, 0.8, 2) * [shape[1], shape[0]]
            wear.dent(rng, canvas, light, centre, side * rng.uniform(0.1, 0.24))
    elif condition == "oily":
        field = wear.blotches(rng, shape, side * rng.uniform(0.2, 0.5), rng.uniform(0.12, 0.4))
        wear.oil(rng, canvas, field, light)
