"""Scenes of combination wrenches on a bench, with the points that a robot would grip them by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.demo_models import parts
from tools.demo_models.rendering import (
    Float,
    Relief,
    Rng,
    Scene,
    background,
    lamp,
    photograph,
    reduce_labels,
    stamp,
    step,
)

CLASSES = ("wrench",)
# Left and right as seen from the ring towards the jaw.
POINTS = ("jaw-tip-left", "jaw-tip-right", "jaw-throat", "ring-centre")
MIRRORED = (1, 0, 2, 3)


@dataclass(frozen=True)
class _Wrench:
    """The measures of one wrench in half its length; it lies along u with its jaw at 1."""

    jaw_radius: float
    jaw_angle: float
    opening: float
    ring_radius: float
    handle: float
    recess: float

    @property
    def jaw(self) -> float:
        return 1 - self.jaw_radius

    @property
    def ring(self) -> float:
        return self.ring_radius - 1

    def relief(self, rng: Rng, u: Float, v: Float) -> Relief:
        """Two heads and a handle with a recess."""
        del rng  # all measures are taken
        cos, sin = np.float32(np.cos(self.jaw_angle)), np.float32(np.sin(self.jaw_angle))
        p, q = (u - self.jaw) * cos + v * sin, v * cos - (u - self.jaw) * sin
        slot = np.minimum(self.opening - np.abs(q), p - self._throat() - 0.35 * np.abs(q))
        jaw = np.minimum(self.jaw_radius - np.hypot(p, q), -slot)
        r, angle = np.hypot(u - self.ring, v), np.arctan2(v, u - self.ring)
        hole = 0.58 * self.ring_radius * (1 + 0.05 * np.cos(12 * angle))
        ring = np.minimum(self.ring_radius - r, r - hole)
        half = self.handle * (1 + 0.25 * u)
        along = np.minimum(u - self.ring, self.jaw - u)
        beam = np.minimum(half - np.abs(v), along)
        beam = np.where((r < hole) | (slot > 0), -1, beam)
        groove = step(np.minimum(0.6 * half - np.abs(v), along - 0.2), 0.02) * self.recess
        height = np.maximum(
            0.11 * step(np.maximum(jaw, ring), 0.03), 0.09 * step(beam, 0.05) * (1 - groove)
        )
        mask = np.maximum(np.maximum(jaw, ring), beam) > 0
        return Relief(mask, height.astype(np.float32), np.ones_like(u))

    def points(self) -> Float:
        """(4, 2) in local coordinates, in the order of ``POINTS``."""
        tip = np.sqrt(self.jaw_radius**2 - self.opening**2)
        local = np.array([[tip, -self.opening], [tip, self.opening], [self._throat(), 0]])
        cos, sin = np.cos(self.jaw_angle), np.sin(self.jaw_angle)
        turned = local @ np.array([[cos, sin], [-sin, cos]]) + [self.jaw, 0]
        return np.vstack([turned, [self.ring, 0]]).astype(np.float32)

    def _throat(self) -> float:
        return -0.3 * self.jaw_radius


def render_wrenches(rng: Rng, width: int, height: int, supersample: int = 2) -> Scene:
    """Render one to three wrenches among small parts.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        supersample: how many times larger it is drawn before it is reduced.
    """
    size = np.array([width, height], np.float32) * supersample
    light = lamp(rng)
    canvas, _ = background(rng, int(size[0]), int(size[1]), light)
    labels = np.zeros(canvas.shape[:2], np.uint8)
    for _ in range(rng.integers(0, 6)):
        shape = parts.SHAPES[rng.integers(len(parts.SHAPES))]
        centre, radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.03, 0.07) * size.min()
        stamp(rng, canvas, shape, (centre[0], centre[1]), radius, light)
    boxes, points, axes = [], [], []
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(0.27, 0.46) * size.min()
        placed = _place(rng, size, radius, axes)
        wrench = _draw_wrench(rng)
        if placed is None:
            continue
        centre, turn = placed
        drawn = stamp(rng, canvas, wrench.relief, (centre[0], centre[1]), radius, light, turn)
        if drawn is None:
            continue
        axes.append(_axis(centre, turn, radius))
        boxes.append(drawn.box)
        labels[drawn.window][drawn.mask] = len(boxes)
        cos, sin = np.cos(turn), np.sin(turn)
        placed_points = wrench.points() @ np.array([[cos, sin], [-sin, cos]]) * radius
        placed_points += np.floor(centre) + 0.5
        visible = ((placed_points > 0) & (placed_points < size)).all(1, keepdims=True)
        points.append(np.hstack([placed_points / supersample, visible]))
    return Scene(
        photograph(rng, canvas, width, height),
        np.array(boxes, np.float32).reshape(-1, 4) / supersample,
        np.zeros(len(boxes), np.int64),
        reduce_labels(labels, supersample),
        np.array(points, np.float32).reshape(-1, len(POINTS), 3),
    )


def _draw_wrench(rng: Rng) -> _Wrench:
    jaw_radius = rng.uniform(0.28, 0.36)
    return _Wrench(
        jaw_radius=jaw_radius,
        jaw_angle=rng.choice([-1, 0, 1]) * rng.uniform(0.2, 0.35),
        opening=jaw_radius * rng.uniform(0.38, 0.52),
        ring_radius=jaw_radius * rng.uniform(0.75, 0.95),
        handle=rng.uniform(0.11, 0.15),
        recess=rng.choice([0.0, 0.35]),
    )


def _axis(centre: Float, turn: float, radius: float) -> Float:
    """Nine points (9, 2) along a wrench."""
    along = np.linspace(-1, 1, 9)[:, None] * radius
    return centre + along * np.array([np.cos(turn), np.sin(turn)])


def _place(rng: Rng, size: Float, radius: float, axes: list[Float]) -> tuple[Float, float] | None:
    """A centre and an angle at which a wrench touches no other, or None."""
    for _ in range(20):
        centre, turn = rng.uniform(0.28, 0.72, 2) * size, rng.uniform(0, 2 * np.pi)
        mine = _axis(centre, turn, radius)
        gaps = [np.hypot(*(mine[:, None] - other[None]).T).min() for other in axes]
        if min(gaps, default=np.inf) > 0.5 * radius:
            return centre, turn
    return None
