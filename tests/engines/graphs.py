"""Tiny networks whose answers can be told by heart."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

FLOAT = TensorProto.FLOAT


def doubling(path: Path) -> Path:
    """y = 2 x, any batch of two numbers."""
    return _save(
        path,
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 2])],
        two=2,
    )


def from_bytes(path: Path) -> Path:
    """Takes uint8 pixels in rows, columns and colours; gives planes between 0 and 1."""
    return _save(
        path,
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=FLOAT),
            helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["planes", "scale"], ["output0"]),
        ],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("output0", FLOAT, ["batch", 3, 8, 8])],
        scale=1 / 255,
    )


def rows_above(path: Path) -> Path:
    """As many rows as there are bright pixels, and the mean of each picture."""
    return _save(
        path,
        [
            helper.make_node("Greater", ["images", "half"], ["bright"]),
            helper.make_node("NonZero", ["bright"], ["columns"]),
            helper.make_node("Transpose", ["columns"], ["rows"], perm=[1, 0]),
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        ],
        [helper.make_tensor_value_info("images", FLOAT, ["batch", 1, 8, 8])],
        [
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["count", 4]),
            helper.make_tensor_value_info("mean", FLOAT, ["batch", 1]),
        ],
        half=0.5,
    )


def _save(
    path: Path,
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    **constants: float,
) -> Path:
    weights = [helper.make_tensor(name, FLOAT, [], [value]) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.save(model, path)
    return path
