"""How many CPUs may be used, inside and outside of containers, and how much memory is."""

from __future__ import annotations

import os

import numpy as np
import pytest

from engines.device import private_bytes, usable_cpus

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
