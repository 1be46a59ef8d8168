"""What the tests of this package share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from build_engines.recipe import BuildRecipe, PixelInput
from build_engines.run import BuildRequest
from engines.artifact import EngineHost
from tests.networks import BY_NAME, SIZE, Network

ORIN = EngineHost("10.3.0", "Orin", "8.7", 8)
VERSIONS = ("8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4.0")


def recipe(**changes: Any) -> BuildRecipe:
    """A recipe for the networks of ``tests.networks``, with ``changes``."""
    return replace(
        BuildRecipe(
            precision="fp32",
            batch=(1, 1, 2),
            size_wh=(SIZE, SIZE),
            pixels=PixelInput(),
            strongly_typed=True,
            workspace_mib=1024,
            optimization_level=3,
            memory_mib=8192,
        ),
        **changes,
    )


def pixels_of(network: Network) -> PixelInput:
    """How the input of a network of ``tests.networks`` is made."""
    rows = network.normalization
    return PixelInput(normalization=tuple(map(tuple, rows)) if rows else None)


def request(folder: Path, host: EngineHost = ORIN, **changes: Any) -> BuildRequest:
    """A build of a small detector, with ``changes`` of the recipe."""
    made = recipe(strongly_typed=not host.tensorrt.startswith("8"), **changes)
    weights = folder / "weights.onnx"
    if not weights.exists():
        BY_NAME["yolov8-raw"].save(weights)
    return BuildRequest(
        weights=weights,
        model="parts/1",
        key=made.key("0" * 64, host),
        recipe=made,
        cache=folder / "engines",
        secret=folder / "state" / "device.key",
    )


def answers(network: Path, pixels: np.ndarray, *, literal: bool = False) -> list[np.ndarray]:
    """The outputs of an ONNX file, in order.

    Args:
        network: takes one input.
        pixels: for that input.
        literal: every operation as it stands. Without it ONNX Runtime fuses Q/DQ into its INT8
            kernels, which saturate on processors without VNNI.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if literal:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})
