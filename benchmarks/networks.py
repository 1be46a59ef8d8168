"""ONNX networks made on the spot: the tool they are made with, and one of a real detector's size.

    python benchmarks/networks.py detect out.onnx

The weights are random but always the same. What such a network answers means nothing; what it
costs is what a nano-sized YOLO of that task costs at 640 x 640.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

STRIDES = (8, 16, 32)
PROTOTYPES = 32
KEYPOINTS = 17
# Distances from a cell to the edges of a box are distributions over so many strides.
_BINS = 16


def main() -> None:
    """Write one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("detect", "segment", "pose"))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    save_nano_yolo(arguments.path, arguments.task)
    print(f"{arguments.path}: {gflops(arguments.path):.1f} GFLOPs")


class Graph:
    """An ONNX graph under construction. Tensors go by their names."""

    def __init__(self, *, dtype: int = TensorProto.FLOAT, int8: bool = False) -> None:
        """``int8`` puts weights and inputs of convolutions through QuantizeLinear and back."""
        self.dtype = dtype
        self._float = helper.tensor_dtype_to_np_dtype(dtype)
        self._int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(
        self, operation: str, *inputs: str, outputs: int = 1, **attributes: int | str | list[int]
    ) -> str:
        """Append a node and return the name of its first output."""
        name = f"{operation.lower()}_{len(self._nodes)}"
        names = [name, *(f"{name}_{index}" for index in range(1, outputs))]
        self._nodes.append(helper.make_node(operation, inputs, names, name=name, **attributes))
        return name

    def last_output(self) -> str:
        """The last output of the node added last."""
        return str(self._nodes[-1].output[-1])

    def constant(self, value: ArrayLike) -> str:
        """A constant; floating-point values take the dtype of the graph."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self._float)
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def conv(
        self, x: str, weights: NDArray[Any], bias: NDArray[Any], *, stride: int = 1, pad: int = 0
    ) -> str:
        """A convolution of ``x`` with ``weights`` (out, in, rows, columns)."""
        kernel = self.constant(weights)
        if self._int8:
            x = self._through_int8(x, 1 / 255, np.uint8)
            kernel = self._through_int8(kernel, float(np.abs(weights).max()) / 127, np.int8)
        return self.add(
            "Conv", x, kernel, self.constant(bias), strides=[stride, stride], pads=[pad] * 4
        )

    def reshape(self, x: str, *shape: int) -> str:
        """``x`` in another shape; 0 keeps a dimension, -1 takes what is left."""
        return self.add("Reshape", x, self.constant(np.array(shape, np.int64)))

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """``x[start:stop]`` along ``axis``."""
        bounds = (self.constant(np.array([value], np.int64)) for value in (start, stop, axis))
        return self.add("Slice", x, *bounds)

    def save(
        self,
        path: Path,
        outputs: Mapping[str, str],
        *,
        size: tuple[int | str, int | str],
        batch: int | str = 1,
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the graph with the input ``images``; ``outputs`` are tensors by output name."""
        self._nodes += [
            helper.make_node("Identity", [tensor], [name]) for name, tensor in outputs.items()
        ]
        # Shapes and types of the outputs are for ONNX to infer.
        values = [helper.make_empty_tensor_value_info(name) for name in outputs]
        images = helper.make_tensor_value_info("images", self.dtype, [batch, 3, *size])
        graph = helper.make_graph(self._nodes, "network", [images], values, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        model = shape_inference.infer_shapes(model, strict_mode=True)
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path

    def _through_int8(self, x: str, scale: float, kind: type[np.integer[Any]]) -> str:
        parameters = (self.constant(np.array(scale, np.float32)), self.constant(kind(0)))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *parameters), *parameters)


