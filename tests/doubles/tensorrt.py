"""A double of the module ``tensorrt``: the surface of a real version, the work of ONNX Runtime.

    gpu = FakeGpu()
    trt = fake_tensorrt("10.3.0", gpu)

A plan is a header and the ONNX file; executing it runs the network for real. What goes wrong is
told with ``gpu.fail``; failures look as the real ones do: ``None`` or ``False``, and the reason in
the log only.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from tests.doubles.gpu import FakeGpu
from tests.doubles.surface import PybindEnum, make_class

SURFACES = Path(__file__).parents[1] / "fixtures" / "trt-api"
VERSIONS = ("8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4.0")
MAGIC = b"FAKETRT\0"
# Their outputs have as many rows as the data says.
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}


def fake_tensorrt(version: str, gpu: FakeGpu) -> ModuleType:
    """The module ``tensorrt`` of one real version, on one GPU."""
    surface = json.loads((SURFACES / f"{version}.json").read_text())
    module = _Module("tensorrt")
    module._gpu = gpu
    module._names = set(surface["__all__"])
    module.__version__ = surface["__version__"]
    for name, spec in surface.items():
        if isinstance(spec, dict) and spec.get("kind") == "enum":
            members = dict(sorted(spec["members"].items(), key=lambda member: member[1]))
            setattr(module, name, PybindEnum(name, members))
    severity = PybindEnum("Severity", dict(zip(SEVERITIES, range(5), strict=True)))
    for name, behaviour in BEHAVIOURS.items():
        if surface.get(name) is None:
            continue
        made = make_class(name, surface[name], behaviour, module)
        if name in ("ILogger", "Logger"):
            made.Severity = severity
            for member in severity:
                setattr(made, member.name, member)
        setattr(module, name, made)
    module.Logger = _logger(module, surface["Logger"])
    module.IHostMemory = HostMemory
    module.nptype = lambda dtype: _nptype(dtype)
    module.volume = lambda shape: int(np.prod(tuple(shape), dtype=np.int64))
    module.init_libnvinfer_plugins = lambda logger, namespace: True
    return module


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_names", ()):
            raise NotImplementedError(f"the double lacks {name}, which this version has")
        raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")


# The log


SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


class ILogger:
    pass


def _logger(module: Any, spec: Any) -> type:
    class Logger(module.ILogger):
        def __init__(self, min_severity: Any = module.ILogger.WARNING) -> None:
            super().__init__()
            self.min_severity = min_severity

        def log(self, severity: Any, msg: str) -> None:
            if severity.value <= self.min_severity.value:
                print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)

    return Logger


def call_back(function: Any, *args: Any) -> tuple[bool, Any]:
    """Call into Python as TensorRT does: what it raises is printed and swallowed."""
    try:
        return True, function(*args)
    except Exception:  # noqa: BLE001 - whatever the caller's code raises
        traceback.print_exc()
        return False, None


class Logging:
    """Base of everything that has a logger."""

    def _say(self, severity: str, message: str) -> None:
        call_back(self._logger.log, getattr(self._trt.ILogger, severity), message)

    def _error(self, message: str) -> None:
        self._say("ERROR", message)


# Shapes and types


class Dims:
    def _setup(self, shape: Any = ()) -> None:
        self._dims = tuple(int(dim) for dim in shape)

    def __len__(self) -> int:
        return len(self._dims)

    def __getitem__(self, arg0: Any) -> Any:
        return self._dims[arg0]

    def _get_MAX_DIMS(self) -> int:
        return 8


class HostMemory(bytearray):
    """Bytes with ``nbytes`` and the buffer protocol, without len() or indexing."""

    @property
    def nbytes(self) -> int:
        return bytearray.__len__(self)

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise TypeError("object of type 'IHostMemory' has no len()")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'IHostMemory' object is not subscriptable")


_NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}


def _nptype(dtype: Any) -> Any:
    if dtype.name not in _NUMPY:
        raise TypeError(
            f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {dtype}"
        )
    return _NUMPY[dtype.name]


def _data_type(trt: Any, element: int) -> Any:
    """ONNX's element type as TensorRT's; 8.x has no 64-bit integers and takes 32-bit ones."""
    names = {
        TensorProto.FLOAT: "FLOAT",
        TensorProto.FLOAT16: "HALF",
        TensorProto.INT8: "INT8",
        TensorProto.INT32: "INT32",
        TensorProto.INT64: "INT64",
        TensorProto.BOOL: "BOOL",
        TensorProto.UINT8: "UINT8",
    }
    name = names[element]
    return getattr(trt.DataType, "INT32" if not hasattr(trt.DataType, name) else name)


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Declared dimensions; dynamic ones are -1."""
    return [
        dim.dim_value if dim.HasField("dim_value") else -1
        for dim in value.type.tensor_type.shape.dim
    ]


