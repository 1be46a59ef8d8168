"""Train the demo detector on rendered scenes and export it as ONNX.

python -m tools.demo_parts.train --out weights.onnx
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tools.demo_parts.network import Detector, ExportedDetector
from tools.demo_parts.scenes import CLASSES, render_scene

SIZE = 320
BATCH = 16
GREY = 114
MOST_BOXES = 16  # per picture; scenes have fewer
TOP_CELLS = 8
TRAINING_SEED = 1_000_000  # evaluation uses other seeds

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]


def render_sample(seed: int) -> Sample:
    """One training picture (320, 320, 3) BGR; every third a camera's 4:3 picture, letterboxed."""
    rng = np.random.default_rng(seed)
    if seed % 3:
        scene = render_scene(rng, SIZE, SIZE)
        return scene.image, scene.boxes, scene.class_ids
    scene = render_scene(rng, 640, 480) if seed % 2 else render_scene(rng, 1280, 960, 1)
    factor = SIZE / scene.image.shape[1]
    small = cv2.resize(scene.image, (SIZE, SIZE * 3 // 4), interpolation=cv2.INTER_LINEAR)
    image = np.full((SIZE, SIZE, 3), GREY, np.uint8)
    top = SIZE // 8
    image[top : top + len(small)] = small
    return image, scene.boxes * factor + np.float32([0, top, 0, top]), scene.class_ids


def augment(rng: np.random.Generator, sample: Sample) -> Sample:
    """Flips, quarter turns, zoom and shift, brightness per channel, inversion."""
    image, boxes, class_ids = sample
    zoom, turns = rng.uniform(0.8, 1.25), int(rng.integers(4))
    shift = (1 - zoom) * SIZE / 2 + rng.uniform(-0.1, 0.1, 2) * SIZE
    matrix = np.float32([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    image = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderValue=(GREY, GREY, GREY))
    moved = boxes * np.float32(zoom) + np.tile(shift, 2).astype(np.float32)
    clipped = moved.clip(0, SIZE)
    kept = _areas(clipped) > 0.4 * _areas(moved)
    boxes, class_ids = clipped[kept], class_ids[kept]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes = np.stack([SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]], 1)
    for _ in range(turns):  # counterclockwise
        image = np.rot90(image)
        boxes = np.stack([boxes[:, 1], SIZE - boxes[:, 2], boxes[:, 3], SIZE - boxes[:, 0]], 1)
    light = rng.uniform(0.7, 1.35) * rng.uniform(0.9, 1.1, 3)
    image = (image * light).clip(0, 255)
    if rng.random() < 0.1:
        image = 255 - image
    return image.astype(np.uint8), boxes.astype(np.float32), class_ids


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) RGB 0..1, boxes (B, M, 4) and class ids (B, M), -1 where none."""
    pictures = np.stack([image[..., ::-1].transpose(2, 0, 1) for image, _, _ in samples])
    boxes = torch.zeros(len(samples), MOST_BOXES, 4)
    class_ids = torch.full((len(samples), MOST_BOXES), -1)
    for index, (_, found, ids) in enumerate(samples):
        count = min(len(found), MOST_BOXES)
        boxes[index, :count] = torch.from_numpy(found[:count])
        class_ids[index, :count] = torch.from_numpy(ids[:count])
    return torch.from_numpy(pictures).float() / 255, boxes, class_ids


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (B, M, 4) with boxes (B, N, 4): (B, M, N)."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(3)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(2) for x in (a, b))
    return shared / (area_a[:, :, None] + area_b[:, None] - shared + 1e-7)


@torch.no_grad()
def assign(
    model: Detector, boxes: Tensor, scores: Tensor, truth: Tensor, class_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Task-aligned assignment (TOOD, Feng et al. 2021).

    Returns:
        for every cell the index of its true box (B, N), -1 where none, and its quality (B, N).
    """
    overlap = pairwise_iou(truth, boxes)
    chosen = class_ids.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[1])
    metric = scores.transpose(1, 2).gather(1, chosen).sqrt() * overlap**4
    middle, half = (truth[..., :2] + truth[..., 2:]) / 2, (truth[..., 2:] - truth[..., :2]) / 2
    reach = torch.maximum(half[:, :, None], model.strides[None, None].expand(-1, -1, -1, 2))
    inside = ((model.centres - middle[:, :, None]).abs() < reach).all(3)
    inside &= (class_ids >= 0)[:, :, None]
    metric = torch.where(inside, metric + 1e-9, torch.zeros_like(metric))
    best, cells = metric.topk(TOP_CELLS, 2)
    selected = torch.zeros_like(metric, dtype=torch.bool).scatter_(2, cells, best > 0)
    owner_metric, owner = torch.where(selected, overlap + 1e-9, -overlap.new_ones(1)).max(1)
    owner = torch.where(owner_metric > 0, owner, -1)
    mine = torch.where(selected, metric, torch.zeros_like(metric))
    peak = mine.amax(2, keepdim=True)
    peak_overlap = torch.where(selected, overlap, torch.zeros_like(overlap)).amax(2, keepdim=True)
    quality = (mine / (peak + 1e-9) * peak_overlap).gather(1, owner.clamp(min=0)[:, None])[:, 0]
    return owner, torch.where(owner >= 0, quality, torch.zeros_like(quality))


