"""INT8 written into an ONNX graph as QuantizeLinear and DequantizeLinear, from the user's pictures.

Ranges are found by ONNX Runtime, whose quantizer is part of the wheel that serves anyway.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime import quantization

from build_engines.half import HALF_QUANTIZERS_SINCE, HEAVY, heights, opset_of
from engines.base import Array

# Heads decide between close scores: INT8 there is how detectors come to see nothing. Counted in
# heavy operations from the outputs; two, because box heads end in a fixed sum over bins.
_HEAD = 2
_OPTIONS = {
    "ActivationSymmetric": True,  # TensorRT has no zero points
    "QuantizeBias": False,  # and keeps biases as floats
    "MatMulConstBOnly": True,
    "CalibMovingAverage": True,  # one odd picture must not stretch the range of all
}


def quantize(
    model: onnx.ModelProto, pictures: Iterable[Array], *, half_scales: bool
) -> onnx.ModelProto:
    """The network with INT8 inputs and weights of its heavy operations, but for its heads.

    Weights have a scale per channel, activations one per tensor; all zero points are 0.

    Args:
        model: takes uint8 pixels (B, H, W, 3).
        pictures: uint8 BGR (H, W, 3) as the network is served; a few hundred are enough.
        half_scales: bring the network to an opset whose scales may be FP16, if that can be done.
    """
    if half_scales and opset_of(model) < HALF_QUANTIZERS_SINCE:
        try:
            model = version_converter.convert_version(model, HALF_QUANTIZERS_SINCE)
        except RuntimeError:
            pass  # an operation has no converter: what is not INT8 then stays FP32
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    chosen = [
        node.name
        for node, height in zip(model.graph.node, heights(model.graph), strict=True)
        if node.op_type in HEAVY and height > _HEAD
    ]
    if not chosen:
        return model
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            target,
            _Reader(model, pictures),
            per_channel=True,
            nodes_to_quantize=chosen,
            extra_options=_OPTIONS,
        )
        return onnx.load(target)


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped base
    def __init__(self, model: onnx.ModelProto, pictures: Iterable[Array]) -> None:
        constants = {tensor.name for tensor in model.graph.initializer}
        self._input = next(value for value in model.graph.input if value.name not in constants)
        self._left = iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        batch = self._input.type.tensor_type.shape.dim[0].dim_value or 1
        picture = next(self._left, None)
        return None if picture is None else {self._input.name: np.stack([picture] * batch)}
