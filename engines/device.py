"""Facts about this machine that engines need to know."""

from __future__ import annotations

import math
import os
from pathlib import Path

_MEMORY = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup")


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
