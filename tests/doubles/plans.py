"""Plans made with the double's builder: what the run-time tests need, without ``build_engines``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx

from engines.artifact import EngineArtifact, EngineHost, EngineKey, write_artifact
from tests.doubles.gpu import FakeGpu

SECRET = bytes(range(32))


def build_plan(trt: Any, path: Path, batch: tuple[int, int, int]) -> bytes:
    """A plan of an ONNX file; dynamic first dimensions become the batch."""
    logger = trt.Logger()
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    builder = trt.Builder(logger)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path))
    config = builder.create_builder_config()
    if any(w.data_type == onnx.TensorProto.FLOAT16 for w in onnx.load(path).graph.initializer):
        if hasattr(trt.BuilderFlag, "FP16"):
            config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            low, best, high = ((size, *tuple(tensor.shape)[1:]) for size in batch)
            profile.set_shape(tensor.name, low, best, high)
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


def make_key(gpu: FakeGpu, tensorrt: str, **changes: Any) -> EngineKey:
    """A key for this GPU."""
    capability = ".".join(map(str, gpu.compute_capability))
    facts: dict[str, Any] = {
        "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
        "graph": "none",
        "precision": "fp32",
        "batch": (1, 1, 4),
        "size_wh": (64, 64),
        "host": EngineHost(tensorrt, gpu.name, capability, gpu.sm_count),
    }
    return EngineKey(**{**facts, **changes})


def make_artifact(
    gpu: FakeGpu, trt: Any, path: Path, *, batch: tuple[int, int, int] = (1, 1, 4)
) -> EngineArtifact:
    """Build an ONNX file and publish the plan beside it."""
    return write_artifact(
        path.parent / "plans",
        build_plan(trt, path, batch),
        make_key(gpu, trt.__version__, batch=batch, graph=path.name),
        SECRET,
        outputs=tuple(output.name for output in onnx.load(path).graph.output),
        facts={},
    )
