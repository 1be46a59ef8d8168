"""TensorRT engines behind the ``Engine`` protocol. The only run-time file that knows TensorRT.

TensorRT rarely raises: it returns None or False and says why in its log. Every such answer becomes
an EngineError here, with what the log said meanwhile. Versions 8.6 to 11 are supported, and where
they differ at run time it is said in this file.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import tensorrt as trt

from engines.artifact import EngineArtifact, EngineHost
from engines.base import (
    Array,
    EngineError,
    EngineLostError,
    EngineOpenError,
    FeedError,
    PlanMismatchError,
    TensorSpec,
    check_feeds,
)
from engines.cuda import CudaError, CudaThread, find_gpu
from engines.worker import Worker

_logger = logging.getLogger(__name__)
# trt.nptype would raise TypeError for the others, which no network of ours has at its ends.
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
# When the log says this, the plan may be right, and building it again would not help.
_NOT_THE_PLAN = (
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "driver version is insufficient",
    "no cuda-capable device",
    "is not supported by this tensorrt release",
)
_PROFILE = 0  # every plan of ours has one optimization profile


class CapturedLog(trt.ILogger):  # type: ignore[misc]  # the module has no types
    """TensorRT's log: its errors, for whoever captures them meanwhile. Thread-safe."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)  # pybind11 insists
        self._captures: dict[int, list[str]] = {}
        self._loud = {trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR}

    def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - an enum of the module
        """Called by TensorRT on any of its threads. What it raised would be swallowed."""
        _logger.debug("%s: %s", severity.name, msg)
        if severity in self._loud:
            own = self._captures.get(threading.get_ident())
            # A thread of TensorRT's own may speak for any of those who are waiting.
            for lines in list(self._captures.values()) if own is None else [own]:
                lines.append(msg)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Keep the errors that TensorRT logs for this thread until the block ends."""
        self._captures[threading.get_ident()] = []
        try:
            yield
        finally:
            del self._captures[threading.get_ident()]

    @property
    def lines(self) -> list[str]:
        """The errors captured so far for this thread, oldest first."""
        return self._captures.get(threading.get_ident(), [])

    def __str__(self) -> str:
        """What TensorRT gave as its reason, as a sentence."""
        return f"It says: {' '.join(self.lines)}" if self.lines else "It gives no reason."


LOG = CapturedLog()  # one for the process: TensorRT keeps the first it is given for good


def this_host() -> EngineHost:
    """What plans must have been built for to run here.

    Raises:
        CudaError: there is no usable GPU.
    """
    gpu = find_gpu()
    return EngineHost(trt.__version__, gpu.name, gpu.compute_capability, gpu.sm_count)


def open_tensorrt(artifact: EngineArtifact) -> TensorRtEngine:
    """Open a plan; its seal was checked by ``read_artifact``.

    Raises:
        PlanMismatchError: the plan is damaged or does not fit: build it again.
        EngineOpenError: it cannot be opened now, for lack of memory or of a usable GPU.
    """
    return TensorRtEngine(artifact)


class TensorRtEngine:
    """A TensorRT engine. Thread-safe: its own thread runs one call after the other."""

    def __init__(self, artifact: EngineArtifact) -> None:
        self.precision = artifact.key.precision
        self.name = f"tensorrt-{self.precision}"
        session = _Session(artifact)
        try:
            self._worker = Worker(f"{self.name} {artifact.plan.stem[:8]}", lambda: session)
        except EngineOpenError:
            raise
        except EngineError as error:
            raise EngineOpenError(f"{artifact.plan.name} cannot be opened: {error}") from error
        self.inputs, self.outputs = session.inputs, session.outputs
        self._limits = session.limits
        self.nbytes = session.nbytes
        # Also at the end of the program: a thread that dies with a context aborts the process.
        weakref.finalize(self, self._worker.close)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Engine.run``. EngineLostError: the GPU is lost to this process."""
        check_feeds(self.inputs, feeds)
        for name, (low, high) in self._limits.items():
            shape = feeds[name].shape
            if not all(a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True)):
                raise FeedError(
                    f"Input {name} is {shape}; the engine was built for {low} to {high}."
                )
        return self._worker.run(feeds)

    def close(self) -> None:
        """Free everything on the GPU; callers that wait get an EngineError."""
        self._worker.close()


