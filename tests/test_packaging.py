"""What users install: the wheels that come along, our own wheel, the unit, the container files."""

from __future__ import annotations

import configparser
import email.parser
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT, copy_checkout

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MIB = 2**20
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
DOCKERFILES = [ROOT / "Dockerfile.x86", ROOT / "Dockerfile.jetson"]
UNIT = ROOT / "systemd" / "edge-server.service"

# The glibc of JetPack 6 (Ubuntu 22.04) is 2.35, that of JetPack 7 (Ubuntu 24.04) 2.39.
JETPACKS = [
    pytest.param("3.10", 35, id="JetPack 6, Python 3.10"),
    pytest.param("3.12", 39, id="JetPack 7, Python 3.12"),
]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip; skip the test when it cannot reach a package index."""
    try:
        done = subprocess.run([*PIP, *arguments], capture_output=True, text=True, timeout=500)
    except subprocess.TimeoutExpired:
        pytest.skip("no package index answers here")
    offline = re.search("(?i)name resolution|connection|timed out|unreachable", done.stderr)
    if done.returncode and offline and "ResolutionImpossible" not in done.stderr:
        pytest.skip("no package index can be reached from here")
    return done


def requirements_on(project: dict, **environment: str) -> list[str]:
    """The base dependencies that hold in ``environment``, without their conditions."""
    kept = []
    for text in project["project"]["dependencies"]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


@pytest.mark.parametrize(("python", "glibc"), JETPACKS)
def test_every_dependency_has_a_wheel_for_jetson(
    project: dict, tmp_path: Path, python: str, glibc: int
):
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, glibc + 1)]
    wanted = requirements_on(
        project,
        python_version=python,
        python_full_version=f"{python}.0",
        platform_machine="aarch64",
    )
    report = tmp_path / "report.json"
    done = pip(
        *("install", "--dry-run", "--ignore-installed", "--only-binary=:all:"),
        *("--target", str(tmp_path / "nowhere"), "--report", str(report)),
        *("--python-version", python, "--implementation", "cp"),
        *(word for name in ["manylinux2014_aarch64", *platforms] for word in ("--platform", name)),
        *wanted,
    )
    assert done.returncode == 0, done.stderr
    chosen = json.loads(report.read_text())["install"]
    files = [item["download_info"]["url"].rpartition("/")[2] for item in chosen]
    assert len(files) >= len(wanted)
    assert all(name.endswith(".whl") for name in files)
    names = {canonicalize_name(item["metadata"]["name"]) for item in chosen}
    assert names >= {canonicalize_name(Requirement(text).name) for text in wanted}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the budget is for x86-64")
def test_an_installation_downloads_at_most_120_mb(project: dict, tmp_path: Path):
    wanted = requirements_on(project) + project["build-system"]["requires"]
    done = pip("download", "--only-binary=:all:", "--dest", str(tmp_path), *wanted)
    assert done.returncode == 0, done.stderr
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert len(sizes) >= len(wanted)
    assert sum(sizes.values()) <= 120 * 1000 * 1000, sizes


def test_every_dependency_is_bounded_on_both_sides(project: dict):
    extras = project["project"]["optional-dependencies"]
    every = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    every += [text for group in extras.values() for text in group]
    for text in every:
        operators = {clause.operator for clause in Requirement(text).specifier}
        assert operators == {">=", "<"}, text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Our wheel, built from a copy so that nothing is left in the checkout."""
    sources = copy_checkout(tmp_path_factory.mktemp("sources"))
    built = tmp_path_factory.mktemp("wheel")
    command = [*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(built), str(sources)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("edge_server-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_packages_and_the_bundled_models(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    folders = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert folders <= {"edge_server", "engines", "build_engines"}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("edge_server", "engines")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names
    assert "edge_server/bundled/demo-parts/1/examples/inspection-1.jpg" in names
    weights = [name for name in names if name.endswith(".onnx")]
    assert weights
    assert sum(wheel.getinfo(name).file_size for name in weights) <= 6 * MIB


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile, project: dict):
    names = wheel.namelist()
    (metadata_name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    metadata = email.parser.Parser().parsestr(wheel.read(metadata_name).decode())
    assert metadata["Name"] == "edge-server"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert any(name.endswith("/LICENSE") for name in names)
    (scripts_name,) = [name for name in names if name.endswith("/entry_points.txt")]
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(scripts_name).decode())
    assert dict(scripts["console_scripts"]) == project["project"]["scripts"]
    version = subprocess.run(
        [sys.executable, "-m", "edge_server", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.strip() == f"Edge Server {metadata['Version']}"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(INSTRUCTION, the rest) for each line of a container file, continuations joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    parts = [line.partition(" ") for line in lines if line.strip()]
    return [(name.upper(), rest) for name, _, rest in parts]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_container_copies_every_package(dockerfile: Path):
    copied = {word for name, rest in instructions(dockerfile) if name == "COPY"
              for word in shlex.split(rest)}  # fmt: skip
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "tools"}
    assert {"edge_server", "engines"} < packages <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_container_copies_only_what_exists(dockerfile: Path):
    copied = [shlex.split(rest) for name, rest in instructions(dockerfile) if name == "COPY"]
    assert copied
    stages = {rest.split()[-1] for name, rest in instructions(dockerfile) if name == "FROM"}
    for words in copied:
        flags = [word for word in words if word.startswith("--")]
        stage = [flag.partition("=")[2] for flag in flags if flag.startswith("--from=")]
        if stage:
            assert stage[0] in stages
            continue
        *sources, _ = [word for word in words if word not in flags]
        for source in sources:
            assert (ROOT / source).exists(), f"{dockerfile.name} copies {source}"
            assert not ignored_by_docker(source), f".dockerignore hides {source}"


def ignored_by_docker(source: str) -> bool:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    ignored = False
    for pattern in patterns:
        if source == pattern.lstrip("!").rstrip("/") or pattern == "*":
            ignored = not pattern.startswith("!")
    return ignored


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_container_uses_every_argument(dockerfile: Path):
    steps = instructions(dockerfile)
    used = " ".join(rest for name, rest in steps if name != "ARG")
    for name, rest in steps:
        if name == "ARG":
            argument = rest.partition("=")[0]
            assert re.search(rf"\$\{{?{argument}\b", used), f"{argument} is not used"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_container_runs_as_a_service_should(dockerfile: Path):
    steps = instructions(dockerfile)
    last = dict(steps)  # of several instructions the last one counts
    assert int(last["USER"]) > 0
    assert last["EXPOSE"] == "9001"
    assert json.loads(last["VOLUME"]) == ["/var/lib/edge-server"]
    assert "/readiness" in last["HEALTHCHECK"]
    command = json.loads(last["ENTRYPOINT"]) + json.loads(last["CMD"])
    assert command[:2] == ["edge-server", "start"]
    assert command[command.index("--host") + 1] == "0.0.0.0"
    program, option, check = json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])
    assert (program, option) == ("python", "-c")
    compile(check, "HEALTHCHECK", "exec")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_container_file_is_accepted_by_the_linter(dockerfile: Path):
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed (make test brings it on x86-64)")
    done = subprocess.run([linter, "--no-color", str(dockerfile)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def python_stand_in(folder: Path, version: str, can_make_environments: bool) -> Path:
    """A program that answers the Makefile's questions to Python as some other machine would."""
    program = folder / "python3"
    program.write_text(
        f"""#!/bin/sh
case "$*" in
    --version) echo "Python {version}" ;;
    *ensurepip*) exit {0 if can_make_environments else 1} ;;
    *version_info*) exec {sys.executable} -c "
import sys
sys.version_info = ({version.replace(".", ", ")})
$2" ;;
    *) exit 1 ;;
esac
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("version", "can_make_environments", "said"),
    [
        pytest.param(
            *("3.10.12", False),
            ["Python 3.10.12 cannot make virtual environments", "apt install", "python3.10-venv"],
            id="no venv module",
        ),
        pytest.param(
            *("3.8.10", True),
            ["Python 3.8.10 is too old", "3.10 or newer", "make PYTHON="],
            id="Python of JetPack 5",
        ),
        pytest.param(
            *(None, False),
            ["no-such-python", "install Python 3.10 or newer", "apt install python3"],
            id="no Python",
        ),
    ],
)
def test_make_says_what_is_missing(
    tmp_path: Path, version: str | None, can_make_environments: bool, said: list[str]
):
    python = tmp_path / "no-such-python"
    if version is not None:
        python = python_stand_in(tmp_path, version, can_make_environments)
    venv = tmp_path / "venv"
    done = subprocess.run(
        ["make", "--no-print-directory", "demo", f"PYTHON={python}", f"VENV={venv}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    sentence, *rest = done.stderr.splitlines()
    assert all(part in sentence for part in said), sentence
    assert len(rest) == 1, "make adds one line, and there is no stack trace"
    assert not venv.exists()


def test_unit_runs_the_installed_command():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]
    program, verb, *options = shlex.split(service["ExecStart"])
    assert Path(program).name == "edge-server"
    assert verb == "start"
    assert options[:2] == ["--data-dir", f"/var/lib/{service['StateDirectory']}"]
    assert service["User"] != "root"
    assert service["Restart"] == "on-failure"
    # These break CUDA or TensorRT on a Jetson; the unit must not grow them.
    assert not {"PrivateDevices", "DeviceAllow", "MemoryDenyWriteExecute"} & set(service)
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_unit_is_accepted_by_systemd(tmp_path: Path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    # verify wants the program to exist: here /bin/true stands for it.
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8"))
    copy = tmp_path / UNIT.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert done.returncode == 0, done.stderr
    assert complaints == []
    done = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=55", str(copy)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