def cell_centres(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (2, N) and strides (N,) of an anchor-free head's cells, in pixels."""
    centres, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        centres.append((np.stack([x.ravel(), y.ravel()]) + 0.5) * stride)
        strides.append(np.full(x.size, stride))
    return np.concatenate(centres, 1).astype(np.float32), np.concatenate(strides).astype(np.float32)


def save_nano_yolo(path: Path, task: str = "detect", *, size: int = 640, batch: int = 1) -> Path:
    """Write a network of the size and shape of a nano YOLO, 3.2 M parameters.

    Args:
        path: file to write.
        task: ``detect``, ``segment`` or ``pose``: outputs (B, 84, N); (B, 116, N) and
            (B, 32, size / 4, size / 4); (B, 56, N).
        size: of the square input, a multiple of 32.
        batch: pictures per pass.
    """
    net = _NanoYolo(size)
    levels = net.features("images")
    classes = 1 if task == "pose" else 80
    outputs = {"output0": net.head(levels, classes, task)}
    if task == "segment":
        outputs["output1"] = net.prototypes(levels[0][0])
    names = ["person"] if task == "pose" else [f"class {index}" for index in range(classes)]
    metadata = {"task": task, "names": str(dict(enumerate(names))), "imgsz": str([size, size])}
    if task == "pose":
        metadata["kpt_shape"] = str([KEYPOINTS, 3])
    return net.graph.save(path, outputs, size=(size, size), batch=batch, metadata=metadata)


def gflops(path: Path) -> float:
    """Billions of multiplications and additions in the convolutions of one pass."""
    graph = shape_inference.infer_shapes(onnx.load(path)).graph
    weights = {item.name: list(item.dims) for item in graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    return (
        sum(
            2 * math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
            for node in graph.node
            if node.op_type == "Conv"
        )
        / 1e9
    )


class _NanoYolo:
    """Body, neck and heads, from the layers up."""

    def __init__(self, size: int) -> None:
        self.graph = Graph()
        self._size = size
        self._random = np.random.default_rng(0)

    def features(self, images: str) -> list[tuple[str, int]]:
        """Features at the three strides, each with its number of channels."""
        x = self._layer(self._layer(images, 3, 16, 3, 2), 16, 32, 3, 2)
        p2 = self._stage(x, 32, 32, 1)
        p3 = self._stage(self._layer(p2, 32, 64, 3, 2), 64, 64, 2, residual=True)
        p4 = self._stage(self._layer(p3, 64, 128, 3, 2), 128, 128, 2, residual=True)
        p5 = self._stage(self._layer(p4, 128, 256, 3, 2), 256, 256, 1, residual=True)
        p5 = self._pyramid_pool(p5, 256)
        n4 = self._stage(self._concat(self._upsample(p5), p4), 384, 128, 1)
        n3 = self._stage(self._concat(self._upsample(n4), p3), 192, 64, 1)
        o4 = self._stage(self._concat(self._layer(n3, 64, 64, 3, 2), n4), 192, 128, 1)
        o5 = self._stage(self._concat(self._layer(o4, 128, 128, 3, 2), p5), 384, 256, 1)
        return [(n3, 64), (o4, 128), (o5, 256)]

    def head(self, levels: Sequence[tuple[str, int]], classes: int, task: str) -> str:
        """Boxes, class scores and what the task adds, as (B, rows, N)."""
        graph = self.graph
        hidden = max(64, min(classes, 100))
        boxes = self._branch(levels, 64, 4 * _BINS)
        # Chosen so that tens of cells see something in a photo, as with a trained network.
        bias = -3.0 if classes > 1 else -2.0
        logits = self._branch(levels, hidden, classes, gain=25.0, bias=bias)
        scores = graph.add("Sigmoid", logits)
        parts = [self._decoded(boxes), scores]
        if task == "segment":
            parts.append(self._branch(levels, PROTOTYPES, PROTOTYPES))
        elif task == "pose":
            parts.append(self._branch(levels, 3 * KEYPOINTS, 3 * KEYPOINTS))
        return graph.add("Concat", *parts, axis=1)

    def prototypes(self, x: str) -> str:
        """Mask prototypes (B, 32, size / 4, size / 4)."""
        x = self._upsample(self._layer(x, 64, 64, 3))
        return self._layer(self._layer(x, 64, 64, 3), 64, PROTOTYPES, 1)

    def _branch(
        self,
        levels: Sequence[tuple[str, int]],
        hidden: int,
        rows: int,
        *,
        gain: float = 1.0,
        bias: float = 0.0,
    ) -> str:
        parts = []
        for x, channels in levels:
            x = self._layer(self._layer(x, channels, hidden, 3), hidden, hidden, 3)
            weights = gain * self._weights(rows, hidden, 1)
            x = self.graph.conv(x, weights, np.full(rows, bias, np.float32))
            parts.append(self.graph.reshape(x, 0, rows, -1))
        return self.graph.add("Concat", *parts, axis=2)

    def _decoded(self, distances: str) -> str:
        """Boxes as cx, cy, w, h from distributions of the distances to their edges."""
        graph = self.graph
        x = graph.add("Transpose", graph.reshape(distances, 0, 4, _BINS, -1), perm=[0, 2, 1, 3])
        x = graph.add("Softmax", x, axis=1)
        bins = np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1)
        x = graph.reshape(graph.conv(x, bins, np.zeros(1, np.float32)), 0, 4, -1)
        centres, strides = cell_centres(self._size, self._size)
        cells = graph.constant(centres[None] / strides)
        low = graph.add("Sub", cells, graph.slice(x, 0, 2, 1))
        high = graph.add("Add", cells, graph.slice(x, 2, 4, 1))
        middle = graph.add("Mul", graph.add("Add", low, high), graph.constant(np.float32(0.5)))
        boxes = graph.add("Concat", middle, graph.add("Sub", high, low), axis=1)
        return graph.add("Mul", boxes, graph.constant(strides))

    def _stage(
        self, x: str, source: int, target: int, blocks: int, *, residual: bool = False
    ) -> str:
        """Half of the channels go through blocks; every step is kept and mixed at the end."""
        half = target // 2
        x = self._layer(x, source, target, 1)
        steps = [self.graph.slice(x, 0, half, 1), self.graph.slice(x, half, target, 1)]
        for _ in range(blocks):
            y = self._layer(self._layer(steps[-1], half, half, 3), half, half, 3)
            steps.append(self.graph.add("Add", y, steps[-1]) if residual else y)
        return self._layer(self._concat(*steps), (2 + blocks) * half, target, 1)

    def _pyramid_pool(self, x: str, channels: int) -> str:
        steps = [self._layer(x, channels, channels // 2, 1)]
        for _ in range(3):
            steps.append(
                self.graph.add("MaxPool", steps[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2])
            )
        return self._layer(self._concat(*steps), 2 * channels, channels, 1)

    def _layer(self, x: str, source: int, target: int, kernel: int, stride: int = 1) -> str:
        weights = self._weights(target, source, kernel)
        bias = np.zeros(target, np.float32)
        x = self.graph.conv(x, weights, bias, stride=stride, pad=kernel // 2)
        return self.graph.add("Mul", x, self.graph.add("Sigmoid", x))

    def _weights(self, target: int, source: int, kernel: int) -> NDArray[np.float32]:
        # A little over 2 because x * sigmoid(x) takes out more than a ReLU does.
        spread = math.sqrt(2.4 / (source * kernel * kernel))
        shape = (target, source, kernel, kernel)
        return (self._random.standard_normal(shape) * spread).astype(np.float32)

    def _upsample(self, x: str) -> str:
        scales = self.graph.constant(np.array([1, 1, 2, 2], np.float32))
        return self.graph.add("Resize", x, "", scales, mode="nearest")

    def _concat(self, *parts: str) -> str:
        return self.graph.add("Concat", *parts, axis=1)


if __name__ == "__main__":
    main()
