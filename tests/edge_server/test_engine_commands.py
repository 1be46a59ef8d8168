"""``edge-server engines``: every verb as a user types it, on the doubles."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import pytest

from tests.doubles.install import child_environment
from tests.support import ROOT
from tests.upgrades import MODEL, install, picture


@pytest.fixture
def engines(tmp_path):
    """Run a verb; its status and what it printed."""
    data = install(tmp_path / "data")

    def run(verb, *more, faults=None, environment=None):
        done = subprocess.run(
            [sys.executable, "-m", "edge_server", "engines", verb, *more, "--data-dir", str(data)],
            cwd=ROOT,
            env=environment or child_environment("10.3.0", faults=faults),
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_an_engine_is_built_listed_verified_and_pruned(engines):
    assert engines("list") == (0, "")
    status, told = engines("build", MODEL)
    assert status == 0, told
    assert "comparing tensorrt-fp16 with the weights" in told
    assert f"{MODEL} has the engine tensorrt-fp16." in told
    listed = engines("list")[1]
    assert f"{MODEL}  orin-8.7-8sm  tensorrt-fp16  TensorRT 10.3.0" in listed
    assert "proved under CUDA 12.6" in listed
    assert (
        engines("verify")[1] == f"{MODEL}  tensorrt-fp16  agrees with its weights on 6 pictures\n"
    )
    assert "1 engines deleted." in engines("prune", "--max-mib", "0")[1]
    assert engines("list") == (0, "")


def test_int8_is_built_when_there_are_pictures(engines, tmp_path):
    status, told = engines("build", MODEL, "--precision", "int8")
    assert status == 1
    assert "the settings allow no precision" in told
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    assert (
        f"{pictures} has no pictures" in engines("build", MODEL, "--calibration", str(pictures))[1]
    )
    cv2.imwrite(str(pictures / "colours.png"), picture())
    status, told = engines("build", MODEL, "--calibration", str(pictures))
    assert (status, "has the engine tensorrt-int8" in told) == (0, True), told


def test_a_failed_build_says_why_and_may_be_tried_again_at_once(engines):
    status, told = engines("build", MODEL, faults={"build": ["crash"]})
    assert status == 1
    assert (
        f"{MODEL} has no new engine: tensorrt-fp32 crashed: The build crashed with SIGSEGV" in told
    )
    assert f"{MODEL}  none, crashed: The build crashed with SIGSEGV" in engines("list")[1]
    assert engines("build", MODEL)[0] == 0


def test_an_engine_that_does_not_answer_fails_the_comparison(engines):
    assert engines("build", MODEL)[0] == 0
    status, told = engines("verify", faults={"execute": ["", "false"]})
    assert status == 1
    assert f"{MODEL}  tensorrt-fp16  cannot be compared now: " in told


def test_without_a_gpu_the_command_says_so(engines):
    status, told = engines("build", MODEL, environment={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (status, "TensorRT cannot be used: " in told) == (1, True)
