"""FP16 written into an ONNX graph, for builders that take precision from the graph alone.

Half precision pays in convolutions and matrix products, and hurts around them: a box edge at 600
pixels is rounded to half a pixel. So only what lies between the first and the last heavy operation
is converted, and of that only operations that are known to bear it. Converters that go by a list of
forbidden operations round every tensor of a float32 tail on its way.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
HALF_QUANTIZERS_SINCE = 19  # opset
# Sums of many terms, exponentials, quotients and powers are missing on purpose.
_BEARS_HALF = HEAVY | {
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "DepthToSpace", "Elu", "Erf",
    "Expand", "Flatten", "Gather", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "MaxPool", "Mish", "Mul", "PRelu", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Sub", "Swish", "Tanh", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
_RANGE = np.finfo(np.float16)


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its heavy part in FP16. Inputs, outputs, inner graphs stay as they are."""
    graph, given = _with_constants_as_initializers(model.graph), model
    model = onnx.ModelProto()
    model.CopyFrom(given)
    model.graph.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = _float_tensors(model)
    chosen = _choose(model, floats, constants)
    nodes: list[onnx.NodeProto] = []
    known: set[str] = set()  # tensors that exist in half

    def half(name: str) -> str:
        if name in floats and name not in known:
            known.add(name)
            if name in constants:
                array = numpy_helper.to_array(constants[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(array, f"{name}/half"))
            else:
                nodes.append(_cast(name, f"{name}/half", TensorProto.FLOAT16))
        return f"{name}/half" if name in floats else name

    for index, node in enumerate(graph.node):
        if index not in chosen:
            nodes.append(node)
            continue
        # Resize takes its scales as float32 whatever it resizes.
        count = 1 if node.op_type == "Resize" else len(node.input)
        node.input[:count] = [half(name) for name in node.input[:count]]
        made = [name for name in node.output if name in floats]
        known.update(made)
        node.output[:] = [f"{name}/half" if name in floats else name for name in node.output]
        nodes += [node, *(_cast(f"{name}/half", name, TensorProto.FLOAT) for name in made)]
    # Casts back that nobody reads are left out; what an inner graph reads is not seen.
    read = {name for node in nodes for name in node.input} | {v.name for v in graph.output}
    inner = any(item.HasField("g") for node in nodes for item in node.attribute)
    nodes = [n for n in nodes if inner or n.op_type != "Cast" or n.output[0] in read]
    model.graph.CopyFrom(
        helper.make_graph(nodes, graph.name, graph.input, graph.output, graph.initializer)
    )
    return model


def heights(graph: onnx.GraphProto) -> list[int]:
    """For each node, how many heavy operations lie on the longest way from it, itself included."""
    below: dict[str, int] = {}
    found = []
    for node in reversed(graph.node):
        height = max((below.get(name, 0) for name in node.output), default=0)
        found.append(height + (node.op_type in HEAVY))
        below.update({name: max(below.get(name, 0), found[-1]) for name in node.input})
    return found[::-1]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operations that the network uses."""
    return max(
        int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")
    )


def _choose(
    model: onnx.ModelProto, floats: set[str], constants: dict[str, TensorProto]
) -> set[int]:
    """Positions of the nodes to convert."""
    quantizers = _QUANTIZERS if opset_of(model) >= HALF_QUANTIZERS_SINCE else frozenset()
    after: set[str] = set()
    chosen = set()
    for index, (node, height) in enumerate(
        zip(model.graph.node, heights(model.graph), strict=True)
    ):
        if node.op_type in HEAVY | _QUANTIZERS or not after.isdisjoint(node.input):
            after.update(node.output)
        subject = node.input[0] if node.op_type == "QuantizeLinear" else node.output[0]
        if (
            height > 0
            and node.output[0] in after
            and node.op_type in _BEARS_HALF | quantizers
            and subject in floats
            and all(_fits(constants[name], node) for name in node.input if name in constants)
        ):
            chosen.add(index)
    return chosen


def _fits(tensor: TensorProto, node: onnx.NodeProto) -> bool:
    """Too large a weight becomes infinite, too small a scale of INT8 loses its digits."""
    if tensor.data_type != TensorProto.FLOAT:
        return True
    sizes = np.abs(numpy_helper.to_array(tensor))
    least = _RANGE.tiny if node.op_type in _QUANTIZERS else 0
    return bool(sizes.max(initial=0) <= _RANGE.max and sizes.min(initial=1) >= least)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    names = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


def _with_constants_as_initializers(graph: onnx.GraphProto) -> onnx.GraphProto:
    """Weights behind a cast are no constants to all builders."""
    nodes, constants = [], [*graph.initializer]
    for node in graph.node:
        values = [item.t for item in node.attribute if item.name == "value"]
        if node.op_type == "Constant" and values:
            constants.append(TensorProto())
            constants[-1].CopyFrom(values[0])
            constants[-1].name = node.output[0]
        else:
            nodes.append(node)
    return helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast to {target}", to=to)
