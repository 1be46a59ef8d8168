"""Facts about this machine that engines need to know, found without root."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import cuda
from engines.base import EngineError

_MEMORY = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup")

# By the release of Jetson Linux, because labels of JetPack are not unique; longest match first.
_JETPACKS = {
    "32.6": "4.6",
    "32.7": "4.6",
    "35.1": "5.0.2",
    "35": "5.1",
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4": "6.2.1",
    "36.5": "6.2.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39": "7.2",
}
_CAPABILITIES = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",
}
# By part number: the model names the carrier board, which takes several modules.
_MODULES = {
    "p3701-0000": "AGX Orin developer kit",
    "p3701-0004": "AGX Orin 32 GB",
    "p3701-0005": "AGX Orin 64 GB",
    "p3767-0000": "Orin NX 16 GB",
    "p3767-0001": "Orin NX 8 GB",
    "p3767-0003": "Orin Nano 8 GB",
    "p3767-0004": "Orin Nano 4 GB",
    "p3767-0005": "Orin Nano 8 GB developer kit",
    "p3834-0008": "AGX Thor",
}


@dataclass(frozen=True)
class DeviceInfo:
    """What this machine is. None: it has no such thing, or does not tell.

    Attributes:
        model: of the board or the computer, as its maker calls it.
        module: the Jetson module on the board.
        l4t: release of Jetson Linux, which is the driver's version as well.
        jetpack: the label that release goes by.
        driver: version of NVIDIA's kernel module on a PC or a Thor.
        gpu: name of the GPU.
        compute_capability: of the GPU, such as ``8.7``.
        sm_count: its streaming multiprocessors that the power mode leaves on; CUDA alone knows.
        gpu_problem: why CUDA cannot be asked.
        cuda: version of the CUDA toolkit.
        cudnn: version of the library.
        tensorrt: version of the library.
        dla_cores: deep-learning accelerators that are switched on.
        memory_total: bytes.
        memory_available: bytes that can be had without swapping.
        power_mode: such as ``MAXN_SUPER``.
    """

    model: str | None
    module: str | None
    l4t: str | None
    jetpack: str | None
    driver: str | None
    gpu: str | None
    compute_capability: str | None
    sm_count: int | None
    gpu_problem: str | None
    cuda: str | None
    cudnn: str | None
    tensorrt: str | None
    dla_cores: int
    memory_total: int
    memory_available: int
    power_mode: str | None

    @property
    def has_gpu(self) -> bool:
        """Whether there is one, usable or not."""
        return bool(self.gpu or self.compute_capability)

    def describe(self) -> list[str]:
        """One line for each thing worth telling a person."""
        gpu = [
            self.gpu or "of unknown name",
            self.compute_capability and f"compute capability {self.compute_capability}",
            self.sm_count and f"{self.sm_count} multiprocessors",
        ]
        libraries = {"CUDA": self.cuda, "cuDNN": self.cudnn, "TensorRT": self.tensorrt}
        lines = [
            f"Device: {self.model or 'unknown'}",
            self.module and f"Module: {self.module}",
            self.l4t and f"JetPack: {self.jetpack or 'unknown'} (Jetson Linux {self.l4t})",
            self.driver and f"Driver: {self.driver}",
            f"GPU: {', '.join(str(part) for part in gpu if part)}" if self.has_gpu else "GPU: none",
            self.gpu_problem and f"GPU cannot be used: {self.gpu_problem}",
            *(f"{name}: {version}" for name, version in libraries.items() if version),
            self.dla_cores and f"DLA: {self.dla_cores} cores",
            f"Memory: {self.memory_total / 1e9:.1f} GB, {self.memory_available / 1e9:.1f} GB free",
            self.power_mode and f"Power mode: {self.power_mode}",
        ]
        return [line for line in lines if line]


def read_device(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    find_gpu: Callable[[], cuda.Gpu] = cuda.find_gpu,
) -> DeviceInfo:
    """Gather what files tell, then what CUDA tells. Never raises.

    Args:
        root: where ``proc``, ``sys`` and the rest lie.
        environ: ``L4T_VERSION`` speaks for the host inside a container.
        find_gpu: asks CUDA.
    """
    tree = root / "proc" / "device-tree"
    compatible = _text(tree / "compatible")
    l4t = _l4t(root) or environ.get("L4T_VERSION")
    gpu, problem = None, None
    try:
        gpu = find_gpu()
    except EngineError as error:
        problem = str(error)
    name = gpu.name if gpu else _gpu_name(root)
    soc = re.search(r"tegra\d+", compatible)
    capability = gpu.compute_capability if gpu else _CAPABILITIES.get(soc[0] if soc else "")
    parts = re.findall(r"p\d{4}-\d{4}", compatible)
    meminfo = _text(root / "proc" / "meminfo")
    return DeviceInfo(
        model=_text(tree / "model") or _text(root / "sys/class/dmi/id/product_name") or None,
        module=next((_MODULES[part] for part in parts if part in _MODULES), None),
        l4t=l4t,
        jetpack=_jetpack(l4t),
        driver=_match(
            r"Kernel Module.*?\s(\d+\.[\d.]+)", _text(root / "proc/driver/nvidia/version")
        ),
        gpu=name,
        compute_capability=capability,
        sm_count=gpu.sm_count if gpu else None,
        gpu_problem=problem if name or capability else None,
        cuda=_cuda_version(root),
        cudnn=_library_version(root, "libcudnn.so"),
        tensorrt=_library_version(root, "libnvinfer.so"),
        dla_cores=_dla_cores(tree),
        memory_total=int(_match(r"MemTotal:\s+(\d+)", meminfo) or 0) * 1024,
        memory_available=int(_match(r"MemAvailable:\s+(\d+)", meminfo) or 0) * 1024,
        power_mode=_power_mode(root),
    )


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """Number of CPUs this process may really use: its affinity, cut by the cgroup's CPU quota.

    A container limited to two CPUs on a 32-core host must not start 32 threads.

    Args:
        cgroup: where the cgroup file system is mounted.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_quota(cgroup)
    cpus = affinity or 1
    return max(1, min(cpus, math.ceil(quota)) if quota else cpus)


