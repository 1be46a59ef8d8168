"""CUDA through pycuda: the few operations that an engine needs. The only file that knows pycuda."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from engines.base import Array, EngineError


class CudaError(EngineError):
    """CUDA or pycuda is missing, or refused; the message has the driver's words."""


class CudaMemoryError(CudaError):
    """There is not enough memory now; everything else goes on."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU, as its driver describes it.

    Attributes:
        name: such as ``Orin``.
        compute_capability: such as ``8.7``.
        sm_count: streaming multiprocessors that the power mode leaves on.
        integrated: it shares the memory of the CPU.
        total_memory: in bytes.
        driver: the newest CUDA that the driver speaks, such as ``12.6``.
    """

    name: str
    compute_capability: str
    sm_count: int
    integrated: bool
    total_memory: int
    driver: str


def find_gpu() -> Gpu:
    """The first GPU; needs no context, so that any thread may ask.

    Raises:
        CudaError: there is no pycuda, no driver or no GPU.
    """
    with _cuda_errors() as driver:
        driver.init()
        device = driver.Device(0)
        major, minor = device.compute_capability()
        version = driver.get_driver_version()
        return Gpu(
            name=device.name(),
            compute_capability=f"{major}.{minor}",
            sm_count=device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT),
            integrated=bool(device.get_attribute(driver.device_attribute.INTEGRATED)),
            total_memory=device.total_memory(),
            driver=f"{version // 1000}.{version % 1000 // 10}",
        )


class CudaThread:
    """The GPU's primary context and one stream, for the thread that enters it.

    One thread: CUDA ties a context to the thread that pushed it, and pycuda frees nothing for
    another one. The primary context is the one that TensorRT uses as well.
    """

    def __enter__(self) -> CudaThread:
        self._integrated = find_gpu().integrated
        with _cuda_errors() as driver, ExitStack() as stack:
            context = driver.Device(0).retain_primary_context()
            # Takes the context off pycuda's stack without asking the driver. Context.pop() asks
            # and may be refused after a sticky error; pycuda then aborts when the thread ends.
            stack.callback(context.detach)
            context.push()
            stack.callback(vars(self).clear)
            self._stream = driver.Stream()
            # Waiting for an event of this kind sleeps; waiting for a stream keeps a core busy.
            self._done = driver.Event(driver.event_flags.BLOCKING_SYNC)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with _cuda_errors():
            self._stack.close()

    @property
    def stream(self) -> int:
        """The handle of the stream, for TensorRT."""
        return int(self._stream.handle)

    def buffer(self, nbytes: int) -> Buffer:
        """Memory for at least ``nbytes``, free with ``Buffer.free``.

        Raises:
            CudaMemoryError: there is not that much.
        """
        with _cuda_errors() as driver:
            return Buffer(driver, max(nbytes, 1), mapped=self._integrated)

    def upload(self, buffer: Buffer, nbytes: int) -> None:
        """Queue the way of the first bytes from the host to the GPU."""
        if buffer.device is not None and nbytes:
            with _cuda_errors() as driver:
                driver.memcpy_htod_async(buffer.device, buffer.host[:nbytes], self._stream)

    def download(self, buffer: Buffer, nbytes: int) -> None:
        """Queue the way of the first bytes from the GPU to the host."""
        if buffer.device is not None and nbytes:
            with _cuda_errors() as driver:
                driver.memcpy_dtoh_async(buffer.host[:nbytes], buffer.device, self._stream)

    def synchronize(self) -> None:
        """Wait until everything queued is done.

        Raises:
            CudaError: something queued failed.
        """
        with _cuda_errors():
            self._done.record(self._stream)
            self._done.synchronize()

    def lost(self) -> bool:
        """Whether the context is broken for good: after an error it refuses even to wait."""
        try:
            with _cuda_errors() as driver:
                driver.Context.synchronize()
        except CudaError:
            return True
        return False


class Buffer:
    """Bytes that the CPU and the GPU can reach.

    Where both share their memory it is one block, mapped for both, and nothing is copied; else a
    page-locked block, which copies need to be asynchronous, and one on the GPU.

    Attributes:
        host: (n,) uint8, the CPU's side.
        address: of the GPU's side.
        device: the GPU's own block, if there is one.
    """

    def __init__(self, driver: Any, nbytes: int, *, mapped: bool) -> None:  # noqa: ANN401 - no stubs
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: Array = driver.pagelocked_empty(nbytes, np.uint8, mem_flags=flags)
        self.device: Any = None
        with ExitStack() as undo:
            undo.callback(self.free)
            if mapped:
                self.address = int(self.host.base.get_device_pointer())
            else:
                self.device = driver.mem_alloc(nbytes)
                self.address = int(self.device)
            undo.pop_all()

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The first bytes of the host's side as an array."""
        return self.host[: dtype.itemsize * math.prod(shape)].view(dtype).reshape(shape)

    def free(self) -> None:
        """Give the memory back; views of ``host`` must not be used any more."""
        block: Any = self.host.base
        device, self.host, self.device = self.device, np.empty(0, np.uint8), None
        with _cuda_errors():
            try:
                if device is not None:
                    device.free()
            finally:
                block.free()


@contextmanager
def _cuda_errors() -> Iterator[Any]:
    """``pycuda.driver``, whose errors become ours."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise CudaError(f"pycuda cannot be imported: {error}. Install the extra gpu.") from error
    try:
        yield driver
    except driver.MemoryError as error:
        raise CudaMemoryError(f"The GPU has not enough memory: {error}.") from error
    except driver.Error as error:
        raise CudaError(f"CUDA failed: {error}.") from error
