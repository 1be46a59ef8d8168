"""The port over pycuda: facts, memory of both kinds, and what is left when something fails."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from tests.doubles.gpu import FakeGpu
from tests.doubles.install import doubles


@pytest.fixture(params=[True, False], ids=["shared memory", "memory of its own"])
def installed(request):
    with doubles("10.3.0", FakeGpu(integrated=request.param)) as found:
        yield found
        assert found.gpu.violations == []


def test_the_gpu_is_described_without_a_context(installed):
    found = installed.module("engines.cuda").find_gpu()
    assert (found.name, found.compute_capability, found.sm_count) == ("Orin", "8.7", 8)
    assert (found.integrated, found.driver) == (installed.gpu.integrated, "12.6")
    assert installed.gpu.left == {}


def test_bytes_go_to_the_gpu_and_come_back(installed):
    cuda, gpu = installed.module("engines.cuda"), installed.gpu
    with cuda.CudaThread() as thread:
        buffer = thread.buffer(24)
        view = buffer.view(np.dtype(np.float32), (2, 3))
        view[:] = [[1, 2, 3], [4, 5, 6]]
        thread.upload(buffer, 24)
        thread.synchronize()
        sent = np.frombuffer(gpu.at(buffer.address, 24), np.float32)
        assert sent.tolist() == [1, 2, 3, 4, 5, 6]
        gpu.at(buffer.address, 24)[:4] = np.float32(7).tobytes()
        thread.download(buffer, 24)
        thread.synchronize()
        assert view[0, 0] == 7
        buffer.free()
    assert gpu.left == {}


def test_shared_memory_is_one_block_and_is_never_copied(installed):
    cuda, gpu = installed.module("engines.cuda"), installed.gpu
    with cuda.CudaThread() as thread:
        buffer = thread.buffer(1000)
        kinds = {"page-locked memory"} | (set() if gpu.integrated else {"device memory"})
        assert {kind for kind in gpu.left if kind.endswith("memory")} == kinds
        thread.upload(buffer, 1000)
        assert gpu.calls["copy"] == (0 if gpu.integrated else 1)
        buffer.free()


def test_half_a_buffer_is_given_back(installed):
    cuda, gpu = installed.module("engines.cuda"), installed.gpu
    with cuda.CudaThread() as thread:
        if not gpu.integrated:  # the page-locked half is there already
            gpu.fail("alloc", "")
        gpu.fail("alloc", "out of memory")
        with pytest.raises(cuda.CudaMemoryError, match="not enough memory"):
            thread.buffer(1000)
        assert not thread.lost(), "out of memory is no reason to give up the GPU"
    assert gpu.left == {}


def test_a_broken_gpu_is_recognised_and_left_without_aborting(installed):
    cuda, gpu = installed.module("engines.cuda"), installed.gpu

    def work():
        with cuda.CudaThread() as thread:
            assert not thread.lost()
            gpu.sticky = "an illegal memory access was encountered"
            with pytest.raises(cuda.CudaError, match="illegal memory access"):
                thread.synchronize()
            assert thread.lost()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert gpu.left == {}


def test_without_pycuda_the_reason_is_a_sentence(monkeypatch):
    with doubles("10.3.0") as installed:
        cuda = installed.module("engines.cuda")
        for name in ("pycuda", "pycuda.driver"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(cuda.CudaError, match="pycuda cannot be imported.*Install"):
            cuda.find_gpu()


def test_without_a_gpu_the_reason_is_a_sentence():
    with doubles("10.3.0", FakeGpu(driver=False)) as installed:
        cuda = installed.module("engines.cuda")
        with pytest.raises(cuda.CudaError, match="no CUDA-capable device"):
            cuda.find_gpu()
