"""Pictures that training never sees, with their truth: what the shipped models are measured on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_models import corrosion, parts, surfaces, trays, wrenches
from tools.demo_models.metrics import Instances
from tools.demo_models.rendering import Scene

HELD_OUT_SEED = 5_000_000  # training starts at 1,000,000, the examples at 7,000,000
_DETECTION_SIZES = ((320, 320), (640, 480), (1280, 960))
_SIZES = ((320, 320), (480, 360))


def held_out(name: str, index: int) -> tuple[NDArray[np.uint8], Any]:
    """Render held-out picture number ``index`` of a demo model; always the same.

    Returns:
        the picture (H, W, 3) BGR, and by ``name``
        demo-parts: ``Instances`` with boxes;
        demo-parts-seg: ``Instances`` with boxes and masks;
        demo-wrenches: ``Instances`` with boxes and points;
        demo-surfaces: the class id, an int;
        demo-trays: (4,) bool, which classes are there;
        demo-corrosion: (H, W) uint8, the class id of every pixel.

    Raises:
        KeyError: there is no such model.
    """
    scene = _RENDERERS[name](index)
    return scene.image, _TRUTHS[name](scene)


def _parts_scene(index: int) -> Scene:
    """Network-sized and camera-sized ones by turns."""
    width, height = _DETECTION_SIZES[index % len(_DETECTION_SIZES)]
    supersample = 1 if width > 1000 else 2
    return parts.render_scene(_rng(index), width, height, supersample)


def _outlines_scene(index: int) -> Scene:
    width, height = _SIZES[index % len(_SIZES)]
    return parts.without_scratches(parts.render_scene(_rng(index), width, height, 1))


def _rng(index: int) -> np.random.Generator:
    return np.random.default_rng(HELD_OUT_SEED + index)


def _outlines(scene: Scene) -> Instances:
    numbers = np.arange(1, len(scene.boxes) + 1)[:, None, None]
    return Instances(scene.boxes, scene.class_ids, masks=scene.labels == numbers)


_RENDERERS = {
    "demo-parts": _parts_scene,
    "demo-parts-seg": _outlines_scene,
    "demo-wrenches": lambda i: wrenches.render_wrenches(_rng(i), *_SIZES[i % 2], supersample=1),
    "demo-surfaces": lambda i: surfaces.render_surface(_rng(i), 320, 240),
    "demo-trays": lambda i: trays.render_tray(_rng(i), 400, 300, supersample=1),
    "demo-corrosion": lambda i: corrosion.render_panel(_rng(i), 400, 300),
}

_TRUTHS = {
    "demo-parts": lambda scene: Instances(scene.boxes, scene.class_ids),
    "demo-parts-seg": _outlines,
    "demo-wrenches": lambda s: Instances(s.boxes, s.class_ids, points=s.points),
    "demo-surfaces": lambda scene: int(scene.class_ids[0]),
    "demo-trays": lambda scene: np.isin(np.arange(len(trays.CLASSES)), scene.class_ids),
    "demo-corrosion": lambda scene: scene.labels,
}