def private_bytes(memory: Path = _MEMORY) -> int:
    """Memory that this process alone holds, without files mapped into it; 0 when not known.

    Args:
        memory: where the kernel counts the pages of this process; see proc_pid_statm(5).
    """
    try:
        _, resident, shared, *_ = memory.read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_quota(cgroup: Path) -> float | None:
    """CPUs granted by cgroup v2 ``cpu.max``, else v1 ``cpu.cfs_quota_us``; None for no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # "max" in v2, "-1" in v1
    return int(quota) / int(period)


def _text(path: Path) -> str:
    """The content without the NULs of the device tree; empty when it cannot be read."""
    try:
        return path.read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def _match(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _l4t(root: Path) -> str | None:
    release = _text(root / "etc" / "nv_tegra_release")
    found = re.search(r"R(\d+).*REVISION:\s*([\d.]+)", release)
    return f"{found[1]}.{found[2]}" if found else None


def _jetpack(l4t: str | None) -> str | None:
    """The label of the longest known beginning of a release."""
    parts = (l4t or "").split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((_JETPACKS[release] for release in known if release in _JETPACKS), None)


def _gpu_name(root: Path) -> str | None:
    """As NVIDIA's kernel module for PCs tells; the one of Jetsons tells nothing."""
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        return _match(r"Model:\s+(.+)", _text(path))
    return None


def _cuda_version(root: Path) -> str | None:
    try:
        return str(json.loads(_text(root / "usr/local/cuda/version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _library_version(root: Path, name: str) -> str | None:
    """The most precise version among the names of a library: ``libcudnn.so.9.3.0``."""
    versions = [path.name[len(name) + 1 :] for path in (root / "usr/lib").glob(f"*/{name}.*")]
    return max(versions, key=lambda version: (version.count("."), version), default=None)


def _dla_cores(tree: Path) -> int:
    nodes = [*tree.glob("host1x@*/nvdla*@*"), *tree.glob("*/host1x@*/nvdla*@*")]
    return sum(_text(node / "status") != "disabled" for node in nodes)


def _power_mode(root: Path) -> str | None:
    number = _match(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if number is None:
        return None
    named = rf"POWER_MODEL\s+ID={number}\s+NAME=(\S+)"
    return _match(named, _text(root / "etc/nvpmodel.conf")) or number
