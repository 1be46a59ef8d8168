"""From scenes to batches: bring them to the size of a network, vary them, stack them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from tools.demo_models.rendering import Float, Rng, Scene

GREY = 114
MOST_BOXES = 16  # per picture; scenes have fewer
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Variation:
    """How pictures are varied during training.

    Attributes:
        letterbox: surround with grey, as the picture was resized; otherwise mirror the edges.
        flipped_points: the order of the points in the mirror image.
        inverted: the share of pictures that are inverted; 0 where colour tells classes apart.
    """

    letterbox: bool = True
    flipped_points: tuple[int, ...] = ()
    inverted: float = 0.1


@dataclass(frozen=True)
class Batch:
    """Pictures (B, 3, S, S) RGB and their truth, padded with class -1 to ``MOST_BOXES``."""

    pictures: Tensor
    boxes: Tensor
    class_ids: Tensor
    labels: Tensor
    points: Tensor


def fit(scene: Scene, size: int, letterbox: bool = True) -> Scene:
    """The scene at network size, resized as the server does it: bilinear, letterbox or stretch."""
    height, width = scene.image.shape[:2]
    if letterbox:
        factor = min(size / width, size / height)
        inner = (int(width * factor), int(height * factor))
    else:
        inner = (size, size)
    scale = np.float32([inner[0] / width, inner[1] / height])
    shift = np.float32([(size - inner[0]) // 2, (size - inner[1]) // 2])
    window = (
        slice(int(shift[1]), int(shift[1]) + inner[1]),
        slice(int(shift[0]), int(shift[0]) + inner[0]),
    )
    image = np.full((size, size, 3), GREY, np.uint8)
    image[window] = cv2.resize(scene.image, inner, interpolation=cv2.INTER_LINEAR)
    labels = np.zeros((size, size), np.uint8)
    labels[window] = cv2.resize(scene.labels, inner, interpolation=cv2.INTER_NEAREST)
    boxes = scene.boxes * np.tile(scale, 2) + np.tile(shift, 2)
    points = scene.points.copy()
    points[..., :2] = points[..., :2] * scale + shift
    return Scene(image, boxes, scene.class_ids, labels, points)


def vary(rng: Rng, scene: Scene, variation: Variation) -> Scene:
    """Zoom and shift, mirror, quarter turns, brightness per channel, inversion."""
    scene = _zoom(rng, scene, variation.letterbox)
    if rng.random() < 0.5:
        scene = _mirror(scene, variation.flipped_points)
    for _ in range(int(rng.integers(4))):
        scene = _quarter_turn(scene)
    light = rng.uniform(0.7, 1.35) * rng.uniform(0.9, 1.1, 3)
    image = (scene.image * light).clip(0, 255)
    if rng.random() < variation.inverted:
        image = 255 - image
    return replace(scene, image=image.astype(np.uint8))


def _zoom(rng: Rng, scene: Scene, letterbox: bool) -> Scene:
    size = scene.image.shape[0]
    zoom = rng.uniform(0.8, 1.25)
    shift = (1 - zoom) * size / 2 + rng.uniform(-0.1, 0.1, 2) * size
    matrix = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    border = cv2.BORDER_CONSTANT if letterbox else cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(
        scene.image, matrix, (size, size), borderMode=border, borderValue=(GREY, GREY, GREY)
    )
    labels = cv2.warpAffine(
        scene.labels, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=border
    )
    moved = scene.boxes * np.float32(zoom) + np.tile(shift, 2).astype(np.float32)
    clipped = moved.clip(0, size)
    kept = np.flatnonzero(_areas(clipped) > 0.4 * _areas(moved))
    if len(moved):
        numbers = np.zeros(256, np.uint8)
        numbers[kept + 1] = np.arange(1, len(kept) + 1)
        labels = numbers[labels]
    points = scene.points[kept].copy()
    points[..., :2] = points[..., :2] * np.float32(zoom) + shift.astype(np.float32)
    inside = ((points[..., :2] > 0) & (points[..., :2] < size)).all(-1)
    points[..., 2] *= inside
    return Scene(image, clipped[kept], scene.class_ids[kept], labels, points)


def _mirror(scene: Scene, flipped_points: tuple[int, ...]) -> Scene:
    size, boxes = scene.image.shape[0], scene.boxes
    points = scene.points[:, list(flipped_points)] if flipped_points else scene.points.copy()
    points[..., 0] = size - points[..., 0]
    return replace(
        scene,
        image=scene.image[:, ::-1],
        labels=scene.labels[:, ::-1],
        boxes=np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1),
        points=points,
    )


def _quarter_turn(scene: Scene) -> Scene:
    """Turn counterclockwise."""
    size, boxes, points = scene.image.shape[0], scene.boxes, scene.points
    return replace(
        scene,
        image=np.rot90(scene.image),
        labels=np.rot90(scene.labels),
        boxes=np.stack([boxes[:, 1], size - boxes[:, 2], boxes[:, 3], size - boxes[:, 0]], 1),
        points=np.stack([points[..., 1], size - points[..., 0], points[..., 2]], -1),
    )


def _areas(boxes: Float) -> Float:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def collate(scenes: Sequence[Scene], normalised: bool) -> Batch:
    """Stack scenes of equal size; ``normalised``: by mean and deviation of ImageNet."""
    images = np.stack([scene.image[..., ::-1].transpose(2, 0, 1) for scene in scenes])
    pictures = torch.from_numpy(images).float() / 255
    if normalised:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        pictures = (pictures - mean) / std
    count, keypoints = len(scenes), scenes[0].points.shape[1]
    boxes = torch.zeros(count, MOST_BOXES, 4)
    class_ids = torch.full((count, MOST_BOXES), -1)
    points = torch.zeros(count, MOST_BOXES, keypoints, 3)
    for index, scene in enumerate(scenes):
        here = min(len(scene.boxes), MOST_BOXES)
        boxes[index, :here] = torch.from_numpy(scene.boxes[:here])
        class_ids[index, :here] = torch.from_numpy(scene.class_ids[:here])
        points[index, :here] = torch.from_numpy(scene.points[:here])
    labels = torch.from_numpy(np.stack([scene.labels for scene in scenes]))
    return Batch(pictures, boxes, class_ids, labels, points)
