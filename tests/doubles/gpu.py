"""A GPU made of Python: memory, contexts and streams that know who may use them.

``FakeGpu`` is the machine that the doubles of pycuda and TensorRT share. It really copies and holds
bytes, runs a stream's work only when somebody waits for it, counts what is not given back, and
notes in ``violations`` what a real one would answer with a crash or a leak.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field


class GpuError(Exception):
    """A CUDA error before the doubles give it the class that their module has for it."""


@dataclass
class FakeGpu:
    """One GPU, its driver, and what is to go wrong.

    ``fail("build", "out of memory")`` makes the next build fail in that way; without a fault
    everything works. What can fail, and how:

    ============= ============================================================================
    parse         an operator, such as ``"Conv"``: refused as not supported
    build         ``"none"``, ``"out of memory"``, ``"workspace"``, ``"wrong weights"`` (a plan
                  that answers nonsense), ``"killed"``, ``"crash"``, ``"hang"``
    deserialize   ``"none"``, ``"out of memory"``
    context       ``"none"``: create_execution_context
    shape         ``"false"``: set_input_shape
    execute       ``"false"``, ``"sticky"``, ``"out of memory"``
    alloc         ``"out of memory"``: device and page-locked memory
    copy          ``"sticky"``, ``"once"``
    free          ``"once"``: the memory stays taken
    ============= ============================================================================
    """

    name: str = "Orin"
    compute_capability: tuple[int, int] = (8, 7)
    sm_count: int = 8
    integrated: bool = True
    total_memory: int = 8 << 30
    driver: bool = True
    driver_version: int = 12060
    dla_cores: int = 0
    seconds_per_step: float = 0.0
    faults: dict[str, deque[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    alive: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.initialised = False
        self.sticky: str | None = None
        self._blocks: dict[int, memoryview] = {}
        self._next = 0x7_0000_0000
        self.streams: dict[int, FakeStream] = {}
        self._threads = threading.local()
        self._lock = threading.RLock()

    def fail(self, point: str, *kinds: str) -> None:
        """Let the next passes of ``point`` fail in these ways, one after the other."""
        self.faults.setdefault(point, deque()).extend(kinds)

    def fault(self, point: str) -> str | None:
        """The fault that is due now, used up by asking."""
        self.calls[point] += 1
        waiting = self.faults.get(point)
        return waiting.popleft() if waiting else None

    @property
    def left(self) -> dict[str, int]:
        """What was never given back, by kind: empty when all is well."""
        return {kind: count for kind, count in self.alive.items() if count}

    # Contexts: one stack for each thread, as pycuda keeps it.

    @property
    def stack(self) -> list[object]:
        if not hasattr(self._threads, "stack"):
            self._threads.stack = _Stack(self, threading.current_thread().name)
        return self._threads.stack.contexts

    def need_context(self, what: str) -> None:
        if not self.stack:
            raise GpuError(f"{what} failed: invalid device context - no currently active context?")
        self.need_health(what)

    def need_health(self, what: str) -> None:
        if self.sticky:
            raise GpuError(f"{what} failed: {self.sticky}")

    def break_down(self, what: str) -> None:
        """Every later call fails with this, as after an illegal address."""
        self.sticky = "an illegal memory access was encountered"
        raise GpuError(f"{what} failed: {self.sticky}")

    def destroyed(self, kind: str, thread: int) -> None:
        """Count something out, and note when the wrong thread did it or no context was current."""
        self.alive[kind] -= 1
        if thread != threading.get_ident():
            self.violations.append(f"{kind} freed on another thread")
        elif not self.stack:
            self.violations.append(f"{kind} freed without a current context")

    # Memory

    def allocate(self, nbytes: int, kind: str) -> tuple[int, memoryview]:
        """A block and its address; addresses are never used twice."""
        self.need_context("cuMemAlloc")
        if nbytes <= 0:
            raise GpuError("cuMemAlloc failed: invalid argument")
        if self.fault("alloc") == "out of memory" or nbytes > self.total_memory:
            raise GpuError("cuMemAlloc failed: out of memory")
        with self._lock:
            address = self._next
            self._next += (nbytes + 511) // 512 * 512
            self._blocks[address] = memoryview(bytearray(nbytes))
            self.alive[kind] += 1
        return address, self._blocks[address]

    def release(self, address: int, kind: str, thread: int) -> None:
        if self.fault("free"):
            raise GpuError("cuMemFree failed: invalid argument")
        with self._lock:
            del self._blocks[address]
        self.destroyed(kind, thread)

    def at(self, address: int, nbytes: int) -> memoryview:
        """Bytes of the GPU's memory; outside of every block everything breaks."""
        for start, block in list(self._blocks.items()):
            if start <= address and address + nbytes <= start + len(block):
                return block[address - start : address - start + nbytes]
        return self.break_down("cuStreamSynchronize")  # type: ignore[func-returns-value]


@dataclass
class FakeStream:
    """Work in order, done when somebody waits for it."""

    gpu: FakeGpu
    work: deque[Callable[[], None]] = field(default_factory=deque)

    def wait(self) -> None:
        try:
            while self.work:
                self.gpu.need_health("cuStreamSynchronize")
                self.work.popleft()()
            self.gpu.need_health("cuStreamSynchronize")
        finally:
            self.work.clear()  # on a broken GPU nothing of it will ever be done


class _Stack:
    """The contexts of one thread; dies with it."""

    def __init__(self, gpu: FakeGpu, thread: str) -> None:
        self.contexts: list[object] = []
        self._gpu = gpu
        self._thread = thread

    def __del__(self) -> None:
        if self.contexts:  # pycuda aborts the process here
            self._gpu.violations.append(f"thread {self._thread} ended with a context: abort")
