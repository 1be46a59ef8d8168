"""``python -m build_engines``: an engine without a server."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from build_engines.cache import EngineCache
from tests.doubles.install import child_environment
from tests.networks import BY_NAME
from tests.support import ROOT


def command(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "build_engines", *map(str, arguments)],
        cwd=ROOT,
        env=environment or child_environment("10.3.0"),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def weights(tmp_path):
    return BY_NAME["yolov8-raw"].save(tmp_path / "parts.onnx")


def engines(folder):
    cache = EngineCache(folder, folder / "device.key")
    return [artifact for _, artifact in cache.entries()]


def test_it_builds_once_and_finds_the_engine_ever_after(weights, tmp_path):
    for _ in range(2):
        done = command(weights, "--out", tmp_path / "engines")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("parts: ")
    (artifact,) = engines(tmp_path / "engines")
    assert artifact.plan.parent.name == "parts"
    assert artifact.key.precision == "fp16"
    assert artifact.key.host.gpu == "Orin"
    assert "building" not in done.stdout


def test_what_the_command_line_says_goes_into_the_key(tmp_path):
    weights = BY_NAME["yolov8-raw"].save(tmp_path / "parts.onnx", dynamic_size=True)
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    options = "--model line/2 --precision int8 --max-batch 2 --size 64x64 --workspace-mib 300 --bgr"
    options += " --scaling 1 --means 1 2 3 --stds 4 5 6"
    done = command(
        weights, "--out", tmp_path / "e", "--calibration", tmp_path / "pictures", *options.split()
    )
    assert done.returncode == 0, done.stderr
    (artifact,) = engines(tmp_path / "e")
    key = artifact.key
    assert artifact.plan.parent == tmp_path / "e" / key.host.folder / "line" / "2"
    assert (key.precision, key.batch, key.size_wh) == ("int8", (1, 1, 2), (64, 64))
    assert "rgb=False, scaling=1.0, normalization=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))" in key.graph
    assert "workspace 300 MiB" in key.flags
    assert len(key.calibration_sha256) == 64


@pytest.mark.parametrize(
    ("saved", "options", "faults", "message"),
    [
        pytest.param({}, [], {"parse": ["Conv"]}, "(parser): TensorRT 10.3.0 has no", id="parser"),
        pytest.param({}, ["--precision", "int8"], {}, "cannot build int8", id="no pictures"),
        pytest.param({"dynamic_size": True}, [], {}, "give --size", id="no size"),
        pytest.param({}, ["--calibration", "none"], {}, "none", id="no such folder"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_line(saved, options, faults, message, tmp_path):
    weights = BY_NAME["yolov8-raw"].save(tmp_path / "parts.onnx", **saved)
    environment = child_environment("10.3.0", faults=faults)
    done = command(weights, "--out", tmp_path / "e", *options, environment=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Nothing was built")
    assert message in done.stderr.splitlines()[-1]


def test_without_tensorrt_it_says_what_is_missing(weights, tmp_path):
    environment = {**child_environment("10.3.0"), "PYTHONPATH": str(ROOT)}
    done = command(weights, "--out", tmp_path / "e", environment=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Nothing was built: No module named 'tensorrt'\n"
