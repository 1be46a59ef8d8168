"""Render pictures of factory parts as an inspection camera would see them, with their boxes.

Every part is a height field over local coordinates; normals of the height field, one lamp and
one viewer give its shading, and the height gives its shadow. Everything is drawn larger and
reduced, which is what makes the edges smooth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Rng = np.random.Generator

CLASSES = ("washer", "hex-nut", "bolt", "gear", "scratch")
SCRATCH = CLASSES.index("scratch")

# Colours of metals, BGR from 0 to 1, and how strongly each mirrors the lamp.
_METALS = (
    ((0.72, 0.72, 0.70), 0.55),  # zinc-plated steel
    ((0.62, 0.60, 0.58), 0.40),  # plain steel
    ((0.38, 0.66, 0.80), 0.45),  # brass
    ((0.48, 0.60, 0.66), 0.35),  # bronze
    ((0.20, 0.19, 0.19), 0.30),  # black oxide
    ((0.80, 0.80, 0.82), 0.65),  # polished
)


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) uint8 BGR, boxes (N, 4) float32 xyxy in its pixels, class ids (N,)."""

    image: NDArray[np.uint8]
    boxes: Float
    class_ids: NDArray[np.int64]


@dataclass(frozen=True)
class _Relief:
    """A part seen from above over a grid: where it is, how high, and how dark it is there."""

    mask: NDArray[np.bool_]
    height: Float
    albedo: Float


def render_scene(rng: Rng, width: int, height: int, supersample: int = 2) -> Scene:
    """Render one scene.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        supersample: how many times larger it is drawn before it is reduced.
    """
    canvas_width, canvas_height = width * supersample, height * supersample
    side = min(canvas_width, canvas_height)
    azimuth = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(azimuth), np.sin(azimuth), rng.uniform(1.0, 2.0)], np.float32)
    light /= np.linalg.norm(light)
    canvas, metallic = _background(rng, canvas_width, canvas_height, light)
    boxes: list[tuple[float, float, float, float]] = []
    class_ids: list[int] = []
    if metallic:
        for _ in range(rng.integers(0, 4)):
            box = _draw_scratch(rng, canvas, side)
            if box is not None:
                boxes.append(box)
                class_ids.append(SCRATCH)
    scale = rng.uniform(0.055, 0.11)
    for _ in range(rng.integers(2, 10)):
        kind = int(rng.integers(len(_PARTS)))
        radius = side * scale * rng.uniform(0.7, 1.6) * _SIZE[kind]
        placed = _place(rng, canvas, radius, boxes, class_ids)
        if placed is not None:
            visible = _draw_part(rng, canvas, placed, radius, kind, light)
            if visible is not None:
                boxes.append(visible)
                class_ids.append(kind)
    image = _photograph(rng, canvas, width, height)
    found = np.array(boxes, np.float32).reshape(-1, 4) / supersample
    return Scene(image, found, np.array(class_ids, np.int64))


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


def _draw_part(
    rng: Rng, canvas: Float, centre: tuple[float, float], radius: float, kind: int, light: Float
) -> tuple[float, float, float, float] | None:
    """Draw a part with its shadow; return its visible box, or None when too little is visible."""
    half = int(radius * 1.5) + 4
    left, top = int(centre[0]) - half, int(centre[1]) - half
    grid = (np.arange(2 * half, dtype=np.float32) - half) / np.float32(radius)
    x, y = np.meshgrid(grid, grid)
    turn = rng.uniform(0, 2 * np.pi)
    u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    v = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
    relief = _PARTS[kind](rng, u, v)
    shaded = _shade(rng, relief, u, v, radius, light)
    tall = float(relief.height.max()) * radius
    shift = np.float32([[1, 0, -light[0] * tall], [0, 1, -light[1] * tall]])
    cast = cv2.warpAffine(relief.mask.astype(np.float32), shift, (2 * half, 2 * half))
    shadow = cv2.GaussianBlur(cast, (0, 0), 1 + tall * 0.35) * rng.uniform(0.45, 0.75)

    height, width = canvas.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + 2 * half, width), min(top + 2 * half, height)
    window = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    mask = relief.mask[window]
    if mask.sum() < 0.4 * relief.mask.sum():
        return None
    target = canvas[y1:y2, x1:x2]
    target *= 1 - shadow[window][..., None]
    target[mask] = shaded[window][mask]
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return (
        float(x1 + columns[0]),
        float(y1 + rows[0]),
        float(x1 + columns[-1] + 1),
        float(y1 + rows[-1] + 1),
    )


