"""The detector: a plain convolutional network with a three-level pyramid and shared towers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = _conv(inputs, outputs, stride=2)
        self.block = nn.Sequential(_conv(outputs, outputs), _conv(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return x + self.block(x)


class Detector(nn.Module):
    """Pictures (B, 3, S, S) RGB from 0 to 1 in; boxes and class logits of every cell out."""

    def __init__(self, classes: int, size: int, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, stride=2), _Stage(16, 24))
        self.stages = nn.ModuleList([_Stage(24, 48), _Stage(48, 64), _Stage(64, 72)])
        self.laterals = nn.ModuleList([_conv(c, width, kernel=1) for c in (48, 64, 72)])
        self.box_tower = _conv(width, width)
        self.class_tower = _conv(width, width)
        self.box_head = nn.Conv2d(width, 4, 3, padding=1)
        self.class_head = nn.Conv2d(width, classes, 3, padding=1)
        nn.init.constant_(self.class_head.bias, -4.6)  # one cell in a hundred is a part
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        centres, strides = cell_grid(size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels and class logits (B, N, C)."""
        x = self.stem(x)
        features = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            features.append(lateral(x))
        for level in (1, 0):
            above = functional.interpolate(features[level + 1], scale_factor=2.0, mode="nearest")
            features[level] = features[level] + above
        sides, logits = [], []
        for level, feature in enumerate(features):
            side = functional.softplus(self.box_head(self.box_tower(feature)) * self.scales[level])
            sides.append(side.flatten(2))
            logits.append(self.class_head(self.class_tower(feature)).flatten(2))
        reach = torch.cat(sides, 2).transpose(1, 2) * self.strides
        boxes = torch.cat([self.centres - reach[..., :2], self.centres + reach[..., 2:]], 2)
        return boxes, torch.cat(logits, 2).transpose(1, 2)


class ExportedDetector(nn.Module):
    """The same network with the output layout of YOLOv8: (B, 4 + C, N), cx cy w h then scores."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        boxes, logits = self.detector(images)
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 2).transpose(1, 2)


def cell_grid(size: int) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) and strides (N, 1) of all cells of a square picture, in pixels."""
    centres, strides = [], []
    for stride in STRIDES:
        axis = (torch.arange(size // stride) + 0.5) * stride
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        centres.append(torch.stack([x, y], 2).reshape(-1, 2))
        strides.append(torch.full((len(axis) ** 2, 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)