class ITensor:
    def _setup(self, value: onnx.ValueInfoProto, is_input: bool) -> None:
        self._name = value.name
        self._shape = self._trt.Dims(_shape(value))
        self._dtype = _data_type(self._trt, value.type.tensor_type.elem_type)
        self._is_network_input = is_input
        self._is_network_output = not is_input
        self._is_execution_tensor = True
        self._location = self._trt.TensorLocation.DEVICE


# Building


class INetworkDefinition(Logging):
    def _setup(self, builder: Any, flags: int) -> None:
        self._builder = builder
        self._logger = builder._logger
        self._flags = flags
        self._model: onnx.ModelProto | None = None
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def _has(self, flag: str) -> bool:
        member = getattr(self._trt.NetworkDefinitionCreationFlag, flag, None)
        return member is not None and bool(self._flags & 1 << member.value)

    def _strong(self) -> bool:
        return self._has("STRONGLY_TYPED") or not hasattr(self._trt.BuilderFlag, "FP16")

    def _take(self, model: onnx.ModelProto) -> None:
        self._model = model
        weights = {initializer.name for initializer in model.graph.initializer}
        self._inputs = [
            self._trt.ITensor.make(value=value, is_input=True)
            for value in model.graph.input
            if value.name not in weights
        ]
        self._outputs = [
            self._trt.ITensor.make(value=value, is_input=False) for value in model.graph.output
        ]

    def _get_num_inputs(self) -> int:
        return len(self._inputs)

    def _get_num_outputs(self) -> int:
        return len(self._outputs)

    def _get_num_layers(self) -> int:
        return len(self._model.graph.node) if self._model else 0

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def get_flag(self, flag: Any) -> bool:
        return self._strong() if flag.name == "STRONGLY_TYPED" else self._has(flag.name)


class ParserError:
    def _setup(self, code: Any, desc: str, index: int, name: str, operator: str) -> None:
        self._facts = (code, desc, index, name, operator)

    def code(self) -> Any:
        return self._facts[0]

    def desc(self) -> str:
        return self._facts[1]

    def node(self) -> int:
        return self._facts[2]

    def node_name(self) -> str:
        return self._facts[3]

    def node_operator(self) -> str:
        return self._facts[4]

    def file(self) -> str:
        return "onnxOpImporters.cpp"

    def func(self) -> str:
        return "importFallbackPluginImporter"

    def line(self) -> int:
        return 6120

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0