def _shade(rng: Rng, relief: _Relief, u: Float, v: Float, radius: float, light: Float) -> Float:
    """The colours of a part: diffuse light, the mirror image of the lamp, and machining marks."""
    colour, gloss = _METALS[rng.integers(len(_METALS))]
    smooth = cv2.GaussianBlur(relief.height * np.float32(radius), (0, 0), 0.8)
    slope_y, slope_x = np.gradient(smooth)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    towards_lamp = np.clip(normal @ light, 0, 1)
    halfway = light + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    mirrored = np.clip(normal @ halfway, 0, 1) ** rng.uniform(12, 40)
    marks = _streaks(rng, u.shape, rng.uniform(0, 180), 15) * 0.05
    if rng.random() < 0.5:  # turned on a lathe: rings
        marks = marks + 0.03 * np.sin(np.hypot(u, v) * rng.uniform(60, 140))
    level = relief.albedo * (0.28 + 0.72 * towards_lamp + marks)
    shaded = level[..., None] * np.array(colour, np.float32) * rng.uniform(0.8, 1.1)
    return (shaded + (gloss * mirrored * relief.albedo)[..., None]).astype(np.float32)


def _step(value: Float, width: float) -> Float:
    """0 below zero, 1 above ``width``, rounded between: the profile of a bevelled edge."""
    return np.sqrt(np.clip(value / np.float32(width), 0, 1))


def _washer(rng: Rng, u: Float, v: Float) -> _Relief:
    r = np.hypot(u, v)
    hole = rng.uniform(0.4, 0.66)
    inside = np.minimum(1 - r, r - hole)
    return _Relief(inside > 0, 0.09 * _step(inside, 0.06), np.ones_like(u))


def _hex_nut(rng: Rng, u: Float, v: Float) -> _Relief:
    r = np.hypot(u, v)
    hole = rng.uniform(0.46, 0.56)
    angles = np.arange(3, dtype=np.float32) * np.float32(np.pi / 3)
    across = np.max([np.abs(u * np.cos(a) + v * np.sin(a)) for a in angles], axis=0)
    inside = np.minimum(0.866 - across, r - hole)
    chamfer = np.clip((0.98 - r) / 0.22, 0, 1)  # the corners fall off towards the flats
    thread = np.clip((r - hole) / 0.08, 0, 1)
    height = 0.42 * _step(0.866 - across, 0.04) * (0.75 + 0.25 * chamfer) * (0.8 + 0.2 * thread)
    rings = 0.75 + 0.25 * np.sin(np.clip(r - hole, 0, 0.08) * 160)
    return _Relief(inside > 0, height, np.where(thread < 1, 0.6 * rings, 1).astype(np.float32))


def _bolt(rng: Rng, u: Float, v: Float) -> _Relief:
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
    head = head_half * (0.55 + 0.45 * facets) * (0.9 + 0.1 * _step(u + 1, 0.08))
    head = head * _step(np.minimum(head_end - u, u + 1), 0.03)
    height = np.where(in_head, head, np.where(in_shank, cylinder * thread, 0)).astype(np.float32)
    valley = np.where(in_shank & threaded, 0.55 + 0.45 * wave, 1)
    return _Relief(in_head | in_shank, height, valley.astype(np.float32))


def _gear(rng: Rng, u: Float, v: Float) -> _Relief:
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    teeth, root = int(rng.integers(12, 26)), rng.uniform(0.78, 0.86)
    hole = rng.uniform(0.16, 0.3)
    tooth = np.clip(1.6 * np.cos(angle * teeth) + 0.55, 0, 1)
    outline = root + (1 - root) * tooth
    inside = np.minimum(outline - r, r - hole)
    rim, hub = root - rng.uniform(0.1, 0.18), hole + rng.uniform(0.1, 0.16)
    web = _step(np.minimum(rim - r, r - hub), 0.04) * rng.choice([0.0, 0.55, 0.75])
    height = 0.24 * _step(inside, 0.03) * (1 - web)
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
        height = height * _step(around - size, 0.03)
    return _Relief(mask, height.astype(np.float32), np.ones_like(u))


_PARTS: tuple[Callable[[Rng, Float, Float], _Relief], ...] = (_washer, _hex_nut, _bolt, _gear)
_SIZE = (0.9, 0.85, 1.45, 1.35)


def _draw_scratch(rng: Rng, canvas: Float, side: int) -> tuple[float, float, float, float] | None:
    """Gouge a bright irregular line with a dark lip into a metal surface; return its box."""
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
    thick = max(2, round(side * rng.uniform(0.004, 0.008)))
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