class _Session:
    """What lives on the GPU. Made anywhere; entered, used and left on one thread.

    The objects of TensorRT are attributes and never local variables: an exception that leaves the
    thread carries the variables of its frames along, and they would be freed by another thread.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    limits: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    nbytes: int

    def __init__(self, artifact: EngineArtifact) -> None:
        self._artifact = artifact

    def __enter__(self) -> _Session:
        with LOG.capture(), ExitStack() as stack:
            self._cuda = stack.enter_context(CudaThread())
            stack.callback(self._forget, "_cuda")
            self._deserialize(stack)
            self._describe()
            self._allocate(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._stack.close()
        except EngineError as problem:  # on a broken GPU nothing can be freed; that is no news
            _logger.warning("Leaving %s: %s", self._artifact.plan.name, problem)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Copy in, execute, copy out; the arrays that it returns are new."""
        with LOG.capture():
            try:
                self._feed(feeds)
                if not self._context.execute_async_v3(stream_handle=self._cuda.stream):
                    raise EngineError(f"TensorRT refused to run. {LOG}")
                return self._collect()
            except EngineError as error:
                if self._cuda.lost():
                    raise EngineLostError(f"The GPU is lost to this process: {error}") from error
                raise

    def _forget(self, name: str) -> None:
        setattr(self, name, None)

    def _deserialize(self, stack: ExitStack) -> None:
        plan = self._artifact.load_plan()
        trt.init_libnvinfer_plugins(LOG, "")
        try:
            self._runtime = trt.Runtime(LOG)
        except TypeError as error:  # how pybind11 reports that there is no driver
            raise EngineOpenError(f"TensorRT finds no usable GPU. {LOG}") from error
        stack.callback(self._forget, "_runtime")
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        stack.callback(self._forget, "_engine")
        if self._engine is None:
            blameless = any(text in str(LOG).lower() for text in _NOT_THE_PLAN)
            kind = EngineOpenError if blameless else PlanMismatchError
            raise kind(f"TensorRT cannot load {self._artifact.plan.name}. {LOG}")
        self._context = self._engine.create_execution_context()
        stack.callback(self._forget, "_context")
        if self._context is None:
            raise EngineOpenError(f"TensorRT cannot prepare to run. {LOG}")

    def _describe(self) -> None:
        """Read names, types and shapes; outputs in the order of the network, not of TensorRT."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        mode = trt.TensorIOMode.INPUT
        self.inputs = tuple(
            self._spec(name) for name in names if self._engine.get_tensor_mode(name) == mode
        )
        found = {name for name in names if self._engine.get_tensor_mode(name) != mode}
        if found != set(self._artifact.outputs):
            raise PlanMismatchError(
                f"{self._artifact.plan.name} has the outputs {sorted(found)}; its manifest says "
                f"{sorted(self._artifact.outputs)}."
            )
        self.outputs = tuple(self._spec(name) for name in self._artifact.outputs)
        self.limits = {}
        for spec in self.inputs:
            if None in spec.shape:
                low, _, high = self._engine.get_tensor_profile_shape(spec.name, _PROFILE)
                self.limits[spec.name] = (tuple(low), tuple(high))

    def _spec(self, name: str) -> TensorSpec:
        dtype = self._engine.get_tensor_dtype(name).name
        if (
            dtype not in _DTYPES
            or self._engine.get_tensor_location(name) != trt.TensorLocation.DEVICE
        ):
            raise EngineOpenError(f"Tensor {name} ({dtype}) is of a kind that is not supported.")
        shape = tuple(None if dim < 0 else int(dim) for dim in self._engine.get_tensor_shape(name))
        return TensorSpec(name, np.dtype(_DTYPES[dtype]), shape)

    def _allocate(self, stack: ExitStack) -> None:
        """Memory for the largest shapes, so that no run needs more."""
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._memory: dict[str, _Memory] = {}
        stack.callback(self._memory.clear)
        self._reshape({spec.name: self._largest(spec) for spec in self.inputs})
        for spec in (*self.inputs, *self.outputs):
            shape = tuple(self._context.get_tensor_shape(spec.name))
            memory = _Memory(self._cuda, spec.dtype.itemsize * math.prod(map(abs, shape)))
            stack.callback(memory.free)
            self._memory[spec.name] = memory
            if -1 in shape:  # even now: the data decides
                taken = self._context.set_output_allocator(spec.name, memory)
            else:
                taken = self._context.set_tensor_address(spec.name, memory.buffer.address)
            if not taken:
                raise EngineOpenError(f"TensorRT refuses the memory for {spec.name}. {LOG}")
        self.nbytes = (
            self._artifact.nbytes
            + self._scratch_bytes()
            + sum(memory.buffer.host.nbytes for memory in self._memory.values())
        )

    def _scratch_bytes(self) -> int:
        """What the execution context holds. 8.6 has the older name only, 11 the newer one."""
        newer = hasattr(self._engine, "device_memory_size_v2")
        return int(self._engine.device_memory_size_v2 if newer else self._engine.device_memory_size)

    def _largest(self, spec: TensorSpec) -> tuple[int, ...]:
        if spec.name in self.limits:
            return self.limits[spec.name][1]
        return tuple(dim or 0 for dim in spec.shape)

    def _reshape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Tell TensorRT the shapes of inputs, if they changed: it plans anew for each."""
        for name, shape in shapes.items():
            if self._shapes.get(name) == shape:
                continue
            if not self._context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT refuses {shape} for {name}. {LOG}")
            self._shapes[name] = shape

    def _feed(self, feeds: Mapping[str, Array]) -> None:
        self._reshape({name: array.shape for name, array in feeds.items()})
        for name, array in feeds.items():
            buffer = self._memory[name].buffer
            np.copyto(buffer.view(array.dtype, array.shape), array)
            self._cuda.upload(buffer, array.nbytes)

    def _collect(self) -> dict[str, Array]:
        results = {}
        for spec in self.outputs:
            memory = self._memory[spec.name]
            shape = memory.shape or tuple(self._context.get_tensor_shape(spec.name))
            results[spec.name] = (memory.buffer, spec.dtype, shape)
            self._cuda.download(memory.buffer, spec.dtype.itemsize * math.prod(shape))
        self._cuda.synchronize()
        return {
            name: buffer.view(dtype, shape).copy()
            for name, (buffer, dtype, shape) in results.items()
        }


