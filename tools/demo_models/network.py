"""The networks: one plain convolutional backbone, and what each task puts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
PROTOTYPES = 32


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = _conv(inputs, outputs, stride=2)
        self.block = nn.Sequential(_conv(outputs, outputs), _conv(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return x + self.block(x)


class Backbone(nn.Module):
    """Pictures in; features at a half, a quarter, ... of their resolution out."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = (16, 24, *widths)
        self.stem = _conv(3, 16, stride=2)
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        self.stages = nn.ModuleList([_Stage(a, b) for a, b in pairs])

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Prediction(NamedTuple):
    """What a detector says about every cell.

    Attributes:
        boxes: (B, N, 4) xyxy in pixels.
        logits: (B, N, C) of the classes.
        coefficients: (B, N, 32) of the prototypes; (B, N, 0) without masks.
        prototypes: (B, 32, S/4, S/4); None without masks.
        points: (B, N, K, 3): x, y in pixels and a logit of visibility; (B, N, 0) without.
    """

    boxes: Tensor
    logits: Tensor
    coefficients: Tensor
    prototypes: Tensor | None
    points: Tensor


class Detector(nn.Module):
    """A three-level pyramid with towers shared by the levels; masks or keypoints if wanted."""

    def __init__(
        self,
        classes: int,
        size: int,
        widths: tuple[int, int, int] = (48, 64, 72),
        width: int = 48,
        masks: bool = False,
        points: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        self.laterals = nn.ModuleList([_conv(c, width, kernel=1) for c in widths])
        self.box_tower = _conv(width, width)
        self.class_tower = _conv(width, width)
        self.box_head = nn.Conv2d(width, 4, 3, padding=1)
        self.class_head = nn.Conv2d(width, classes, 3, padding=1)
        nn.init.constant_(self.class_head.bias, -4.6)  # one cell in a hundred is a part
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        self.points, self.masks = points, masks
        extra = PROTOTYPES * masks + 3 * points
        if extra:
            self.extra_tower = _conv(width, width)
            self.extra_head = nn.Conv2d(
                width, extra, 3 if points else 1, padding=1 if points else 0
            )
        if masks:
            self.prototype_lateral = _conv(24, width, kernel=1)
            self.prototype_tower = _conv(width, width)
            self.prototype_head = nn.Conv2d(width, PROTOTYPES, 1)
        centres, strides = cell_grid(size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, x: Tensor) -> Prediction:
        quarter, *deeper = self.backbone(x)[1:]
        features = [lateral(f) for lateral, f in zip(self.laterals, deeper, strict=True)]
        for level in (1, 0):
            features[level] = features[level] + _twice(features[level + 1])
        sides, logits, extra = [], [], []
        for level, feature in enumerate(features):
            side = functional.softplus(self.box_head(self.box_tower(feature)) * self.scales[level])
            sides.append(side.flatten(2))
            logits.append(self.class_head(self.class_tower(feature)).flatten(2))
            if self.masks or self.points:
                extra.append(self.extra_head(self.extra_tower(feature)).flatten(2))
        reach = torch.cat(sides, 2).transpose(1, 2) * self.strides
        boxes = torch.cat([self.centres - reach[..., :2], self.centres + reach[..., 2:]], 2)
        more = torch.cat(extra, 2).transpose(1, 2) if extra else boxes[..., :0]
        prototypes = None
        if self.masks:
            joined = self.prototype_lateral(quarter) + _twice(features[0])
            prototypes = self.prototype_head(self.prototype_tower(joined))
        split = PROTOTYPES * self.masks
        points = self._points(boxes, more[..., split:]) if self.points else more[..., split:]
        return Prediction(
            boxes, torch.cat(logits, 2).transpose(1, 2), more[..., :split], prototypes, points
        )

    def _points(self, boxes: Tensor, raw: Tensor) -> Tensor:
        """Points count from the middle of the box in half its size: theirs are near its corners."""
        triples = raw.unflatten(2, (self.points, 3))
        low, high = boxes.detach()[:, :, None].chunk(2, 3)
        place = (low + high) / 2 + triples[..., :2] * (high - low) / 2
        return torch.cat([place, triples[..., 2:]], 3)


class ExportedDetector(nn.Module):
    """The same network with the output layout of YOLOv8.

    ``output0`` (B, 4 + C + 32 or 3 K, N): cx cy w h, scores, then mask coefficients or x y
    visibility; ``output1``: the prototypes, with masks only.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        found = self.detector(images)
        low, high = found.boxes[..., :2], found.boxes[..., 2:]
        columns = [(low + high) / 2, high - low, found.logits.sigmoid()]
        if self.detector.points:
            points = torch.cat([found.points[..., :2], found.points[..., 2:].sigmoid()], 3)
            columns.append(points.flatten(2))
        if found.prototypes is None:
            return torch.cat(columns, 2).transpose(1, 2)
        columns.append(found.coefficients)
        return torch.cat(columns, 2).transpose(1, 2), found.prototypes


class Classifier(nn.Module):
    """Logits (B, C) from the mean and the maximum of the last features."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        self.head = nn.Linear(2 * widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        last = self.backbone(x)[-1]
        return self.head(torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1))


class Softmax(nn.Module):
    """A classifier that answers with probabilities: the output layout of YOLOv8."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images).softmax(1)


class Segmenter(nn.Module):
    """Logits (B, C, S/2, S/2) of every second pixel's class."""

    def __init__(self, classes: int, widths: Sequence[int], width: int = 32) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        self.laterals = nn.ModuleList([_conv(c, width, kernel=1) for c in self.backbone.widths])
        self.tower = _conv(width, width)
        self.fine_tower = _conv(width, width // 2)
        self.head = nn.Conv2d(width // 2, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        lateral = [layer(f) for layer, f in zip(self.laterals, features, strict=True)]
        joined = lateral[-1]
        for feature in lateral[-2:0:-1]:
            joined = feature + _twice(joined)
        joined = lateral[0] + _twice(self.tower(joined))
        return self.head(self.fine_tower(joined))


def cell_grid(size: int) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) and strides (N, 1) of all cells of a square picture, in pixels."""
    centres, strides = [], []
    for stride in STRIDES:
        axis = (torch.arange(size // stride) + 0.5) * stride
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        centres.append(torch.stack([x, y], 2).reshape(-1, 2))
        strides.append(torch.full((len(axis) ** 2, 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)
