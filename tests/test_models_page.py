"""docs/models.md lists what is served: no more, no less."""

from __future__ import annotations

import re
import subprocess
import sys

from edge_server.models.families import families, tasks
from tests.support import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_the_table_of_families_is_the_one_that_is_served():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ((?:`[a-z0-9]+` ?)+)\|$", PAGE, re.MULTILINE))
    documented = {task: tuple(re.findall(r"`(\S+)`", names)) for task, names in rows.items()}
    assert documented == {task: families(task) for task in tasks()}


def test_every_option_of_models_add_is_explained():
    command = [sys.executable, "-m", "edge_server", "models", "add", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"--[a-z-]+", text)) - {"--help", "--data-dir"}
    assert options == {"--task", "--family", "--classes"}
    assert all(f"| `{option} " in PAGE for option in options)
