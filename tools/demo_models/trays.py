"""Trays that hold one to four kinds of parts: which kinds is the question."""

from __future__ import annotations

from tools.demo_models import parts
from tools.demo_models.rendering import Rng, Scene

CLASSES = parts.CLASSES[: parts.SCRATCH]


def render_tray(rng: Rng, width: int, height: int, supersample: int = 2) -> Scene:
    """Render parts of a few kinds; their boxes' classes are the labels, scratches do not count.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        supersample: how many times larger it is drawn before it is reduced.
    """
    kinds = rng.permutation(len(CLASSES))[: rng.integers(1, len(CLASSES) + 1)]
    arrangement = parts.Arrangement(kinds=kinds.tolist(), count=(2, 8), scale=(0.08, 0.13))
    return parts.without_scratches(parts.render_scene(rng, width, height, supersample, arrangement))
