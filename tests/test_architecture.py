"""The shape of the code: who imports whom, what is loaded when, how long things may get."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = [name for name in ("edge_server", "engines", "build_engines") if (ROOT / name).is_dir()]
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


def each_source(paths: list[Path] = SOURCES):
    return pytest.mark.parametrize(
        "source", paths, ids=lambda path: path.relative_to(ROOT).as_posix()
    )


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_import_contracts_hold():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_source()
def test_nothing_is_unpickled(source: Path):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    roots = {name.partition(".")[0] for name in imported_names(tree)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


@each_source()
def test_functions_and_files_stay_short(source: Path):
    text = source.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@each_source()
def test_no_module_hides_the_standard_library(source: Path):
    # A file run as a script sees its own folder first: a profile.py there shadows the real one.
    hidden = {"profile", "select", "queue", "types", "http", "json", "logging", "signal", "socket"}
    assert source.stem not in hidden
    assert source.parent.name not in hidden


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that ``statement`` loads in a fresh interpreter."""
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        pytest.param(
            "import edge_server.cli",
            {"numpy", "cv2", "onnxruntime", "falcon", "waitress", "msgspec", "engines"},
            id="the command line starts at once",
        ),
        pytest.param(
            "import edge_server.vision, edge_server.vision.decoders",
            {"onnxruntime", "falcon", "waitress", "msgspec"},
            id="vision is maths on arrays",
        ),
        pytest.param(
            "import edge_server.client, edge_server.report, edge_server.api.responses",
            {"falcon", "waitress"},
            id="the command line answers without HTTP",
        ),
        pytest.param(
            "import edge_server.ops.metrics",
            {"prometheus_client", "http", "ssl", "engines"},
            id="counting needs no format",
        ),
        pytest.param(
            "import engines.base",
            {"onnxruntime", "cv2", "edge_server", "falcon"},
            id="the contract of engines needs NumPy alone",
        ),
        pytest.param(
            "import edge_server.models.store, edge_server.serving.model",
            {"falcon", "waitress", "PIL"},
            id="models are served without HTTP, most without Pillow",
        ),
    ],
)
def test_imports_stay_light(statement: str, forbidden: set[str]):
    assert not loaded_by(statement) & forbidden


def test_help_answers_within_a_fifth_of_a_second():
    command = [sys.executable, "-m", "edge_server", "--help"]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 0.2, seconds  # the best of five: other work on the machine is not ours


def test_tests_cannot_reach_other_machines():
    with pytest.raises(PermissionError, match="tests talk to this machine only, not to 192.0.2.1"):
        socket.create_connection(("192.0.2.1", 9), timeout=1)
