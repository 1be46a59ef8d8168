"""README.md is run: its commands and programs as they stand there, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT, background, copy_checkout, free_port, wait_until_ready

README_PORT = "9001"
JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Block:
    """One fenced block: what it is written in, its text, the line it starts on."""

    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.text.splitlines()[0][:40]}"


def blocks() -> list[Block]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\S*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [Block(found[1], found[2], readme.count("\n", 0, found.start()) + 1) for found in fences]


# These two have checks of their own: a test, and the fixture that serves all the others.
DEMO, SERVE = "make demo", "make serve"
COMMANDS = [
    block
    for block in blocks()
    if block.language == "bash" and block.text.strip() not in (DEMO, SERVE)
]
PROGRAMS = [block for block in blocks() if block.language == "python"]
SETTINGS = [block for block in blocks() if block.language == "toml"]


@dataclass(frozen=True)
class Reader:
    """Somebody with a checkout who follows the README."""

    folder: Path
    environment: Mapping[str, str]
    port: str

    def adapt(self, text: str) -> str:
        """``text`` for a machine on which the port of the README is taken."""
        return text.replace(README_PORT, self.port)

    def run(self, *command: str, path: str = "") -> str:
        """What ``command`` printed; it must succeed."""
        environment = {**os.environ, **self.environment}
        if path:
            environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader in a copy of the checkout, which shares its virtual environment if that is current.

    If it is not, make would install the copy into it; the reader then makes an own one.
    """
    folder = copy_checkout(tmp_path_factory.mktemp("checkout"))
    stamp, project = ROOT / ".venv" / ".installed", ROOT / "pyproject.toml"
    if stamp.exists() and stamp.stat().st_mtime > project.stat().st_mtime:
        (folder / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
    data = tmp_path_factory.mktemp("data")
    return Reader(folder, {"EDGE_SERVER_DATA": str(data)}, str(free_port(int(README_PORT))))


@pytest.fixture(scope="module")
def served(reader: Reader) -> Iterator[Reader]:
    """The reader while ``make serve`` runs in another terminal of theirs."""
    command = [*SERVE.split(), f"PORT={reader.port}"]
    with background(command, cwd=reader.folder, environment=reader.environment) as process:
        process.wait_for(re.compile(rf"listening on http://127\.0\.0\.1:{reader.port}$"))
        wait_until_ready(f"http://127.0.0.1:{reader.port}")
        yield reader


def test_every_block_is_of_a_kind_that_is_checked():
    assert {block.language for block in blocks()} == {"bash", "python", "toml"}
    texts = [block.text.strip() for block in blocks()]
    assert texts.count(DEMO) == texts.count(SERVE) == 1


def test_make_demo(reader: Reader):
    output = reader.run(*DEMO.split())
    assert re.search(r"(washer|hex-nut|bolt|gear|scratch) +\d+ ?%", output)
    drawn = reader.folder / "demo.jpg"
    assert drawn.read_bytes().startswith(JPEG)
    assert str(drawn) in output
    assert "edge-server models add" in output, "it says what to try next"


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_command(block: Block, served: Reader, clients_python: Path):
    if "curl" in block.text and not shutil.which("curl"):
        pytest.skip("curl is not installed (apt install curl)")
    before = set(served.folder.rglob("*.jpg"))
    output = served.run("bash", "-euc", served.adapt(block.text), path=str(clients_python.parent))
    if "pip install" not in block.text:
        assert output.strip(), "a command that answers nothing needs no place in a README"
    for drawn in re.findall(r"(?:--out|-o) (\S+)", block.text):
        path = served.folder / drawn
        assert path not in before
        assert path.read_bytes().startswith(JPEG)


def test_a_second_server_says_that_the_port_is_taken(served: Reader):
    done = subprocess.run(
        [*SERVE.split(), f"PORT={served.port}"],
        cwd=served.folder,
        env={**os.environ, **served.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert served.port in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program(block: Block, served: Reader, clients_python: Path):
    output = served.run(str(clients_python), "-c", served.adapt(block.text))
    lines = output.splitlines()
    assert len(lines) >= 3
    assert all(re.match(r"[a-z-]+ 0\.\d+ [\d.]+ [\d.]+$", line) for line in lines)


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_settings(block: Block, tmp_path: Path):
    from edge_server.settings import load_settings

    config = tmp_path / "config.toml"
    config.write_text(block.text, encoding="utf-8")
    settings = load_settings(data_dir=tmp_path, config=config)
    assert settings.preload == ("demo-parts/1",)


def test_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_readme_tells_the_defaults():
    from edge_server.settings import Settings

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    settings = Settings(data_dir=ROOT)
    assert f"{settings.host}:{settings.port}" in readme
    assert f"{settings.max_body_mib} MiB" in readme
    assert f"{settings.max_image_megapixels} megapixels" in readme
