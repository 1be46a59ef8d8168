"""ONNX weights on the CPU through ONNX Runtime: the engine every device has."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from engines.base import Array, EngineError, EngineOpenError, TensorSpec, check_feeds

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# Severity 3 = errors only. Its warnings (unused initialisers and the like) speak to whoever
# exported the network, not to whoever operates the box.
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True)
class OnnxDescription:
    """What an ONNX file says about itself.

    Attributes:
        inputs: in graph order, dynamic dimensions None.
        outputs: in graph order.
        metadata: the file's own key-value pairs; empty when the exporter wrote none.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]


class OnnxCpuEngine:
    """An ONNX Runtime session. Thread-safe: sessions may be run from any number of threads."""

    name = "onnxruntime-cpu"

    def __init__(self, session: ort.InferenceSession, *, nbytes: int, quantized: bool) -> None:
        self._session: ort.InferenceSession | None = session
        self.description = OnnxDescription(
            inputs=tuple(_spec(node) for node in session.get_inputs()),
            outputs=tuple(_spec(node) for node in session.get_outputs()),
            metadata=dict(session.get_modelmeta().custom_metadata_map),
        )
        self.inputs = self.description.inputs
        self.outputs = self.description.outputs
        self.nbytes = nbytes
        half = np.dtype(np.float16) in {spec.dtype for spec in self.inputs}
        self.precision = "int8" if quantized else "fp16" if half else "fp32"
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Engine.run``."""
        session = self._session  # one read: close() may clear the attribute meanwhile
        if session is None:
            raise EngineError("The engine is closed.")
        check_feeds(self.inputs, feeds)
        try:
            values = session.run(self._output_names, dict(feeds))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class
            raise EngineError(f"ONNX Runtime failed: {_first_line(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Drop the session; its memory goes when the last running call returns."""
        self._session = None


def open_onnx(path: Path, *, threads: int) -> OnnxCpuEngine:
    """Open ONNX weights on the CPU.

    Args:
        path: the ``.onnx`` file.
        threads: threads that one run may use; see ``engines.device.usable_cpus``.

    Raises:
        EngineOpenError: the file is missing, damaged, or uses what this build cannot run.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # A spinning pool burns cores between requests that decoding and HTTP need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        return OnnxCpuEngine(session, nbytes=path.stat().st_size, quantized=_quantized(path))
    except EngineOpenError:
        raise
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class
        # The message goes to callers over HTTP, who need not know this machine's folders.
        reason = _first_line(error).replace(str(path), path.name)
        raise EngineOpenError(f"{path.name} cannot be opened: {reason}") from error


def _quantized(path: Path) -> bool:
    """Whether the network has integer weights.

    The session does not tell, but the file spells out its operators, and every way to quantise
    needs one of QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"uantizeLinear") >= 0


def _spec(node: Any) -> TensorSpec:  # noqa: ANN401 - ort.NodeArg has no public type
    if node.type not in _DTYPES:
        known = ", ".join(sorted(_DTYPES))
        raise EngineOpenError(f"Tensor {node.name} has type {node.type}; supported: {known}.")
    # ONNX Runtime writes a dynamic dimension as its symbolic name, or None.
    shape = tuple(dim if isinstance(dim, int) else None for dim in node.shape)
    return TensorSpec(node.name, np.dtype(_DTYPES[node.type]), shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
