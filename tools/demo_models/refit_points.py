"""Solve the last layer of the keypoint model by least squares: what training leaves is a bias.

python -m tools.demo_models.refit_points trained.onnx --out weights.onnx
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tools.demo_models.rendering import Float, Scene
from tools.demo_models.samples import vary
from tools.demo_models.tasks import TASKS
from tools.demo_models.train import TRAINING_SEED
from tools.demo_models.wrenches import POINTS

TASK = TASKS["demo-wrenches"]
HEAD = "detector.extra_head"
CELLS = 3  # the likeliest of every wrench
PENALTY = 2.0

Rows = tuple[list[Float], list[Float], list[Float]]


def collect(model: onnx.ModelProto, scenes: list[Scene]) -> tuple[NDArray[np.float64], ...]:
    """Rows for the likeliest cells of every wrench in ``scenes``.

    Returns:
        inputs (R, F) of the last layer, true points (R, K, 2) from the middle of the box in half
        its size, weights (R, K, 2): squared half sizes in areas of the box, 0 where hidden.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    heads = [node for node in model.graph.node if node.op_type == "Conv" and _is_head(model, node)]
    for node in heads:
        probe.graph.output.append(helper.make_tensor_value_info(node.input[0], 1, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString())
    rows: Rows = ([], [], [])
    for scene in scenes:
        picture = scene.image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
        answer, *features = session.run(None, {"images": np.ascontiguousarray(picture)})
        patches = np.concatenate([_patches(level[0]) for level in features])
        for box, points in zip(scene.boxes, scene.points, strict=True):
            _add_rows(rows, answer[0].T, patches, box, points)
    inputs, targets, weights = (np.array(column, np.float64) for column in rows)
    return inputs, targets, weights


def _is_head(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    shared = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    return shared.get(node.input[1], node.input[1]) == f"{HEAD}.weight"


def _patches(features: Float) -> Float:
    """What a 3x3 convolution sees at every cell, and a one for its bias: (N, 9 C + 1)."""
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    flat = windows.transpose(1, 2, 0, 3, 4).reshape(features[0].size, -1)
    return np.hstack([flat, np.ones((len(flat), 1), np.float32)])


def _add_rows(rows: Rows, answer: Float, patches: Float, box: Float, points: Float) -> None:
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    near = (np.abs(answer[:, :2] - middle) < 0.3 * half + 4).all(1) & (answer[:, 4] > 0.3)
    cells = np.flatnonzero(near)
    for cell in cells[np.argsort(-answer[cells, 4])[:CELLS]]:
        guessed = answer[cell, 2:4] / 2
        rows[0].append(patches[cell])
        rows[1].append((points[:, :2] - answer[cell, :2]) / guessed)
        rows[2].append(points[:, 2:] * guessed**2 / (4 * guessed.prod()))


def refit(model: onnx.ModelProto, scenes: list[Scene]) -> None:
    """Change the last layer of ``model``: robust ridge regression of what it leaves."""
    inputs, targets, weights = collect(model, scenes)
    stored = {entry.name: entry for entry in model.graph.initializer}
    names = (f"{HEAD}.weight", f"{HEAD}.bias")
    kernel, bias = (numpy_helper.to_array(stored[name]).copy() for name in names)
    deviation = np.append(inputs[:, :-1].std(0) + 1e-3, 1.0)
    scaled = inputs / deviation
    for point, axis in np.ndindex(len(POINTS), 2):
        channel, weight = 3 * point + axis, weights[:, point, axis]
        now = inputs @ np.append(kernel[channel].ravel(), bias[channel])
        missing = targets[:, point, axis] - now
        trust = weight
        for _ in range(4):  # far outliers count less each time, as in OKS
            gram = (scaled * trust[:, None]).T @ scaled + PENALTY * np.eye(scaled.shape[1])
            change = np.linalg.solve(gram, (scaled * trust[:, None]).T @ missing)
            trust = weight * np.exp(-((missing - scaled @ change) ** 2) * weight / 0.08)
        kernel[channel] += (change / deviation)[:-1].reshape(kernel[channel].shape)
        bias[channel] += change[-1]
    for name, array in zip(names, (kernel, bias), strict=True):
        stored[name].CopyFrom(numpy_helper.from_array(array, name))


def main() -> None:
    parser = argparse.ArgumentParser(description="Refit the last layer of the keypoint model.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=240)
    arguments = parser.parse_args()
    with ProcessPoolExecutor() as workers:
        seeds = range(TRAINING_SEED, TRAINING_SEED + arguments.scenes)
        scenes = list(workers.map(TASK.sample, seeds, chunksize=8))
    rng = np.random.default_rng(5)
    scenes += [vary(rng, scene, TASK.variation) for scene in scenes]
    model = onnx.load(arguments.weights)
    refit(model, scenes)
    onnx.checker.check_model(model)
    onnx.save(model, arguments.out)


if __name__ == "__main__":
    main()