class _Memory(trt.IOutputAllocator):  # type: ignore[misc]  # the module has no types
    """Memory of one tensor, which grows where the data decides how large an output is."""

    def __init__(self, cuda: CudaThread, nbytes: int) -> None:
        trt.IOutputAllocator.__init__(self)  # pybind11 insists
        self._cuda = cuda
        self.buffer = cuda.buffer(nbytes)
        self.shape: tuple[int, ...] = ()

    def reallocate_output(self, tensor_name: str, memory: object, size: int, alignment: int) -> int:
        """Called by TensorRT while it runs: the address of at least ``size`` bytes, 0 for none."""
        if size > self.buffer.host.nbytes:
            try:
                larger = self._cuda.buffer(size)
            except CudaError:
                return 0
            self.buffer.free()
            self.buffer = larger
        return self.buffer.address

    def reallocate_output_async(
        self, tensor_name: str, memory: object, size: int, alignment: int, stream: object
    ) -> int:
        """The same for TensorRT 10 and later."""
        return self.reallocate_output(tensor_name, memory, size, alignment)

    def notify_shape(self, tensor_name: str, shape: Iterable[int]) -> None:
        """Called by TensorRT when it knows the shape."""
        self.shape = tuple(shape)

    def free(self) -> None:
        """Give it back."""
        self.buffer.free()
