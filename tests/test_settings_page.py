"""docs/settings.md lists the settings and variables that exist: no more, no less."""

from __future__ import annotations

import re
import sys

import pytest

from edge_server.settings import VARIABLES, Settings, load_settings
from tests.support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([a-z_]+)` \| (.+?) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)


def test_every_setting_is_listed_with_its_default():
    defaults = vars(Settings(data_dir=ROOT))
    assert [name for name, *_ in ROWS] == list(defaults), "in the order of the code"
    for name, default, _ in ROWS[1:]:
        value = tomllib.loads(f"it = {default.strip('`')}")["it"]
        assert (tuple(value) if isinstance(value, list) else value) == defaults[name]


def test_every_variable_is_listed_with_its_setting():
    documented = {name: set(re.findall(r"`(\w+)`", variables)) for name, _, variables in ROWS}
    existing = {"data_dir": {"EDGE_SERVER_DATA"}}
    for variable, (name, _) in VARIABLES.items():
        existing.setdefault(name, set()).add(variable)
    assert documented == existing


def test_every_variable_about_urls_is_compared_with_the_reference():
    section = PAGE.partition("### Where the defaults differ")[2]
    compared = re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE)
    about_urls = {
        variable
        for variable, (name, _) in VARIABLES.items()
        if name.startswith("url_") and not variable.startswith("EDGE_SERVER_")
    }
    assert set(compared) == about_urls | {"VALIDATE_IMAGE_URL_REDIRECTS"}
    assert len(compared) == len(set(compared))


def test_the_example_is_accepted(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "config.toml").write_text(example)
    assert load_settings(data_dir=tmp_path, config=tmp_path / "config.toml").url_input == "private"


@pytest.mark.parametrize("name", ["EDGE_SERVER_URL_INPUT", "EDGE_SERVER_URL_ONLY"])
def test_the_example_of_variables_is_accepted(name, monkeypatch, tmp_path):
    (text,) = re.findall(rf"\b{name}=(\S+)", PAGE)
    monkeypatch.setenv(name, text)
    setting = name.removeprefix("EDGE_SERVER_").lower()
    assert getattr(load_settings(data_dir=tmp_path), setting) != getattr(
        Settings(data_dir=tmp_path), setting
    )
