"""What is known about each family of networks before any file of it is opened."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from edge_server.errors import PackageError
from edge_server.vision.decoders import DECODERS

DETECTION = "object-detection"
SEGMENTATION = "instance-segmentation"
KEYPOINTS = "keypoint-detection"
CLASSIFICATION = "classification"
MULTI_LABEL = "multi-label-classification"
SEMANTIC = "semantic-segmentation"

RFDETR = "rfdetr"
DEEPLAB = "deeplabv3plus"
# Backbones with a linear head; the YOLO classifiers are trained on other pixels.
BACKBONES = ("resnet", "vit", "dinov3")
# All that Ultralytics exports. Their raw detection heads decode alike; the last two have an
# end-to-end form too.
ANCHOR_FREE = ("yolov8", "yolov9", "yolov11", "yolov12", "yolov10", "yolo26")

Normalization: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Normalization = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Means and deviations that a family is trained with, after division by 255; others have none.
NORMALIZATIONS: dict[str, Normalization] = {
    "vit": HALF,
    "resnet": IMAGENET,
    "dinov3": IMAGENET,
    DEEPLAB: IMAGENET,
    RFDETR: IMAGENET,
}

_SIZED = (
    (re.compile(r"yolov?(5|7|8|9|10|11|12)(?:v\d)?[ntsmblxce]?(?:-(?:seg|pose|cls))?"), "yolov{}"),
    (re.compile(r"yolov?(26)[nsbmlx]?(?:-(?:seg|pose|sem|cls))?"), "yolo{}"),
    (re.compile(r"yolo-?nas(?:-[sml])?"), "yolonas"),
    (re.compile(r"yololite(?:-edge)?(?:-(?:n|s|m|l|xl))?"), "yololite"),
    (re.compile(r"rfdetr(?:-[a-z0-9-]+)?"), RFDETR),
    (re.compile(r"resnet(?:18|34|50|101|152)?"), "resnet"),
    (re.compile(r"dinov3(?:-probe)?"), "dinov3"),
    (re.compile(r"deep-?lab-?v3-?plus"), DEEPLAB),
)


def family_of(architecture: str) -> str:
    """The family of a model type: sizes do not matter, ``yolov8n`` and ``yolov8x-seg`` are one.

    A type that belongs to no family is returned as it is, in lower case.
    """
    name = architecture.lower().replace("_", "-")
    for pattern, family in _SIZED:
        if found := pattern.fullmatch(name):
            return family.format(*found.groups())
    return name


def tasks() -> tuple[str, ...]:
    """Every task that is served."""
    return tuple(dict.fromkeys(task for task, _ in DECODERS))


def families(task: str) -> tuple[str, ...]:
    """The families that are served for ``task``."""
    return tuple(family for known, family in DECODERS if known == task)


def check_task(task: str) -> str:
    """Return ``task`` when it is served.

    Raises:
        PackageError: it is not; names those that are.
    """
    if task not in tasks():
        raise PackageError(f"Task {task!r} is not supported; supported are {', '.join(tasks())}.")
    return task


def check_family(architecture: str, task: str | None) -> str:
    """The family of ``architecture`` when it is served, for ``task`` if that is known.

    Raises:
        PackageError: it is not; names those that are.
    """
    family = family_of(architecture)
    known = families(task) if task else tuple(dict.fromkeys(name for _, name in DECODERS))
    if family not in known:
        where = f" for {task}" if task else ""
        raise PackageError(
            f"Family {architecture!r} is not supported{where}; supported are {', '.join(known)}."
        )
    return family


def bare_resize(task: str, family: str) -> tuple[str, int]:
    """Resize mode and padding of the family's own training, for files that come without any."""
    if task in (CLASSIFICATION, MULTI_LABEL) or family in (RFDETR, DEEPLAB):
        return "stretch", 0
    return "letterbox", 114


def fit_longer_edge_of(family: str) -> tuple[Literal["stretch", "letterbox"], int]:
    """What the reference does instead of ``fit-longer-edge`` when a network has a fixed size."""
    if family == RFDETR or family in BACKBONES:
        return "stretch", 0
    return "letterbox", 0 if family == DEEPLAB else 127
