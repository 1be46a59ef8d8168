"""Scenes of factory parts as an inspection camera would see them, with boxes and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tools.demo_models.rendering import (
    Float,
    Relief,
    Rng,
    Scene,
    Shape,
    background,
    lamp,
    photograph,
    reduce_labels,
    stamp,
    step,
)

CLASSES = ("washer", "hex-nut", "bolt", "gear", "scratch")
SCRATCH = CLASSES.index("scratch")


@dataclass(frozen=True)
class Arrangement:
    """Which parts lie there: indices into ``CLASSES``, least and most, and how large."""

    kinds: Sequence[int] = (0, 1, 2, 3)
    count: tuple[int, int] = (2, 10)
    scale: tuple[float, float] = (0.055, 0.11)


def render_scene(
    rng: Rng,
    width: int,
    height: int,
    supersample: int = 2,
    arrangement: Arrangement = Arrangement(),  # noqa: B008 - frozen
) -> Scene:
    """Render one scene.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        supersample: how many times larger it is drawn before it is reduced.
        arrangement: of the parts.
    """
    canvas_width, canvas_height = width * supersample, height * supersample
    side = min(canvas_width, canvas_height)
    light = lamp(rng)
    canvas, metallic = background(rng, canvas_width, canvas_height, light)
    labels = np.zeros(canvas.shape[:2], np.uint8)
    boxes: list[tuple[float, float, float, float]] = []
    class_ids: list[int] = []
    if metallic:
        for _ in range(rng.integers(0, 4)):
            box = draw_scratch(rng, canvas, side)
            if box is not None:
                boxes.append(box)
                class_ids.append(SCRATCH)
    scale = rng.uniform(*arrangement.scale)
    for _ in range(rng.integers(*arrangement.count)):
        kind = int(arrangement.kinds[rng.integers(len(arrangement.kinds))])
        radius = side * scale * rng.uniform(0.7, 1.6) * _SIZE[kind]
        centre = _place(rng, canvas, radius, boxes, class_ids)
        placed = stamp(rng, canvas, SHAPES[kind], centre, radius, light) if centre else None
        if placed is not None:
            boxes.append(placed.box)
            class_ids.append(kind)
            labels[placed.window][placed.mask] = len(boxes)
    image = photograph(rng, canvas, width, height)
    found = np.array(boxes, np.float32).reshape(-1, 4) / supersample
    points = np.zeros((len(found), 0, 3), np.float32)
    seen = reduce_labels(labels, supersample)
    return Scene(image, found, np.array(class_ids, np.int64), seen, points)


def without_scratches(scene: Scene) -> Scene:
    """The scene as if nobody had asked for scratches; they stay visible."""
    kept = np.flatnonzero(scene.class_ids != SCRATCH)
    numbers = np.zeros(256, np.uint8)
    numbers[kept + 1] = np.arange(1, len(kept) + 1)
    return replace(
        scene,
        boxes=scene.boxes[kept],
        class_ids=scene.class_ids[kept],
        points=scene.points[kept],
        labels=numbers[scene.labels],
    )


def _place(
    rng: Rng, canvas: Float, radius: float, boxes: list[tuple[float, ...]], class_ids: list[int]
) -> tuple[float, float] | None:
    """A centre at which a part of this radius covers little of the others, or None."""
    height, width = canvas.shape[:2]
    for _ in range(12):
        x, y = rng.uniform(0.02, 0.98) * width, rng.uniform(0.02, 0.98) * height
        clear = True
        for (x1, y1, x2, y2), class_id in zip(boxes, class_ids, strict=True):
            reach = (x2 - x1 + y2 - y1) / 4
            room = 1.05 if class_id == SCRATCH else 0.85
            if np.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2) < (radius + reach) * room:
                clear = False
        if clear:
            return x, y
    return None


def _washer(rng: Rng, u: Float, v: Float) -> Relief:
    r = np.hypot(u, v)
    hole = rng.uniform(0.4, 0.66)
    inside = np.minimum(1 - r, r - hole)
    return Relief(inside > 0, 0.09 * step(inside, 0.06), np.ones_like(u))


def _hex_nut(rng: Rng, u: Float, v: Float) -> Relief:
    r = np.hypot(u, v)
    hole = rng.uniform(0.46, 0.56)
    angles = np.arange(3, dtype=np.float32) * np.float32(np.pi / 3)
    across = np.max([np.abs(u * np.cos(a) + v * np.sin(a)) for a in angles], axis=0)
    inside = np.minimum(0.866 - across, r - hole)
    chamfer = np.clip((0.98 - r) / 0.22, 0, 1)  # the corners fall off towards the flats
    thread = np.clip((r - hole) / 0.08, 0, 1)
    height = 0.42 * step(0.866 - across, 0.04) * (0.75 + 0.25 * chamfer) * (0.8 + 0.2 * thread)
    rings = 0.75 + 0.25 * np.sin(np.clip(r - hole, 0, 0.08) * 160)
    return Relief(inside > 0, height, np.where(thread < 1, 0.6 * rings, 1).astype(np.float32))


def _bolt(rng: Rng, u: Float, v: Float) -> Relief:
    head_end, head_half = -1 + rng.uniform(0.28, 0.42), rng.uniform(0.3, 0.4)
    shank_half = head_half * rng.uniform(0.5, 0.62)
    pitch, smooth_until = rng.uniform(0.055, 0.09), head_end + rng.choice([0.02, 0.35])
    aside = np.abs(v)
    in_head = (u > -1) & (u < head_end) & (aside < head_half)
    wave = np.abs(((u + 0.25 * pitch * v / shank_half) / pitch) % 1 - 0.5) * 2
    threaded = u > smooth_until
    reach = shank_half * np.where(threaded, 0.9 + 0.1 * wave, 0.97)
    tip = np.clip((1 - u) / 0.06, 0.3, 1)
    in_shank = (u >= head_end) & (u < 1) & (aside < reach * np.minimum(1, 0.7 + 0.3 * tip))
    cylinder = np.sqrt(np.clip(1 - (v / shank_half) ** 2, 0, 1)) * shank_half
    thread = np.where(threaded, 0.85 + 0.15 * wave, 1)
    facets = np.clip((head_half - aside) / (0.5 * head_half), 0, 1)  # flat top, two falling flats
    head = head_half * (0.55 + 0.45 * facets) * (0.9 + 0.1 * step(u + 1, 0.08))
    head = head * step(np.minimum(head_end - u, u + 1), 0.03)
    height = np.where(in_head, head, np.where(in_shank, cylinder * thread, 0)).astype(np.float32)
    valley = np.where(in_shank & threaded, 0.55 + 0.45 * wave, 1)
    return Relief(in_head | in_shank, height, valley.astype(np.float32))


def _gear(rng: Rng, u: Float, v: Float) -> Relief:
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    teeth, root = int(rng.integers(12, 26)), rng.uniform(0.78, 0.86)
    hole = rng.uniform(0.16, 0.3)
    tooth = np.clip(1.6 * np.cos(angle * teeth) + 0.55, 0, 1)
    outline = root + (1 - root) * tooth
    inside = np.minimum(outline - r, r - hole)
    rim, hub = root - rng.uniform(0.1, 0.18), hole + rng.uniform(0.1, 0.16)
    web = step(np.minimum(rim - r, r - hub), 0.04) * rng.choice([0.0, 0.55, 0.75])
    height = 0.24 * step(inside, 0.03) * (1 - web)
    mask = inside > 0
    if rng.random() < 0.4:  # holes in the web make it lighter
        holes = int(rng.integers(4, 7))
        middle, size = (rim + hub) / 2, (rim - hub) * 0.36
        around = np.min(
            [
                np.hypot(u - middle * np.cos(a), v - middle * np.sin(a))
                for a in np.arange(holes) * 2 * np.pi / holes
            ],
            axis=0,
        )
        mask &= around > size
        height = height * step(around - size, 0.03)
    return Relief(mask, height.astype(np.float32), np.ones_like(u))


SHAPES: tuple[Shape, ...] = (_washer, _hex_nut, _bolt, _gear)
_SIZE = (0.9, 0.85, 1.45, 1.35)


def draw_scratch(
    rng: Rng, canvas: Float, side: int, thickness: tuple[float, float] = (0.004, 0.008)
) -> tuple[float, float, float, float] | None:
    """Gouge a bright irregular line with a dark lip into a metal surface; return its box.

    ``side`` of the canvas in pixels; the thickness is in parts of it.
    """
    height, width = canvas.shape[:2]
    length, steps = side * rng.uniform(0.16, 0.5), 24
    # Away from the axes: a box of two pixels' height would say nothing about a detector.
    heading = rng.choice([0.5, 1, 1.5, 2]) * np.pi + rng.uniform(0.35, 1.2)
    turns = np.cumsum(rng.normal(0, 0.05, steps)) + np.linspace(0, rng.uniform(-0.5, 0.5), steps)
    stride = np.stack([np.cos(heading + turns), np.sin(heading + turns)], 1) * length / steps
    path = np.cumsum(stride, axis=0)
    path += np.array([width, height]) * rng.uniform(0.08, 0.92, 2) - path.mean(0)
    if path.min() < 4 or (path.max(0) > np.array([width, height]) - 4).any():
        return None
    thick = max(2, round(side * rng.uniform(*thickness)))
    core = np.zeros((height, width), np.float32)
    lip = np.zeros_like(core)
    for strand in range(int(rng.integers(1, 4))):
        points = path + rng.normal(0, thick * 0.12, path.shape) + strand * thick * 1.4
        first, last = (0, steps) if strand == 0 else sorted(rng.integers(0, steps, 2))
        _taper(core, points[first:last], thick)
        _taper(lip, points[first:last] + thick * 0.7, thick)
    strength = rng.uniform(0.14, 0.4)
    canvas *= (1 - 0.45 * cv2.GaussianBlur(lip, (0, 0), 1.0))[..., None]
    core = cv2.GaussianBlur(core, (0, 0), 0.8)[..., None]
    canvas += core * (strength + 0.22 * (1 - canvas))
    columns, rows = np.flatnonzero((core > 0.2).any(0)), np.flatnonzero((core > 0.2).any(1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _taper(layer: Float, points: Float, thick: int) -> None:
    """Draw a polyline that is thin at its ends."""
    count = len(points)
    for index in range(count - 1):
        ends = min(index + 1, count - 1 - index) / max(count / 4, 1)
        start, stop = (tuple(int(value) for value in points[i]) for i in (index, index + 1))
        width = max(1, round(thick * min(1.0, 0.4 + 0.6 * ends)))
        cv2.line(layer, start, stop, 1.0, width, cv2.LINE_AA)
