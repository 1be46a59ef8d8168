"""How many CPUs may be used, inside and outside of containers, and how much memory is."""

from __future__ import annotations

import os

import numpy as np
import pytest

from engines.cuda import CudaError, Gpu
from engines.device import private_bytes, read_device, usable_cpus

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, AFFINITY),
        ({"cpu.max": "max 100000"}, AFFINITY),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "9900000 100000"}, AFFINITY),
        ({"cpu.max": "nonsense"}, AFFINITY),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, AFFINITY),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_the_cgroup_quota_cuts_the_affinity(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cpus(tmp_path) == cpus


def test_a_quota_of_a_cpu_and_a_half_counts_as_two(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cpus(tmp_path) == 2


def test_private_memory_grows_by_what_is_allocated():
    before = private_bytes()
    held = np.ones(32 * 2**20, np.uint8)
    assert before > 0
    assert held.nbytes * 0.9 < private_bytes() - before < held.nbytes * 1.5


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_private_memory_is_0_where_the_kernel_does_not_count_it(tmp_path, content):
    if content:
        (tmp_path / "statm").write_text(content)
    assert private_bytes(tmp_path / "statm") == 0


MEMINFO = "MemTotal:        7802000 kB\nMemFree: 100 kB\nMemAvailable:    5151000 kB\n"
NVPMODEL = (
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
)
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0"
    "nvidia,tegra234\0",
    "proc/device-tree/bus@0/host1x@13e00000/nvdla0@15880000/status": "disabled\0",
    "proc/device-tree/bus@0/host1x@13e00000/nvdla1@158c0000/status": "disabled\0",
    "proc/device-tree/serial-number": "1421023000000\0",
    "proc/meminfo": MEMINFO,
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    "etc/nvpmodel.conf": NVPMODEL,
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}',
    "usr/lib/aarch64-linux-gnu/libcudnn.so.9": "",
    "usr/lib/aarch64-linux-gnu/libcudnn.so.9.3.0": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
}
AGX_ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0"
    "nvidia,tegra234\0",
    "proc/device-tree/host1x@13e00000/nvdla0@15880000/name": "nvdla0\0",
    "proc/device-tree/host1x@13e00000/nvdla1@158c0000/name": "nvdla1\0",
    "proc/meminfo": "MemTotal: 64349000 kB\nMemAvailable: 60000000 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic\n",
    "var/lib/nvpmodel/status": "pmode:0000\n",
}
THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0"
    "nvidia,tegra264\0",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  "
    "580.00  Release Build  (bugfix_main)\n",
    "proc/meminfo": "MemTotal: 128000000 kB\nMemAvailable: 120000000 kB\n",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.1, GCID: 41844464, BOARD: generic\n",
}
PC = {
    "sys/class/dmi/id/product_name": "OptiPlex 7090\n",
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
}
PC_WITH_GPU = {
    **PC,
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  "
    "Tue Mar  5 22:23:56 UTC 2024\n",
    "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA RTX A2000\n"
    "IRQ:   \t\t 141\n",
}
ORIN = Gpu("Orin", "8.7", 8, integrated=True, total_memory=7_990_000_000, driver="12.6")


def no_gpu() -> Gpu:
    raise CudaError("pycuda cannot be imported: No module named 'pycuda'.")


def plant(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


DEVICES = [
    pytest.param(
        ORIN_NANO,
        lambda: ORIN,
        [
            "Device: NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "Module: Orin Nano 8 GB developer kit",
            "JetPack: 6.2 (Jetson Linux 36.4.3)",
            "GPU: Orin, compute capability 8.7, 8 multiprocessors",
            "CUDA: 12.6.68",
            "cuDNN: 9.3.0",
            "TensorRT: 10.3.0",
            "Memory: 8.0 GB, 5.3 GB free",
            "Power mode: MAXN_SUPER",
        ],
        id="Orin Nano 8 GB",
    ),
    pytest.param(
        AGX_ORIN,
        no_gpu,
        [
            "Device: NVIDIA Jetson AGX Orin Developer Kit",
            "Module: AGX Orin 64 GB",
            "JetPack: 6.0 (Jetson Linux 36.3.0)",
            "GPU: of unknown name, compute capability 8.7",
            "GPU cannot be used: pycuda cannot be imported: No module named 'pycuda'.",
            "DLA: 2 cores",
            "Memory: 65.9 GB, 61.4 GB free",
            "Power mode: 0",
        ],
        id="AGX Orin without pycuda",
    ),
    pytest.param(
        THOR,
        lambda: Gpu("Thor", "11.0", 20, integrated=True, total_memory=1, driver="13.0"),
        [
            "Device: NVIDIA Jetson AGX Thor Developer Kit",
            "Module: AGX Thor",
            "JetPack: 7.0 (Jetson Linux 38.2.1)",
            "Driver: 580.00",
            "GPU: Thor, compute capability 11.0, 20 multiprocessors",
            "Memory: 131.1 GB, 122.9 GB free",
        ],
        id="Thor",
    ),
    pytest.param(
        PC,
        no_gpu,
        ["Device: OptiPlex 7090", "GPU: none", "Memory: 16.4 GB, 12.3 GB free"],
        id="PC without a GPU",
    ),
    pytest.param(
        PC_WITH_GPU,
        no_gpu,
        [
            "Device: OptiPlex 7090",
            "Driver: 550.54.15",
            "GPU: NVIDIA RTX A2000",
            "GPU cannot be used: pycuda cannot be imported: No module named 'pycuda'.",
            "Memory: 16.4 GB, 12.3 GB free",
        ],
        id="PC with NVIDIA's driver",
    ),
    pytest.param(
        {},
        no_gpu,
        ["Device: unknown", "GPU: none", "Memory: 0.0 GB, 0.0 GB free"],
        id="nothing can be read",
    ),
]


@pytest.mark.parametrize(("files", "find_gpu", "lines"), DEVICES)
def test_a_device_describes_itself(tmp_path, files, find_gpu, lines):
    plant(tmp_path, files)
    assert read_device(tmp_path, {}, find_gpu).describe() == lines


def test_a_serial_number_is_nobody_s_business(tmp_path):
    plant(tmp_path, ORIN_NANO)
    assert "1421023000000" not in repr(read_device(tmp_path, {}, no_gpu))


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("32.7.6", "4.6"),
        ("35.1.0", "5.0.2"),
        ("35.6.4", "5.1"),
        ("36.3.0", "6.0"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("36.4.7", "6.2.1"),
        ("36.5.0", "6.2.2"),
        ("38.2.1", "7.0"),
        ("38.4.0", "7.1"),
        ("39.2.0", "7.2"),
        ("40.1.0", None),
    ],
)
def test_jetpack_follows_from_jetson_linux_also_in_a_container(tmp_path, l4t, jetpack):
    device = read_device(tmp_path, {"L4T_VERSION": l4t}, no_gpu)
    assert (device.l4t, device.jetpack) == (l4t, jetpack)


def test_this_machine_can_be_read():
    device = read_device()
    assert device.memory_total > device.memory_available > 0
