"""Small real ONNX networks, made when a test needs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


def cells(height: int, width: int) -> int:
    """How many cells an anchor-free detector has for an input of this size."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def head_rows(
    boxes: list[list[float]], scores: list[list[float]], count: int
) -> NDArray[np.float32]:
    """The output (4 + C, count) of a detector that sees these boxes (cx, cy, w, h) and no more."""
    rows = np.zeros((4 + len(scores[0]), count), np.float32)
    rows[:4, : len(boxes)] = np.array(boxes, np.float32).T
    rows[4:, : len(scores)] = np.array(scores, np.float32).T
    return rows


def save_detector(
    path: Path,
    rows: NDArray[np.float32],
    *,
    gain: NDArray[np.float32] | None = None,
    size: tuple[int | str, int | str] = (64, 64),
    batch: int | str = "batch",
    dtype: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network whose output (B, R, N) is ``rows`` plus ``gain`` times the mean of a picture.

    The output thus has the layout of a YOLOv8 detector and still depends on every picture.
    """
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {
        "rows": rows[None].astype(numpy_type),
        "gain": (np.zeros_like(rows) if gain is None else gain)[None].astype(numpy_type),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean4", "last_axis"], ["mean"]),
        helper.make_node("Mul", ["mean", "gain"], ["seen"]),
        helper.make_node("Add", ["seen", "rows"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", dtype, [batch, 3, *size])],
        [helper.make_tensor_value_info("output0", dtype, [batch, *rows.shape])],
        [
            *(numpy_helper.from_array(array, name) for name, array in constants.items()),
            numpy_helper.from_array(np.array([3], np.int64), "last_axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
