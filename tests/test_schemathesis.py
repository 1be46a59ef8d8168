"""Schemathesis tries what ``/openapi.json`` describes, and all of it is answered as described."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, running_server

CLIENTS = ROOT / "tests" / "clients"
INFERENCE = [
    "POST /infer/object_detection",
    "POST /infer/instance_segmentation",
    "POST /infer/keypoints_detection",
    "POST /infer/classification",
    "POST /infer/semantic_segmentation",
    "POST /{project}/{version}",
]


@pytest.fixture(scope="module")
def report(clients_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What ``st run`` reports; it fails the test when an answer was not as described.

    What is tried and what is not is written in ``openapi.toml`` and ``openapi_hooks.py``. The
    server is its own: models are unloaded and deleted, and nothing is fetched from anywhere.
    """
    folder = tmp_path_factory.mktemp("schemathesis")
    with running_server(folder / "data", config='url_input = "off"\n') as url:
        command = [str(clients_python.parent / "st"), "--no-color"]
        command += ["--config-file", str(CLIENTS / "openapi.toml"), "run", f"{url}/openapi.json"]
        command += ["--report-json-path", "report.json"]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OPENAPI_HOOKS": str(CLIENTS / "openapi_hooks.py")},
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text())


def test_every_answer_is_as_described(report: dict):
    operations = report["operations"]
    assert operations["tested"] == operations["total"] > 10
    assert operations["skip_reasons"] == []
    for phase in ("examples", "coverage", "fuzzing"):
        assert report["phases"][phase]["status"] == "success"


@pytest.mark.parametrize("operation", INFERENCE)
def test_inference_was_tried_with_pictures(report: dict, operation: str):
    phases = report["valid_rates"][operation].values()
    assert sum(phase["accepted"] for phase in phases) > 0, phases
