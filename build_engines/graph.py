"""ONNX graphs made ready for the builder: uint8 pixels in, precision where it is wanted.

Needs the package ``onnx`` (extra ``gpu``); without it the weights are built as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from build_engines.half import halve
from build_engines.int8 import quantize
from build_engines.recipe import BuildRecipe, PixelInput
from engines.base import Array


class GraphError(ValueError):
    """The weights cannot be made into what the recipe asks for; the message says why."""


def prepare_graph(
    weights: Path, target: Path, recipe: BuildRecipe, pictures: Iterable[Array] | None = None
) -> None:
    """Write the network that the builder is to parse.

    Args:
        weights: the ``.onnx`` file; external data must lie beside or below it.
        target: file to write, without external data.
        recipe: what is wanted.
        pictures: uint8 BGR (H, W, 3), to calibrate INT8 with; each is asked for once.

    Raises:
        GraphError: the weights are damaged, reach outside their folder or do not fit the recipe.
    """
    try:
        # Refuses external data behind "..", absolute paths and links, from onnx 1.21 on.
        model = onnx.load(weights)
    except (DecodeError, OSError, onnx.checker.ValidationError) as error:
        raise GraphError(f"{weights.name} cannot be read: {error}") from error
    if recipe.pixels is not None:
        take_pixels(model, recipe.pixels, recipe.size_wh)
    if recipe.precision == "int8":
        if recipe.pixels is None or pictures is None:
            raise GraphError("INT8 needs pictures to calibrate with, and a network for pixels.")
        model = quantize(model, pictures, half_scales=recipe.strongly_typed)
    if recipe.precision != "fp32" and recipe.strongly_typed:
        model = halve(model)
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, target)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"{weights.name} is no sound network: {error}") from error


def take_pixels(model: onnx.ModelProto, pixels: PixelInput, size_wh: tuple[int, int]) -> None:
    """Give the network an input of uint8 pixels (B, H, W, 3), BGR, in place of its float one.

    The arithmetic is that of ``edge_server.vision.preprocess.make_feed``, step by step in
    float32, so that outputs stay the same. The cast comes first: TensorRT does nothing else with
    uint8.

    Args:
        model: changed in place.
        pixels: how its input is made.
        size_wh: of the pictures, where the network leaves it open.

    Raises:
        GraphError: the network has several inputs, or its input is not float (B, 3, H, W).
    """
    graph = model.graph
    images = _only_input(graph)
    kind, dims = images.type.tensor_type.elem_type, images.type.tensor_type.shape.dim
    steps: list[tuple[str, Array | None, dict[str, Any]]] = [
        ("Cast", None, {"to": TensorProto.FLOAT}),
        ("Transpose", None, {"perm": [0, 3, 1, 2]}),
        ("Div", np.array(pixels.scaling, np.float32), {}),
    ]
    if pixels.rgb:
        steps.insert(1, ("Gather", np.array([2, 1, 0]), {"axis": 3}))
    if pixels.normalization is not None:
        means, stds = (np.array(r, np.float32).reshape(1, 3, 1, 1) for r in pixels.normalization)
        steps += [("Sub", means, {}), ("Div", stds, {})]
    steps.append(("Cast", None, {"to": kind}))  # into the tensor that was the input so far
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    entry = "pixels"
    while entry in used:
        entry += "_"
    nodes, value = [], entry
    for index, (operation, constant, attributes) in enumerate(steps):
        name = f"{entry}/{index}"
        operands = [value] if constant is None else [value, f"{name}/constant"]
        if constant is not None:
            graph.initializer.append(numpy_helper.from_array(constant, operands[1]))
        value = images.name if index == len(steps) - 1 else name
        nodes.append(helper.make_node(operation, operands, [value], name=name, **attributes))
    # A size that the network leaves open is fixed: kernels for one size are faster.
    height, width = (
        dim.dim_value or told for dim, told in zip(dims[2:], size_wh[::-1], strict=True)
    )
    shape = [dims[0].dim_param or dims[0].dim_value or None, height, width, 3]
    new = helper.make_tensor_value_info(entry, TensorProto.UINT8, shape)
    graph.CopyFrom(
        helper.make_graph(
            [*nodes, *graph.node],
            graph.name,
            [new if value is images else value for value in graph.input],
            graph.output,
            graph.initializer,
            value_info=graph.value_info,
        )
    )


def _only_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [v for v in graph.input if v.name not in constants]
    types = [value.type.tensor_type for value in inputs]
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    if (
        len(inputs) != 1
        or types[0].elem_type not in floats
        or len(types[0].shape.dim) != 4
        or types[0].shape.dim[1].dim_value not in (0, 3)
    ):
        names = ", ".join(value.name for value in inputs)
        raise GraphError(f"The network takes {names}; expected one float input (B, 3, H, W).")
    return inputs[0]