def _background(rng: Rng, width: int, height: int, light: Float) -> tuple[Float, bool]:
    """A surface (H, W, 3) float32 BGR from 0 to 1, and whether it is metal: can be scratched."""
    kind = rng.choice(
        ["brushed", "milled", "belt", "tray", "bench"], p=[0.34, 0.16, 0.2, 0.17, 0.13]
    )
    shape = (height, width)
    tint = np.array([1, 1, 1], np.float32)
    if kind == "brushed":
        surface = rng.uniform(0.4, 0.68) + 0.10 * _streaks(rng, shape, rng.uniform(0, 180), 60)
        tint = np.array([rng.uniform(0.94, 1.06), 1, rng.uniform(0.94, 1.06)], np.float32)
    elif kind == "milled":
        surface = rng.uniform(0.35, 0.6) + _milling(rng, shape) + 0.05 * _streaks(rng, shape, 0, 9)
    elif kind == "belt":
        surface = rng.uniform(0.12, 0.26) + _weave(rng, shape) + 0.03 * _grain(rng, shape, 1.2)
    elif kind == "tray":
        surface = rng.uniform(0.45, 0.8) + 0.02 * _grain(rng, shape, 1.5) + _ribs(rng, shape)
        tint = np.array(
            [(1.0, 0.72, 0.5), (0.6, 0.85, 0.62), (1, 1, 1), (0.5, 0.72, 1.0)][rng.integers(4)],
            np.float32,
        )
    else:
        surface = (
            rng.uniform(0.35, 0.65) + 0.06 * _grain(rng, shape, 2) + 0.06 * _grain(rng, shape, 14)
        )
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    surface = surface * (1 + rng.uniform(0.05, 0.28) * (x * light[0] + y * light[1]))
    for _ in range(rng.integers(0, 5)):  # oil stains
        cx, cy, size = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.05, 0.3)
        blob = np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / size**2) ** 2))
        surface = surface * (1 - rng.uniform(0.08, 0.3) * blob)
    canvas = (surface[..., None] * tint).astype(np.float32)
    if rng.random() < 0.3:
        _seam(rng, canvas)
    return np.clip(canvas, 0.02, 1), kind in ("brushed", "milled")


def _grain(rng: Rng, shape: tuple[int, ...], size: float) -> Float:
    """Smooth noise of deviation one whose grains measure about ``size`` pixels."""
    small = (max(2, int(shape[0] / size)), max(2, int(shape[1] / size)))
    noise = rng.standard_normal(small, dtype=np.float32)
    return cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _streaks(rng: Rng, shape: tuple[int, ...], degrees: float, length: int) -> Float:
    """Noise drawn out along one direction, of deviation about one: brushed metal."""
    size = int(np.hypot(*shape[:2])) + 2
    noise = cv2.blur(rng.standard_normal((size, size), dtype=np.float32), (length, 1))
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, 1)
    turned = cv2.warpAffine(noise, turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    return turned[top : top + shape[0], left : left + shape[1]] * np.float32(length**0.5)


def _milling(rng: Rng, shape: tuple[int, ...]) -> Float:
    """The arcs that a face mill leaves."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    cx, cy = rng.uniform(-1, 2) * shape[1], rng.uniform(-2, -0.5) * shape[0]
    wave = np.hypot(x - cx, y - cy) / rng.uniform(5, 11)
    return 0.035 * np.sin(wave * 2 * np.pi) + 0.02 * np.sin(wave * 1.7)


def _weave(rng: Rng, shape: tuple[int, ...]) -> Float:
    """The texture of a rubber belt: crossed ribs."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(7, 14)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return 0.03 * np.sin(u * 2 * np.pi / pitch) * np.sin(v * 2 * np.pi / pitch)


def _ribs(rng: Rng, shape: tuple[int, ...]) -> Float:
    """The raised ribs of a plastic tray."""
    position = np.arange(shape[1], dtype=np.float32)[None] / shape[1]
    rib = np.abs((position * rng.integers(2, 5) + rng.random()) % 1 - 0.5)
    return np.broadcast_to(0.12 * (rib < 0.02) - 0.12 * ((rib > 0.02) & (rib < 0.035)), shape)


def _seam(rng: Rng, canvas: Float) -> None:
    """A straight joint across the whole surface: looks like a scratch to a careless detector."""
    height, width = canvas.shape[:2]
    dark = np.zeros((height, width), np.float32)
    if rng.random() < 0.5:
        x = int(rng.uniform(0.1, 0.9) * width)
        ends = (x, 0), (x + int(rng.normal(0, 0.05) * width), height)
    else:
        y = int(rng.uniform(0.1, 0.9) * height)
        ends = (0, y), (width, y + int(rng.normal(0, 0.05) * height))
    cv2.line(dark, *ends, 1.0, max(2, round(min(width, height) * 0.006)), cv2.LINE_AA)
    canvas *= (1 - 0.6 * dark)[..., None]


def _photograph(rng: Rng, canvas: Float, width: int, height: int) -> NDArray[np.uint8]:
    """Reduce to the picture's size and add what a camera adds: vignette, blur, noise."""
    picture = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    picture *= (1 - rng.uniform(0, 0.3) * (x**2 + y**2) / 2)[..., None]
    picture *= rng.uniform(0.8, 1.15) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(
            picture, (0, 0), rng.uniform(0.3, 0.8) * min(width, height) / 400
        )
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture += noise * np.float32(rng.uniform(0.004, 0.018))
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)