def diou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al. 2020) of paired boxes (K, 4): (K,)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = ((a[:, :2] + a[:, 2:]) - (b[:, :2] + b[:, 2:])).pow(2).sum(1) / 4
    return 1 - shared / (union + 1e-7) + apart / (hull.pow(2).sum(1) + 1e-7)


def loss_of(model: Detector, pictures: Tensor, truth: Tensor, class_ids: Tensor) -> Tensor:
    """Quality-weighted cross-entropy of the classes plus 2.5 times the box loss."""
    boxes, logits = model(pictures)
    scores = logits.sigmoid()
    owner, quality = assign(model, boxes, scores, truth, class_ids)
    positive = owner >= 0
    labels = class_ids.gather(1, owner.clamp(min=0))
    target = torch.zeros_like(logits)
    target[positive] = (
        functional.one_hot(labels[positive], logits.shape[2]).to(target)
        * quality[positive][:, None]
    )
    weight = torch.where(target > 0, target, 0.75 * scores.detach() ** 2)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total = quality.sum().clamp(min=1)
    class_loss = (entropy * weight).sum() / total
    matched = truth.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))
    box_loss = (diou_loss(boxes[positive], matched[positive]) * quality[positive]).sum() / total
    return class_loss + 2.5 * box_loss


def train(samples: list[Sample], epochs: int, seed: int) -> Detector:
    """Train from scratch; returns the averaged weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Detector(len(CLASSES), SIZE)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    steps = epochs * (len(samples) // BATCH)
    step = 0
    for epoch in range(epochs):
        began, total = time.monotonic(), 0.0
        order = rng.permutation(len(samples))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            warm = min(1.0, (step + 1) / 200)
            rate = warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2) * 4e-3
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = collate([augment(rng, samples[i]) for i in order[start : start + BATCH]])
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            _average(average, model, min(0.998, step / (step + 20)))
            total += float(loss.detach())
            step += 1
        mean = total / (len(samples) // BATCH)
        print(
            f"epoch {epoch + 1}/{epochs} loss {mean:.3f} {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return average


@torch.no_grad()
def _average(average: Detector, model: Detector, keep: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


def export(model: Detector, path: Path) -> None:
    """Write ONNX with a dynamic batch and the metadata that exporters of this layout write."""
    torch.onnx.export(
        ExportedDetector(model).eval(),
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    exported = onnx.load(path)
    metadata = {
        "description": "Factory parts, trained on rendered scenes",
        "license": "Apache-2.0",
        "task": "detect",
        "names": str(dict(enumerate(CLASSES))),
        "imgsz": f"[{SIZE}, {SIZE}]",
        "stride": "32",
        "batch": "1",
    }
    onnx.helper.set_model_props(exported, metadata)
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo detector.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=1800)
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = range(TRAINING_SEED, TRAINING_SEED + arguments.scenes)
    with ProcessPoolExecutor() as workers:
        samples = list(workers.map(render_sample, seeds, chunksize=16))
    print(f"{len(samples)} scenes", flush=True)
    model = train(samples, arguments.epochs, arguments.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    export(model, arguments.out)
    print(f"{parameters} parameters, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
