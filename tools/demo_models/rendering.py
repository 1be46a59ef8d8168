"""What all scenes share: surfaces, reliefs lit by one lamp, and the camera.

Every solid thing is a height field over local coordinates; normals of the height field, one lamp
and one viewer give its shading, and the height gives its shadow. Colours are BGR from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it; what a kind of scene does not have stays empty.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        boxes: (N, 4) float32 xyxy in its pixels.
        class_ids: (N,) int64.
        labels: (H, W) uint8: the number of the thing there, from 1 in the order of the boxes; in
            scenes without boxes the class there; 0 is the background.
        points: (N, K, 3) float32: x, y and 1 where visible, 0 where outside the picture.
    """

    image: NDArray[np.uint8]
    boxes: Float
    class_ids: NDArray[np.int64]
    labels: NDArray[np.uint8]
    points: Float


# Colours of metals, BGR from 0 to 1, and how strongly each mirrors the lamp.
METALS = (
    ((0.72, 0.72, 0.70), 0.55),  # zinc-plated steel
    ((0.62, 0.60, 0.58), 0.40),  # plain steel
    ((0.38, 0.66, 0.80), 0.45),  # brass
    ((0.48, 0.60, 0.66), 0.35),  # bronze
    ((0.20, 0.19, 0.19), 0.30),  # black oxide
    ((0.80, 0.80, 0.82), 0.65),  # polished
)


@dataclass(frozen=True)
class Relief:
    """A part seen from above over a grid: where it is, how high, and how dark it is there."""

    mask: NDArray[np.bool_]
    height: Float
    albedo: Float


Shape = Callable[[Rng, Float, Float], Relief]  # a relief over local coordinates, about -1 to 1


@dataclass(frozen=True)
class Stamped:
    """Where a thing came to lie on the canvas.

    Attributes:
        box: of its visible pixels, xyxy.
        window: the part of the canvas that it was drawn in.
        mask: its pixels within the window.
    """

    box: tuple[float, float, float, float]
    window: tuple[slice, slice]
    mask: NDArray[np.bool_]


def lamp(rng: Rng) -> Float:
    """The direction (3,) towards the lamp: x, y, z."""
    azimuth = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(azimuth), np.sin(azimuth), rng.uniform(1.0, 2.0)], np.float32)
    return light / np.linalg.norm(light)


def stamp(
    rng: Rng,
    canvas: Float,
    shape: Shape,
    centre: tuple[float, float],
    radius: float,
    light: Float,
    turn: float | None = None,
) -> Stamped | None:
    """Draw a thing with its shadow; None when too little of it is visible.

    Args:
        rng: the only source of chance.
        canvas: (H, W, 3), drawn on.
        shape: what to draw.
        centre: x and y in pixels.
        radius: of the local coordinates' unit, in pixels.
        light: direction towards the lamp.
        turn: in radians, clockwise on the screen; None for a random one.
    """
    half = int(radius * 1.5) + 4
    left, top = int(centre[0]) - half, int(centre[1]) - half
    grid = (np.arange(2 * half, dtype=np.float32) - half) / np.float32(radius)
    x, y = np.meshgrid(grid, grid)
    if turn is None:
        turn = rng.uniform(0, 2 * np.pi)
    u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    v = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
    relief = shape(rng, u, v)
    shaded = shade(rng, relief, u, v, radius, light)
    tall = float(relief.height.max()) * radius
    shift = np.float32([[1, 0, -light[0] * tall], [0, 1, -light[1] * tall]])
    cast = cv2.warpAffine(relief.mask.astype(np.float32), shift, (2 * half, 2 * half))
    shadow = cv2.GaussianBlur(cast, (0, 0), 1 + tall * 0.35) * rng.uniform(0.45, 0.75)

    height, width = canvas.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + 2 * half, width), min(top + 2 * half, height)
    inner = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    mask = relief.mask[inner]
    if mask.sum() < 0.4 * relief.mask.sum():
        return None
    window = (slice(y1, y2), slice(x1, x2))
    target = canvas[window]
    target *= 1 - shadow[inner][..., None]
    target[mask] = shaded[inner][mask]
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    box = (x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1)
    return Stamped((float(box[0]), float(box[1]), float(box[2]), float(box[3])), window, mask)


