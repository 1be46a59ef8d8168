"""Settings: defaults, the TOML file, the command line; and where the data directory is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_server import settings
from edge_server.errors import SettingsError
from edge_server.settings import load_settings, resolve_data_dir


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGE_SERVER_DATA", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_defaults_listen_on_loopback_only():
    loaded = load_settings()
    assert (loaded.host, loaded.port) == ("127.0.0.1", 9001)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(config):
    path = config('host = "0.0.0.0"\nport = 8000\npreload = ["a/1"]\nurl_timeout_s = 3\n')
    loaded = load_settings(config=path, overrides={"port": 7000, "host": None})
    assert (loaded.host, loaded.port, loaded.preload) == ("0.0.0.0", 7000, ("a/1",))
    assert loaded.url_timeout_s == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown setting 'colour'; known are"),
        ("port = '80'", "port is '80'"),
        ("port = 65536", "a number from 0 to 65535"),
        ("port = true", "port is True"),
        ("host = 1", "host is 1"),
        ("preload = 'a/1'", "a list of texts"),
        ("preload = [1]", "a list of texts"),
        ("url_input = 'all'", "one of"),
        ("url_timeout_s = 0", "more than 0"),
        ("server_threads = 0", "1 or more"),
        ("engine_threads = -1", "0 or more"),
        ("port = ", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_is_wrong(config, text, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(config=config(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing\.toml cannot be read"):
        load_settings(config=tmp_path / "nothing.toml")


def test_a_value_from_the_command_line_is_checked_too():
    with pytest.raises(SettingsError, match="port"):
        load_settings(overrides={"port": -1})


def test_the_data_directory_is_the_one_asked_for_before_all_others(tmp_path, monkeypatch, config):
    monkeypatch.setenv("EDGE_SERVER_DATA", str(tmp_path / "environment"))
    assert resolve_data_dir(tmp_path / "chosen") == tmp_path / "chosen"
    assert resolve_data_dir(None) == tmp_path / "environment"
    path = config(f'data_dir = "{tmp_path}/file"\n')
    assert load_settings(config=path).data_dir == tmp_path / "file"
    assert load_settings(config=path, data_dir=tmp_path / "flag").data_dir == tmp_path / "flag"


def test_the_system_folder_is_taken_only_when_it_may_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "SYSTEM_DATA_DIR", tmp_path / "system")
    assert resolve_data_dir(None) == tmp_path / "system"
    monkeypatch.setattr(settings, "writable_folder", lambda path: False)
    assert resolve_data_dir(None) == tmp_path / "home" / ".local" / "share" / "edge-server"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert resolve_data_dir(None) == tmp_path / "xdg" / "edge-server"


def test_a_relative_data_directory_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve_data_dir(Path("data")) == tmp_path / "data"


def test_a_file_is_no_data_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="is a file"):
        resolve_data_dir(tmp_path / "file")
