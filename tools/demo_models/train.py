"""Train a demo model on rendered scenes and export it as ONNX.

python -m tools.demo_models.train demo-parts-seg --out weights.onnx
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from tools.demo_models.rendering import Scene
from tools.demo_models.samples import collate, vary
from tools.demo_models.tasks import TASKS, Task
from tools.demo_models.warm_start import load_convolutions

BATCH = 16
RATE = 4e-3
TRAINING_SEED = 1_000_000  # held-out pictures and examples use other seeds


def train(
    task: Task, samples: list[Scene], epochs: int, seed: int, start: Path | None = None
) -> nn.Module:
    """Train from scratch, or from the weights in ``start``; returns the averaged weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = task.build()
    if start is not None:
        pictures = collate(samples[: 4 * BATCH], task.normalised).pictures
        loaded = load_convolutions(model, start, pictures, task.normalised)
        print(f"{loaded} convolutions from {start}", flush=True)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(_groups(model), lr=RATE)
    rate = RATE if start is None else RATE / 2
    steps = epochs * (len(samples) // BATCH)
    step = 0
    for epoch in range(epochs):
        began, total = time.monotonic(), 0.0
        order = rng.permutation(len(samples))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            warm = min(1.0, (step + 1) / 200)
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * _cosine(step / steps)
            scenes = [vary(rng, samples[i], task.variation) for i in order[first : first + BATCH]]
            loss = task.loss(model, collate(scenes, task.normalised))
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


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Decay the weights of all layers but the last: decay draws keypoints towards the middle."""
    heads = [p for name, p in model.named_parameters() if "head" in name]
    others = [p for name, p in model.named_parameters() if "head" not in name]
    return [
        {"params": heads, "weight_decay": 0.0},
        {"params": others, "weight_decay": 0.02},
    ]


def _cosine(progress: float) -> float:
    """From 1 down to a hundredth."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, keep: float) -> None:
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


@torch.no_grad()
def export(task: Task, model: nn.Module, path: Path) -> None:
    """Write ONNX with a dynamic batch and the metadata that exporters of this layout write."""
    network, picture = task.exported(model).eval(), torch.zeros(1, 3, task.size, task.size)
    torch.onnx.export(
        network,
        (picture,),
        str(path),
        input_names=["images"],
        output_names=list(task.outputs),
        dynamic_axes={name: {0: "batch"} for name in ("images", *task.outputs)},
        opset_version=17,
        dynamo=False,
    )
    exported = onnx.load(path)
    answers = network(picture)
    answers = answers if isinstance(answers, tuple) else (answers,)
    for output, answer in zip(exported.graph.output, answers, strict=True):
        dimensions = list(output.type.tensor_type.shape.dim)[1:]  # only the batch is open
        for dimension, length in zip(dimensions, answer.shape[1:], strict=True):
            dimension.dim_value = length
    metadata = {
        "description": task.description,
        "license": "Apache-2.0",
        "task": task.kind,
        "names": str(dict(enumerate(task.classes))),
        "imgsz": f"[{task.size}, {task.size}]",
        "stride": "32",
        "batch": "1",
        **task.metadata,
    }
    onnx.helper.set_model_props(exported, metadata)
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a demo model.")
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, help="default: as the shipped model")
    parser.add_argument("--epochs", type=int, help="default: as the shipped model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights of an ONNX file to begin with")
    parser.add_argument("--threads", type=int, help="default: all cores")
    arguments = parser.parse_args()
    task = TASKS[arguments.name]
    cv2.setNumThreads(1)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seeds = range(TRAINING_SEED, TRAINING_SEED + (arguments.scenes or task.scenes))
    with ProcessPoolExecutor(arguments.threads) as workers:
        samples = list(workers.map(task.sample, seeds, chunksize=16))
    print(f"{len(samples)} scenes", flush=True)
    model = train(task, samples, arguments.epochs or task.epochs, arguments.seed, arguments.start)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    export(task, model, arguments.out)
    print(f"{parameters} parameters, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