def shade(rng: Rng, relief: Relief, u: Float, v: Float, radius: float, light: Float) -> Float:
    """The colours of a part: diffuse light, the mirror image of the lamp, and machining marks."""
    colour, gloss = METALS[rng.integers(len(METALS))]
    smooth = cv2.GaussianBlur(relief.height * np.float32(radius), (0, 0), 0.8)
    slope_y, slope_x = np.gradient(smooth)
    normal = np.dstack([-slope_x, -slope_y, np.ones_like(slope_x)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    towards_lamp = np.clip(normal @ light, 0, 1)
    halfway = light + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    mirrored = np.clip(normal @ halfway, 0, 1) ** rng.uniform(12, 40)
    marks = streaks(rng, u.shape, rng.uniform(0, 180), 15) * 0.05
    if rng.random() < 0.5:  # turned on a lathe: rings
        marks = marks + 0.03 * np.sin(np.hypot(u, v) * rng.uniform(60, 140))
    level = relief.albedo * (0.28 + 0.72 * towards_lamp + marks)
    shaded = level[..., None] * np.array(colour, np.float32) * rng.uniform(0.8, 1.1)
    return (shaded + (gloss * mirrored * relief.albedo)[..., None]).astype(np.float32)


def step(value: Float, width: float) -> Float:
    """0 below zero, 1 above ``width``, rounded between: the profile of a bevelled edge."""
    return np.sqrt(np.clip(value / np.float32(width), 0, 1))


def surface(rng: Rng, kind: str, shape: tuple[int, int]) -> tuple[Float, Float]:
    """The brightness (H, W) and tint (3,) of a brushed, milled, belt, tray or bench surface."""
    tint = np.array([1, 1, 1], np.float32)
    if kind == "brushed":
        level = rng.uniform(0.4, 0.68) + 0.10 * streaks(rng, shape, rng.uniform(0, 180), 60)
        tint = np.array([rng.uniform(0.94, 1.06), 1, rng.uniform(0.94, 1.06)], np.float32)
    elif kind == "milled":
        level = rng.uniform(0.35, 0.6) + _milling(rng, shape) + 0.05 * streaks(rng, shape, 0, 9)
    elif kind == "belt":
        level = rng.uniform(0.12, 0.26) + _weave(rng, shape) + 0.03 * grain(rng, shape, 1.2)
    elif kind == "tray":
        level = rng.uniform(0.45, 0.8) + 0.02 * grain(rng, shape, 1.5) + _ribs(rng, shape)
        tint = np.array(
            [(1.0, 0.72, 0.5), (0.6, 0.85, 0.62), (1, 1, 1), (0.5, 0.72, 1.0)][rng.integers(4)],
            np.float32,
        )
    else:
        level = rng.uniform(0.35, 0.65) + 0.06 * grain(rng, shape, 2) + 0.06 * grain(rng, shape, 14)
    return level, tint


def background(rng: Rng, width: int, height: int, light: Float) -> tuple[Float, bool]:
    """A surface (H, W, 3) float32 BGR from 0 to 1, and whether it is metal: can be scratched."""
    kind = rng.choice(
        ["brushed", "milled", "belt", "tray", "bench"], p=[0.34, 0.16, 0.2, 0.17, 0.13]
    )
    level, tint = surface(rng, kind, (height, width))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    level = level * (1 + rng.uniform(0.05, 0.28) * (x * light[0] + y * light[1]))
    for _ in range(rng.integers(0, 5)):  # oil stains
        cx, cy, size = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.05, 0.3)
        blob = np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / size**2) ** 2))
        level = level * (1 - rng.uniform(0.08, 0.3) * blob)
    canvas = (level[..., None] * tint).astype(np.float32)
    if rng.random() < 0.3:
        _seam(rng, canvas)
    return np.clip(canvas, 0.02, 1), kind in ("brushed", "milled")


def grain(rng: Rng, shape: tuple[int, ...], size: float) -> Float:
    """Smooth noise of deviation one whose grains measure about ``size`` pixels."""
    small = (max(2, int(shape[0] / size)), max(2, int(shape[1] / size)))
    noise = rng.standard_normal(small, dtype=np.float32)
    return cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def streaks(rng: Rng, shape: tuple[int, ...], degrees: float, length: int) -> Float:
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


def photograph(rng: Rng, canvas: Float, width: int, height: int) -> NDArray[np.uint8]:
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


def reduce_labels(labels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The label at the middle of every ``factor`` by ``factor`` pixels."""
    return np.ascontiguousarray(labels[factor // 2 :: factor, factor // 2 :: factor])
