"""A double of ``pycuda.driver`` on a ``FakeGpu``: the members we may use, and their moods.

It has the names, arguments and exceptions of pycuda 2025.1. What belongs to a context is freed on
the thread of that context; anything else is noted as a violation.
"""

from __future__ import annotations

import functools
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.doubles.gpu import FakeGpu, FakeStream, GpuError

HOST_FLAGS = SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)


def fake_pycuda(gpu: FakeGpu) -> tuple[ModuleType, ModuleType]:
    """The modules ``pycuda`` and ``pycuda.driver`` on one GPU."""
    package, driver = ModuleType("pycuda"), ModuleType("pycuda.driver")
    package.driver = driver
    driver.Error = type("Error", (Exception,), {})
    for name in ("LogicError", "LaunchError", "MemoryError", "RuntimeError"):
        setattr(driver, name, type(name, (driver.Error,), {}))
    for cls in (Device, Context, Stream, Event, DeviceAllocation, PagelockedHostAllocation):
        setattr(driver, cls.__name__, type(cls.__name__, (cls,), {"gpu": gpu, "driver": driver}))
    functions = type("Functions", (Functions,), {"gpu": gpu, "driver": driver})()
    for name in vars(Functions):
        if not name.startswith("_"):
            setattr(driver, name, getattr(functions, name))
    attributes = ("MULTIPROCESSOR_COUNT", "INTEGRATED", "CAN_MAP_HOST_MEMORY")
    driver.device_attribute = SimpleNamespace(**{name: name for name in attributes})
    driver.event_flags = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)
    driver.host_alloc_flags = HOST_FLAGS
    return package, driver


def guarded(function: Any) -> Any:
    """Give a CUDA error the class that pycuda has for it."""

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(self, *args, **kwargs)
        except GpuError as error:
            text = str(error)
        if "out of memory" in text:
            raise self.driver.MemoryError(text)
        if "no CUDA-capable device" in text:
            raise self.driver.RuntimeError(text)
        raise self.driver.LogicError(text)

    return call


class Double:
    """Base of all: the GPU, and the module for its exceptions and classes."""

    gpu: FakeGpu
    driver: Any


class Device(Double):
    @guarded
    def __init__(self, number: int) -> None:
        if not self.gpu.initialised:
            raise GpuError("cuDeviceGet failed: initialization error")
        if number != 0:
            raise GpuError("cuDeviceGet failed: invalid device ordinal")

    @classmethod
    def count(cls) -> int:
        return 1

    def name(self) -> str:
        return self.gpu.name

    def compute_capability(self) -> tuple[int, int]:
        return self.gpu.compute_capability

    def total_memory(self) -> int:
        return self.gpu.total_memory

    def get_attribute(self, attr: str) -> int:
        return {
            "MULTIPROCESSOR_COUNT": self.gpu.sm_count,
            "INTEGRATED": int(self.gpu.integrated),
            "CAN_MAP_HOST_MEMORY": 1,
        }[attr]

    @guarded
    def retain_primary_context(self) -> Context:
        self.gpu.need_health("cuDevicePrimaryCtxRetain")
        context = object.__new__(self.driver.Context)
        context._thread, context._valid = threading.get_ident(), True
        self.gpu.alive["context"] += 1
        return context


class Context(Double):
    def __init__(self) -> None:
        raise self.driver.RuntimeError("This class cannot be instantiated from Python")

    @guarded
    def push(self) -> None:
        if not self._valid:
            raise GpuError("cuCtxPushCurrent failed: invalid device context")
        self.gpu.stack.append(self)

    @classmethod
    @guarded
    def pop(cls) -> None:
        if not cls.gpu.stack:
            raise GpuError("context::pop failed: invalid device context")
        cls.gpu.need_health("cuCtxPopCurrent")  # refused, it leaves the context on the stack
        cls.gpu.stack.pop()

    @guarded
    def detach(self) -> None:
        if not self._valid:
            raise GpuError("context::detach failed: invalid device context")
        self._valid = False
        if self._thread == threading.get_ident():  # else silently nothing, and a leak
            self.gpu.alive["context"] -= 1
        while self in self.gpu.stack:
            self.gpu.stack.remove(self)

    @classmethod
    @guarded
    def synchronize(cls) -> None:
        cls.gpu.need_context("cuCtxSynchronize")

    def __del__(self) -> None:
        if self.__dict__.get("_valid"):
            self.detach()


