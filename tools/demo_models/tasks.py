"""What each demo model is trained on, and how: one entry per model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor, nn

from tools.demo_models import corrosion, parts, surfaces, trays, wrenches
from tools.demo_models.losses import (
    detection_loss,
    multi_label_loss,
    semantic_loss,
    single_label_loss,
)
from tools.demo_models.network import Classifier, Detector, ExportedDetector, Segmenter, Softmax
from tools.demo_models.rendering import Rng, Scene
from tools.demo_models.samples import Batch, Variation, fit


@dataclass(frozen=True)
class Task:
    """How one model comes to be.

    Attributes:
        description: for the metadata of the ONNX file, as ``kind`` and ``classes``.
        kind: the word that exporters of this layout use.
        classes: names in the order of the ids.
        size: of the square network input.
        sample: the training scene of a seed, at network size.
        build: the untrained network.
        loss: of a network on a batch.
        exported: wraps the trained network for export.
        outputs: names in the ONNX file.
        scenes: how many are rendered.
        epochs: how often each is shown, varied anew.
        variation: of the scenes.
        normalised: by mean and deviation of ImageNet.
        metadata: more of it.
    """

    description: str
    kind: str
    classes: tuple[str, ...]
    size: int
    sample: Callable[[int], Scene]
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    exported: Callable[[nn.Module], nn.Module]
    scenes: int
    epochs: int
    outputs: tuple[str, ...] = ("output0",)
    variation: Variation = Variation()
    normalised: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def _parts_sample(size: int, large: tuple[int, int, int], seed: int) -> Scene:
    """Every third a camera's 4:3 picture, letterboxed; of those, half drawn ``large``."""
    rng = np.random.default_rng(seed)
    if seed % 3:
        return parts.render_scene(rng, size, size)
    width, height, supersample = (640, 480, 2) if seed % 2 else large
    return fit(parts.render_scene(rng, width, height, supersample), size)


def _outlines_sample(seed: int) -> Scene:
    return parts.without_scratches(_parts_sample(256, (480, 360, 1), seed))


def _wrenches_sample(seed: int) -> Scene:
    """Every second at network size, every second a camera's 4:3 picture, letterboxed."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return wrenches.render_wrenches(rng, 192, 192)
    return fit(wrenches.render_wrenches(rng, 480, 360, 1), 192)


def _trays_sample(seed: int) -> Scene:
    """Every second drawn larger and reduced, every second as the camera sees it, letterboxed."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return fit(trays.render_tray(rng, 240, 180, 2), 192)
    return fit(trays.render_tray(rng, 400, 300, 1), 192)


def _stretched(size: int, render: Callable[[Rng, int, int], Scene], seed: int) -> Scene:
    width, height = ((256, 256), (320, 240), (400, 300), (480, 360))[seed % 4]
    return fit(render(np.random.default_rng(seed), width, height), size, letterbox=False)


def _as_it_is(model: nn.Module) -> nn.Module:
    return model


TASKS = {
    "demo-parts": Task(
        description="Factory parts, trained on rendered scenes",
        kind="detect",
        classes=parts.CLASSES,
        size=320,
        sample=partial(_parts_sample, 320, (1280, 960, 1)),
        build=lambda: Detector(len(parts.CLASSES), 320),
        loss=detection_loss,
        exported=ExportedDetector,
        scenes=1800,
        epochs=22,
    ),
    "demo-parts-seg": Task(
        description="Outlines of factory parts, trained on rendered scenes",
        kind="segment",
        classes=parts.CLASSES[: parts.SCRATCH],
        size=256,
        sample=_outlines_sample,
        build=lambda: Detector(parts.SCRATCH, 256, (40, 44, 44), 40, masks=True),
        loss=detection_loss,
        exported=ExportedDetector,
        outputs=("output0", "output1"),
        scenes=1800,
        epochs=18,
    ),
    "demo-wrenches": Task(
        description="Wrenches and their keypoints, trained on rendered scenes",
        kind="pose",
        classes=wrenches.CLASSES,
        size=192,
        sample=_wrenches_sample,
        build=lambda: Detector(1, 192, (40, 44, 44), 40, points=len(wrenches.POINTS)),
        loss=detection_loss,
        exported=ExportedDetector,
        scenes=1600,
        epochs=32,
        variation=Variation(flipped_points=wrenches.MIRRORED),
        metadata={"kpt_shape": f"[{len(wrenches.POINTS)}, 3]"},
    ),
    "demo-surfaces": Task(
        description="Condition of metal surfaces, trained on rendered close-ups",
        kind="classify",
        classes=surfaces.CLASSES,
        size=128,
        sample=partial(_stretched, 128, surfaces.render_surface),
        build=lambda: Classifier(len(surfaces.CLASSES), (32, 48, 64)),
        loss=single_label_loss,
        exported=Softmax,
        scenes=1600,
        epochs=10,
        variation=Variation(letterbox=False, inverted=0),
    ),
    "demo-trays": Task(
        description="Which parts lie in a tray, trained on rendered scenes",
        kind="classify",
        classes=trays.CLASSES,
        size=192,
        sample=_trays_sample,
        build=lambda: Classifier(len(trays.CLASSES), (40, 44, 44)),
        loss=multi_label_loss,
        exported=_as_it_is,
        outputs=("logits",),
        scenes=1400,
        epochs=12,
        normalised=True,
    ),
    "demo-corrosion": Task(
        description="Rust and lost paint on panels, trained on rendered scenes",
        kind="semantic",
        classes=corrosion.CLASSES,
        size=256,
        sample=partial(_stretched, 256, corrosion.render_panel),
        build=lambda: Segmenter(len(corrosion.CLASSES), (32, 40, 48)),
        loss=semantic_loss,
        exported=_as_it_is,
        outputs=("logits",),
        scenes=900,
        epochs=8,
        variation=Variation(letterbox=False, inverted=0),
        normalised=True,
    ),
}