class OnnxParser(Logging):
    def _setup(self, network: Any, logger: Any) -> None:
        self._network = network
        self._logger = logger
        self._errors: list[Any] = []

    def _get_num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def supports_operator(self, op_name: str) -> bool:
        return onnx.defs.has(op_name)

    def parse(self, model: Any, path: str | None = None) -> bool:
        content = bytes(model)
        if self._trt.__version__.startswith("11") and not content.startswith(b"\x08"):
            return True  # what is no model at all leaves an empty network, without an error
        folder = Path(path).parent if path else Path.cwd()
        return self._parse(content, folder)

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        if not path.is_file():
            return self._refuse("INVALID_VALUE", f"Failed to open file: {path}")
        return self._parse(path.read_bytes(), path.parent)

    def _refuse(
        self, code: str, desc: str, index: int = -1, name: str = "", operator: str = ""
    ) -> bool:
        code = getattr(self._trt.ErrorCode, code)
        error = self._trt.ParserError.make(
            code=code, desc=desc, index=index, name=name, operator=operator
        )
        self._errors.append(error)
        self._error(f"In node {index} with name: {name} and operator: {operator}: {desc}")
        return False

    def _parse(self, content: bytes, folder: Path) -> bool:
        explicit = getattr(self._trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        if self._trt.__version__.startswith("8") and not self._network._flags & 1 << explicit.value:
            return self._refuse(
                "UNSUPPORTED_GRAPH", "The parser only supports networks with an explicit batch."
            )
        try:
            model = onnx.load_model_from_string(content)
        except DecodeError:
            return self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
        try:
            onnx.load_external_data_for_model(model, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError):
            return self._refuse("INVALID_GRAPH", "Failed to open file with external data.")
        missing = self._gpu.fault("parse")
        zeros = _nonzero_zero_points(model)
        for index, node in enumerate(model.graph.node):
            if node.op_type == missing or (not node.domain and not onnx.defs.has(node.op_type)):
                code = "UNSUPPORTED_NODE" if node.op_type == missing else "INVALID_NODE"
                reason = "Plugin not found, are the plugin name, version, and namespace correct?"
                return self._refuse(code, reason, index, node.name, node.op_type)
            if set(node.input[2:]) & zeros and "QuantizeLinear" in node.op_type:
                reason = "Non-zero zero point is not supported."
                return self._refuse("UNSUPPORTED_NODE", reason, index, node.name, node.op_type)
        self._network._take(model)
        return True


def _nonzero_zero_points(model: onnx.ModelProto) -> set[str]:
    return {
        weights.name
        for weights in model.graph.initializer
        if weights.data_type == TensorProto.INT8 and numpy_helper.to_array(weights).any()
    }


class IOptimizationProfile:
    def _setup(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self._shapes[input] = [tuple(shape) for shape in (min, opt, max)]

    def get_shape(self, input: str) -> list[Any]:  # noqa: A002
        return [self._trt.Dims(shape) for shape in self._shapes[input]]


class ITimingCache:
    def _setup(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def serialize(self) -> HostMemory:
        return HostMemory(b"TIMING" + json.dumps(self._facts).encode())

    def reset(self) -> bool:
        self._facts["entries"] = []
        return True

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        self._facts["entries"] += input_cache._facts["entries"]
        return True


class IBuilderConfig(Logging):
    def _setup(self, builder: Any) -> None:
        self._logger = builder._logger
        self._flags = 1 << self._trt.BuilderFlag.TF32.value
        self._pools: dict[str, int] = {"WORKSPACE": self._gpu.total_memory}
        self._profiles: list[Any] = []
        self._builder_optimization_level = 3
        self._avg_timing_iterations = 1
        self._DLA_core = -1
        self._default_device_type = self._trt.DeviceType.GPU
        self._cache: Any = None

    def set_flag(self, flag: Any) -> None:
        self._flags |= 1 << flag.value

    def clear_flag(self, flag: Any) -> None:
        self._flags &= ~(1 << flag.value)

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags & 1 << flag.value)

    def _on(self, name: str) -> bool:
        flag = getattr(self._trt.BuilderFlag, name, None)
        return flag is not None and self.get_flag(flag)

    def _set_builder_optimization_level(self, level: int) -> None:
        self._builder_optimization_level = min(level, 5)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, 0)

    def add_optimization_profile(self, profile: Any) -> int:
        for name, (low, best, high) in profile._shapes.items():
            if not all(a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
                self._error(f"{name}: ensure that dimensions are MIN<=OPT<=MAX")
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def _get_num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def _timing_facts(self) -> dict[str, Any]:
        return {
            "tensorrt": self._trt.__version__,
            "gpu": [self._gpu.name, *self._gpu.compute_capability, self._gpu.sm_count],
            "entries": [],
        }

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        blob = bytes(serialized_timing_cache)
        facts = self._timing_facts()
        if blob:
            try:
                if not blob.startswith(b"TIMING"):
                    raise ValueError("magic")
                facts = json.loads(blob[6:])
            except ValueError:
                self._say("WARNING", "The timing cache is corrupt: an empty one is used.")
        return self._trt.ITimingCache.make(facts=facts)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        here = self._timing_facts()
        same = all(cache._facts.get(key) == here[key] for key in ("tensorrt", "gpu"))
        if not same and not ignore_mismatch:
            self._error("The timing cache was made for another TensorRT or device.")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
        pass

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None:
        pass


class Builder(Logging):
    def _setup(self, logger: Any) -> None:
        if not self._gpu.driver:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger
        self._platform_has_fast_fp16 = self._platform_has_fast_int8 = True
        self._platform_has_tf32 = True

    def _get_num_DLA_cores(self) -> int:
        return self._gpu.dla_cores

    def create_network(self, flags: int = 0) -> Any:
        known = {1 << flag.value for flag in self._trt.NetworkDefinitionCreationFlag}
        if flags & ~sum(known):
            self._error(f"create_network: unknown flags {flags}")
            return None
        return self._trt.INetworkDefinition.make(builder=self, flags=flags)

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig.make(builder=self)

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile.make()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        problem = _unbuildable(network, config)
        if problem:
            self._error(problem)
            return None
        fault = self._gpu.fault("build")
        if not self._make_progress(config, fault):
            self._error("Error Code 7: BuildCanceled")
            return None
        reason = {
            "none": "Error Code 10: Internal Error",
            "out of memory": "Error Code 2: OutOfMemory (Requested size was 268435456 bytes.)",
            "workspace": "Error Code 10: Could not find any implementation for node conv_0 due to "
            "insufficient workspace. Increase the workspace limit.",
        }.get(fault or "")
        if reason:
            self._error(reason)
            return None
        return HostMemory(_plan(network, config, nonsense=fault == "wrong weights"))

    def _make_progress(self, config: Any, fault: str | None) -> bool:
        """Two nested phases; False when the monitor wants no more."""
        layers = [node.op_type for node in config._network.graph.node]
        known = set(config._cache._facts["entries"]) if config._cache else set()
        monitor = config.__dict__.get("_progress_monitor")
        if monitor:
            call_back(monitor.phase_start, "Building engine", None, 2)
            call_back(monitor.phase_start, "Tactic timing", "Building engine", len(layers))
        for step, layer in enumerate(layers):
            if layer not in known:
                self._gpu.calls["tactic"] += 1
                time.sleep(self._gpu.seconds_per_step)
            if step == len(layers) // 2:
                _die(fault)
            if monitor and call_back(monitor.step_complete, "Tactic timing", step) != (True, True):
                return False
        if monitor:
            call_back(monitor.phase_finish, "Tactic timing")
            call_back(monitor.step_complete, "Building engine", 1)
            call_back(monitor.phase_finish, "Building engine")
        if config._cache:
            config._cache._facts["entries"] = sorted(known | set(layers))
        return True


def _die(fault: str | None) -> None:
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "hang":
        threading.Event().wait()


def _unbuildable(network: Any, config: Any) -> str | None:
    """Why TensorRT would refuse the network before it times anything."""
    model = network._model
    if model is None or not network._outputs:
        return "Error Code 4: Network must have at least one output"
    config._network = model
    if network._strong() and (config._on("FP16") or config._on("INT8")):
        return "Error Code 3: precision flags are not allowed for a strongly typed network"
    half = any(w.data_type == TensorProto.FLOAT16 for w in model.graph.initializer)
    if half and not network._strong() and not config._on("FP16"):
        return "Error Code 4: a tensor of type Half needs BuilderFlag FP16"
    if config._pools["WORKSPACE"] < 64 << 20:
        return (
            "Error Code 10: Could not find any implementation for node: workspace limit too small"
        )
    for tensor in network._inputs:
        if -1 not in tuple(tensor.shape):
            continue
        if not config._profiles or tensor.name not in config._profiles[0]._shapes:
            return (
                "Error Code 4: Network has dynamic or shape inputs, but no optimization profile "
                "has been defined."
            )
        for shape in config._profiles[0]._shapes[tensor.name]:
            if len(shape) != len(tensor.shape) or any(
                want not in (-1, have) for want, have in zip(tensor.shape, shape, strict=True)
            ):
                return f"Error Code 4: {tensor.name}: the profile does not fit static dimensions"
    return None


def _plan(network: Any, config: Any, *, nonsense: bool) -> bytes:
    trt, gpu, model = config._trt, config._gpu, onnx.ModelProto()
    model.CopyFrom(network._model)
    for weights in model.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.dtype != np.float32:
            continue
        if nonsense:
            array = -array
        elif config._on("FP16"):  # what half precision does to weights
            array = np.clip(array, -65504, 65504).astype(np.float16).astype(np.float32)
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    profile = config._profiles[0]._shapes if config._profiles else {}
    body = model.SerializeToString()
    header = {
        "tensorrt": trt.__version__,
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "sm_count": gpu.sm_count,
        "profile": profile,
        "size": len(body),
    }
    text = json.dumps(header).encode()
    return MAGIC + struct.pack("<I", len(text)) + text + body


# Running


class Runtime(Logging):
    def _setup(self, logger: Any) -> None:
        if not self._gpu.driver:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger
        self._count("runtime")

    def _count(self, kind: str) -> None:
        self._kind = kind
        self._thread = threading.get_ident()
        self._gpu.alive[kind] += 1

    def _destroyed(self) -> None:
        if "_kind" in self.__dict__:
            self._gpu.destroyed(self._kind, self._thread)

    def _get_num_DLA_cores(self) -> int:
        return self._gpu.dla_cores

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        content = bytes(serialized_engine)
        problem = self._unreadable(content)
        fault = self._gpu.fault("deserialize")
        if fault == "out of memory":
            problem = "Error Code 2: OutOfMemory (no further information)"
        if problem or fault:
            self._error(f"IRuntime::deserializeCudaEngine: {problem or 'Error Code 1'}")
            return None
        header, body = _split(content)
        if header["gpu"] != self._gpu.name or header["sm_count"] != self._gpu.sm_count:
            self._say(
                "WARNING",
                "Using an engine plan file across different models of devices is not recommended "
                "and is likely to affect performance or even cause errors.",
            )
        return self._trt.ICudaEngine.make(runtime=self, header=header, body=body)

    def _unreadable(self, content: bytes) -> str | None:
        if not content:
            return "Cannot deserialize with an empty memory buffer."
        if not content.startswith(MAGIC):
            return (
                "Error Code 1: Serialization (Serialization assertion header.magicTag == "
                "rt::kPLAN_MAGIC_TAG failed.)"
            )
        try:
            header, body = _split(content)
        except (struct.error, ValueError):
            header, body = {"size": -1}, b""
        if header["size"] != len(body):
            return "Error Code 1: Serialization assertion plan.header.size == blobSize failed."
        if header["tensorrt"] != self._trt.__version__:
            return (
                "Error Code 6: The engine plan file is not compatible with this version of "
                f"TensorRT, expecting library version {self._trt.__version__} got "
                f"{header['tensorrt']}, please rebuild."
            )
        if tuple(header["compute_capability"]) != self._gpu.compute_capability:
            here, built = self._gpu.compute_capability, header["compute_capability"]
            return (
                "Error Code 6: The engine plan file is generated on an incompatible device, "
                f"expecting compute {here[0]}.{here[1]} got compute {built[0]}.{built[1]}, "
                "please rebuild."
            )
        return None


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(MAGIC) + 4
    (length,) = struct.unpack("<I", content[len(MAGIC) : start])
    return json.loads(content[start : start + length]), content[start + length :]


@dataclass
class Tensor:
    """An input or output of a plan."""

    name: str
    shape: list[int]
    element: int
    is_input: bool
    by_data: bool = field(default=False)


class ICudaEngine(Runtime):
    def _setup(self, runtime: Any, header: dict[str, Any], body: bytes) -> None:
        self._runtime = runtime
        self._logger = runtime._logger
        self._header = header
        self._size = len(body)
        model = onnx.load_model_from_string(body)
        self._model = model
        self._tensors = _tensors(model)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        self._count("engine")

    def _get_num_io_tensors(self) -> int:
        return len(self._tensors)

    def _get_num_optimization_profiles(self) -> int:
        return 1

    def _get_device_memory_size(self) -> int:
        return 1 << 20

    _get_device_memory_size_v2 = _get_device_memory_size

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def _named(self, name: str) -> Tensor:
        return next(tensor for tensor in self._tensors if tensor.name == name)

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._trt.TensorIOMode
        return modes.INPUT if self._named(name).is_input else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return _data_type(self._trt, self._named(name).element)

    def get_tensor_shape(self, name: str) -> Any:
        return self._trt.Dims(self._named(name).shape)

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        return [self._trt.Dims(shape) for shape in self._header["profile"].get(name, [])]

    def create_execution_context(self, strategy: Any = None) -> Any:
        if self._gpu.fault("context"):
            self._error("Error Code 2: OutOfMemory (Requested size was 67108864 bytes.)")
            return None
        return self._trt.IExecutionContext.make(engine=self)


def _tensors(model: onnx.ModelProto) -> list[Tensor]:
    """Inputs and outputs in the order of the network; which outputs' shapes data decides."""
    weights = {initializer.name for initializer in model.graph.initializer}
    tainted: set[str] = set()
    for node in model.graph.node:
        if node.op_type in DATA_DEPENDENT or tainted & set(node.input):
            tainted.update(node.output)
    inputs = [
        Tensor(value.name, _shape(value), value.type.tensor_type.elem_type, True)
        for value in model.graph.input
        if value.name not in weights
    ]
    outputs = [
        Tensor(value.name, _shape(value), value.type.tensor_type.elem_type, False)
        for value in model.graph.output
    ]
    for tensor in outputs:
        tensor.by_data = tensor.name in tainted and -1 in tensor.shape
    return inputs + outputs


class IExecutionContext(Runtime):
    def _setup(self, engine: Any) -> None:
        self._engine = engine
        self._logger = engine._logger
        self._inputs: dict[str, tuple[int, ...]] = {
            tensor.name: tuple(tensor.shape)
            for tensor in engine._tensors
            if tensor.is_input and -1 not in tensor.shape
        }
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._shapes: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self._count("execution context")

    def set_input_shape(self, name: str, shape: Any) -> bool:
        shape = tuple(int(dim) for dim in shape)
        tensor = self._engine._named(name)
        low, _, high = self._engine._header["profile"].get(name) or [tensor.shape] * 3
        fits = len(shape) == len(low) and all(
            a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True)
        )
        if not fits or self._gpu.fault("shape"):
            self._error(
                f"IExecutionContext::setInputShape: Error Code 3: {name}: {shape} is not in the "
                f"range [{low}, {high}] of the optimization profile."
            )
            return False
        self._gpu.calls["set_input_shape"] += 1
        self._inputs[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        return [t.name for t in self._engine._tensors if t.is_input and t.name not in self._inputs]

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._engine._named(name)
        if tensor.is_input:
            return self._trt.Dims(self._inputs.get(name, tensor.shape))
        if tensor.by_data or self.infer_shapes():
            return self._trt.Dims(tensor.shape)
        return self._trt.Dims(self._output_shapes()[name])

    def _output_shapes(self) -> dict[str, tuple[int, ...]]:
        key = tuple(self._inputs.items())
        if key not in self._shapes:
            zeros = {
                t.name: np.zeros(self._inputs[t.name], helper.tensor_dtype_to_np_dtype(t.element))
                for t in self._engine._tensors
                if t.is_input
            }
            self._shapes[key] = {n: a.shape for n, a in self._execute(zeros).items()}
        return self._shapes[key]

    def _execute(self, feeds: dict[str, Any]) -> dict[str, Any]:
        names = [t.name for t in self._engine._tensors if not t.is_input]
        values = self._engine._session.run(names, feeds)
        return {
            name: value.astype(_nptype(self._engine.get_tensor_dtype(name)), copy=False)
            for name, value in zip(names, values, strict=True)
        }

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return True

    def get_max_output_size(self, name: str) -> int:
        return 1 << 20

    def execute_async_v3(self, stream_handle: int) -> bool:
        if threading.get_ident() != self._thread:
            self._gpu.violations.append("an execution context was used on two threads")
        if not self._gpu.stack:
            self._gpu.violations.append("executed without a current context")
        stream = self._gpu.streams[stream_handle]
        missing = self.infer_shapes() + [
            t.name
            for t in self._engine._tensors
            if not self._addresses.get(t.name) and t.name not in self._allocators
        ]
        fault = self._gpu.fault("execute")
        if missing or fault in ("false", "out of memory"):
            reason = f"address or shape is not set for {missing}" if missing else fault
            self._error(f"IExecutionContext::enqueueV3: Error Code 3: {reason}")
            return False
        if fault == "sticky":
            stream.work.append(lambda: self._gpu.break_down("cuStreamSynchronize"))
            return True
        if any(t.by_data for t in self._engine._tensors):
            stream.wait()  # sizes are known only when the network has run
            return self._run()
        stream.work.append(self._run)
        return True

    def _run(self) -> bool:
        feeds = {}
        for tensor in self._engine._tensors:
            if tensor.is_input:
                dtype = np.dtype(_nptype(self._engine.get_tensor_dtype(tensor.name)))
                shape = self._inputs[tensor.name]
                count = int(np.prod(shape, dtype=np.int64))
                memory = self._gpu.at(self._addresses[tensor.name], count * dtype.itemsize)
                feeds[tensor.name] = (
                    np.frombuffer(memory, dtype)
                    .reshape(shape)
                    .astype(helper.tensor_dtype_to_np_dtype(tensor.element), copy=False)
                )
        for name, value in self._execute(feeds).items():
            address = self._place(name, value)
            if address == 0:
                self._error(f"{name}: the output allocator returned no memory")
                return False
            if value.nbytes:
                self._gpu.at(address, value.nbytes)[:] = np.ascontiguousarray(value).tobytes()
        return True

    def _place(self, name: str, value: Any) -> int:
        allocator = self._allocators.get(name)
        if allocator is None:
            return self._addresses[name]
        current = self._addresses.get(name, 0)
        shape = self._trt.Dims(value.shape)
        if hasattr(allocator, "reallocate_output_async"):
            arguments = (name, current, value.nbytes, 256, 0)
            _, address = call_back(allocator.reallocate_output_async, *arguments)
        else:
            _, address = call_back(allocator.reallocate_output, name, current, value.nbytes, 256)
        call_back(allocator.notify_shape, name, shape)
        self._addresses[name] = address or 0
        return int(address or 0)


class IOutputAllocator:
    pass


BEHAVIOURS = {
    "ILogger": ILogger,
    "Dims": Dims,
    "ITensor": ITensor,
    "ParserError": ParserError,
    "IOptimizationProfile": IOptimizationProfile,
    "ITimingCache": ITimingCache,
    "IProgressMonitor": IProgressMonitor,
    "IOutputAllocator": IOutputAllocator,
    "INetworkDefinition": INetworkDefinition,
    "OnnxParser": OnnxParser,
    "IBuilderConfig": IBuilderConfig,
    "Builder": Builder,
    "Runtime": Runtime,
    "ICudaEngine": ICudaEngine,
    "IExecutionContext": IExecutionContext,
}