class Owned(Double):
    """Something that belongs to the context of the thread that made it."""

    kind = ""

    def _made(self) -> None:
        self.gpu.need_context(f"making a {self.kind}")
        self._thread = threading.get_ident()
        self.gpu.alive[self.kind] += 1

    def __del__(self) -> None:
        if "_thread" in self.__dict__:
            self.gpu.destroyed(self.kind, self._thread)


class Stream(Owned):
    kind = "stream"

    @guarded
    def __init__(self, flags: int = 0) -> None:
        self._made()
        self.handle = 0xA000 + len(self.gpu.streams)
        self._stream = self.gpu.streams[self.handle] = FakeStream(self.gpu)

    @guarded
    def synchronize(self) -> None:
        self._stream.wait()


class Event(Owned):
    kind = "event"

    @guarded
    def __init__(self, flags: int = 0) -> None:
        self._made()
        self._stream: FakeStream | None = None

    @guarded
    def record(self, stream: Stream) -> Event:
        self.gpu.need_context("cuEventRecord")
        self._stream = stream._stream
        return self

    @guarded
    def synchronize(self) -> Event:
        if self._stream is not None:
            self._stream.wait()
        return self


class Memory(Double):
    """A block of the GPU's memory, freed once."""

    kind = ""

    def _allocate(self, nbytes: int) -> memoryview:
        self._thread = threading.get_ident()
        self._address, block = self.gpu.allocate(nbytes, self.kind)
        return block

    @guarded
    def free(self) -> None:
        if not self._address:
            raise GpuError("free failed: invalid resource handle")
        address, self._address = self._address, 0
        self.gpu.release(address, self.kind, self._thread)

    def __del__(self) -> None:
        if self.__dict__.get("_address"):
            self.free()


class DeviceAllocation(Memory):
    kind = "device memory"

    def __int__(self) -> int:
        return self._address

    __index__ = __int__


class PagelockedHostAllocation(Memory):
    kind = "page-locked memory"

    @guarded
    def get_device_pointer(self) -> int:
        self.gpu.need_context("cuMemHostGetDevicePointer")
        if not self._mapped:
            raise GpuError("cuMemHostGetDevicePointer failed: invalid argument")
        return self._address


class Functions(Double):
    """The functions of the module."""

    @guarded
    def init(self, flags: int = 0) -> None:
        if not self.gpu.driver:
            raise GpuError("cuInit failed: no CUDA-capable device is detected")
        self.gpu.initialised = True

    def get_driver_version(self) -> int:
        return self.gpu.driver_version

    def get_version(self) -> tuple[int, int, int]:
        return (12, 6, 0)

    @guarded
    def mem_get_info(self) -> tuple[int, int]:
        self.gpu.need_context("cuMemGetInfo")
        return self.gpu.total_memory // 2, self.gpu.total_memory

    @guarded
    def mem_alloc(self, bytes: int) -> DeviceAllocation:  # noqa: A002
        memory = object.__new__(self.driver.DeviceAllocation)
        memory._allocate(bytes)
        return memory

    @guarded
    def pagelocked_empty(
        self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0
    ) -> np.ndarray:
        memory = object.__new__(self.driver.PagelockedHostAllocation)
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        block = memory._allocate(nbytes)
        memory._mapped = bool(mem_flags & HOST_FLAGS.DEVICEMAP)
        memory.__array_interface__ = {
            "shape": tuple(np.atleast_1d(shape).tolist()),
            "typestr": np.dtype(dtype).str,
            "data": (np.frombuffer(block, np.uint8).ctypes.data, False),
            "version": 3,
        }
        memory._block = block
        return np.asarray(memory)

    @guarded
    def memcpy_htod_async(self, dest: Any, src: Any, stream: Stream) -> None:
        _copy(self.gpu, "cuMemcpyHtoDAsync", memoryview(src).cast("B"), int(dest), stream)

    @guarded
    def memcpy_dtoh_async(self, dest: Any, src: Any, stream: Stream) -> None:
        _copy(self.gpu, "cuMemcpyDtoHAsync", memoryview(dest).cast("B"), int(src), stream)


def _copy(gpu: FakeGpu, what: str, host: memoryview, address: int, stream: Stream) -> None:
    """Copy when the stream gets there: what the host holds then is what arrives."""
    gpu.need_context(what)
    kind = gpu.fault("copy")
    if kind == "once":
        raise GpuError(f"{what} failed: invalid argument")

    def work() -> None:
        if kind == "sticky":
            gpu.break_down("cuStreamSynchronize")
        device = gpu.at(address, len(host))
        if "HtoD" in what:
            device[:] = host
        else:
            host[:] = device

    stream._stream.work.append(work)
