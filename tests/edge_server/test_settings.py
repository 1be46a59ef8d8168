"""Settings: defaults, the TOML file, the environment, the command line; the data directory."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_server import settings
from edge_server.errors import SettingsError
from edge_server.settings import Settings, load_settings, resolve_data_dir

SECRET = "sesame-4711"  # noqa: S105 - what must not be printed


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, and reads the settings."""

    def load(variables, **sources):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        return load_settings(**sources)

    return load


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
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
        ("colour = 1", r"unknown setting 'colour'; docs/settings\.md"),
        ("url_timeout = 1", r"unknown setting 'url_timeout'; did you mean url_timeout_s\?"),
        ("Port = 1", r"unknown setting 'Port'; did you mean port\?"),
        ("port = '80'", r"config\.toml: the setting port is '80'; it must be like 9001"),
        ("port = 65536", "a number from 0 to 65535"),
        ("port = true", "port is True"),
        ("host = 1", "host is 1"),
        ("preload = 'a/1'", "a list of texts"),
        ("preload = [1]", "a list of texts"),
        ("url_input = 'all'", "one of"),
        ("url_timeout_s = 0", "more than 0"),
        ("url_timeout_s = inf", "3600 at most"),
        ("url_timeout_s = nan", "more than 0"),
        ("url_https_only = 1", "url_https_only is 1"),
        ("url_max_redirects = -1", "0 or more"),
        ("host = ''", "an address or a host name"),
        ("allow_origins = ['example.com']", "a list of origins such as"),
        ("allow_origins = ['https://example.com/']", "a list of origins such as"),
        ("allowed_hosts = ['http://example.com']", "a list of host names"),
        ("image_formats = ['svg']", "a list out of jpeg, png, webp, bmp, gif, tiff"),
        ("max_images = 0", "1 or more"),
        ("log_level = 'loud'", "one of debug, info"),
        ("key_for = 'none'", "one of changes, all"),
        ("key_for = 'all'", "there is no key"),
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


# --- the environment ---


def test_the_environment_stands_between_the_file_and_the_command_line(config, environment):
    path = config("port = 1\nserver_threads = 2\nmax_images = 3\n")
    variables = {"EDGE_SERVER_PORT": "11", "EDGE_SERVER_SERVER_THREADS": "12"}
    loaded = environment(variables, config=path, overrides={"port": 21})
    assert (loaded.port, loaded.server_threads, loaded.max_images) == (21, 12, 3)


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        pytest.param("EDGE_SERVER_HOST", "camera-box", "host", "camera-box", id="text"),
        pytest.param("EDGE_SERVER_PORT", " 80 ", "port", 80, id="number with blanks"),
        pytest.param("EDGE_SERVER_URL_TIMEOUT_S", "2.5", "url_timeout_s", 2.5, id="fraction"),
        pytest.param("EDGE_SERVER_URL_HTTPS_ONLY", "True", "url_https_only", True, id="boolean"),
        pytest.param("EDGE_SERVER_PRELOAD", "a/1, b/2,", "preload", ("a/1", "b/2"), id="list"),
        pytest.param("EDGE_SERVER_ALLOW_ORIGINS", "", "allow_origins", (), id="empty list"),
        pytest.param("EDGE_SERVER_PORT", "", "port", 9001, id="empty, so not set"),
        pytest.param("EDGE_SERVER_KEY", SECRET, "key", SECRET, id="key"),
        pytest.param("EDGE_SERVER_PORT", "tcp://10.0.0.7:9001", "port", 9001, id="Kubernetes"),
        pytest.param("HOST", "0.0.0.0", "host", "0.0.0.0", id="address to listen on"),
        pytest.param("HOST", "::1", "host", "::1", id="address of IPv6"),
        pytest.param("HOST", "localhost", "host", "localhost", id="localhost"),
        pytest.param("PORT", "80", "port", 80, id="reference's port"),
        pytest.param("HTTP_API_THREADPOOL_WORKERS", "3", "server_threads", 3, id="threads"),
        pytest.param("LOG_LEVEL", "WARNING", "log_level", "warning", id="log level in capitals"),
        pytest.param("PRELOAD_MODELS", "a/1,b/2", "preload", ("a/1", "b/2"), id="models"),
        pytest.param("ALLOW_ORIGINS", "", "allow_origins", (), id="no origin"),
        pytest.param("ALLOW_NON_HTTPS_URL_INPUT", "False", "url_https_only", True, id="https"),
        pytest.param("ALLOW_URL_INPUT_WITHOUT_FQDN", "false", "url_fqdn_only", True, id="FQDN"),
        pytest.param(
            "WHITELISTED_DESTINATIONS_FOR_URL_INPUT",
            "a.b,c.d",
            "url_only",
            ("a.b", "c.d"),
            id="only",
        ),
        pytest.param(
            "BLACKLISTED_DESTINATIONS_FOR_URL_INPUT", "a.b", "url_deny", ("a.b",), id="deny"
        ),
        pytest.param("MAX_IMAGE_URL_REDIRECTS", "30", "url_max_redirects", 30, id="redirects"),
    ],
)
def test_a_variable_changes_what_it_names_and_nothing_else(
    environment, variable, text, setting, value
):
    plain = load_settings()
    changed = environment({variable: text})
    assert getattr(changed, setting) == value
    different = {name for name in vars(plain) if getattr(plain, name) != getattr(changed, name)}
    assert different <= {setting}


@pytest.mark.parametrize(
    ("file", "variables", "url_input"),
    [
        ("any", {"ALLOW_URL_INPUT": "True"}, "any"),
        ("off", {"ALLOW_URL_INPUT": "True"}, "any"),
        ("private", {"ALLOW_URL_INPUT": "True"}, "private"),
        ("private", {"ALLOW_URL_INPUT": "False"}, "off"),
        ("any", {"ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "False"}, "public"),
        ("private", {"ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "False"}, "public"),
        ("off", {"ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "False"}, "off"),
        ("public", {"ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "True"}, "any"),
        ("private", {"ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "True"}, "private"),
        (
            "off",
            {"ALLOW_URL_INPUT": "True", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "False"},
            "public",
        ),
        ("any", {"ALLOW_URL_INPUT": "False", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": "True"}, "off"),
        ("any", {"OFFLINE_MODE": "True"}, "off"),
        ("private", {"OFFLINE_MODE": "False"}, "private"),
        ("any", {"OFFLINE_MODE": "True", "ALLOW_URL_INPUT": "True"}, "off"),
        ("any", {"OFFLINE_MODE": "True", "EDGE_SERVER_URL_INPUT": "private"}, "private"),
    ],
)
def test_three_variables_of_the_reference_decide_about_urls(
    config, environment, file, variables, url_input
):
    loaded = environment(variables, config=config(f"url_input = '{file}'\n"))
    assert loaded.url_input == url_input


def test_a_variable_of_ours_beats_the_one_of_the_reference(environment):
    assert environment({"PORT": "80", "EDGE_SERVER_PORT": "81"}).port == 81


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("EDGE_SERVER_PORT", "x", "is 'x'; it must be a whole number"),
        ("EDGE_SERVER_PORT", "70000", "is 70000; it must be a number from 0 to 65535"),
        ("PORT", "1.5", "is '1.5'; it must be a whole number"),
        ("EDGE_SERVER_URL_TIMEOUT_S", "soon", "is 'soon'; it must be a number"),
        ("EDGE_SERVER_URL_TIMEOUT_S", "-1", "is -1.0; it must be more than 0"),
        ("EDGE_SERVER_URL_HTTPS_ONLY", "1", "is '1'; it must be true or false"),
        ("EDGE_SERVER_URL_INPUT", "maybe", "is 'maybe'; it must be one of any, private"),
        ("EDGE_SERVER_IMAGE_FORMATS", "svg", "is ('svg',); it must be a list out of jpeg, png"),
        ("ALLOW_URL_INPUT", "yes", "is 'yes'; it must be true or false"),
        ("LOG_LEVEL", "LOUD", "is 'loud'; it must be one of debug, info"),
        ("HTTP_API_THREADPOOL_WORKERS", "0", "is 0; it must be 1 or more"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(environment, variable, text, expected):
    with pytest.raises(SettingsError) as caught:
        environment({variable: text})
    assert f"The environment variable {variable} {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("EDGE_SERVER_PROT", "80", ["EDGE_SERVER_PROT is unknown", "mean EDGE_SERVER_PORT?"]),
        ("EDGE_SERVER_DATA_DIR", "/x", ["unknown", "did you mean EDGE_SERVER_DATA?"]),
        ("EDGE_SERVER_XYZ", SECRET, ["EDGE_SERVER_XYZ is unknown", "docs/settings.md"]),
        ("HOST", "my-laptop", ["HOST is 'my-laptop' and has no effect", "EDGE_SERVER_HOST"]),
        ("VALIDATE_IMAGE_URL_REDIRECTS", "False", ["has no effect", "every redirect is checked"]),
        ("ALLOW_NUMPY_INPUT", "True", ["has no effect", "nothing is unpickled"]),
        ("ALLOW_LOADING_IMAGES_FROM_LOCAL_FILESYSTEM", "true", ["has no effect", "cannot read"]),
    ],
)
def test_what_has_no_effect_is_a_warning(environment, caplog, variable, text, words):
    assert environment({variable: text}) == load_settings()
    warning = caplog.records[0]
    assert warning.levelno == logging.WARNING
    assert all(word in warning.getMessage() for word in words)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("VALIDATE_IMAGE_URL_REDIRECTS", "True"),
        ("ALLOW_NUMPY_INPUT", "False"),
        ("EDGE_SERVER_SERVICE_HOST", "10.0.0.7"),
        ("EDGE_SERVER_PORT_9001_TCP_ADDR", "10.0.0.7"),
        ("EDGE_SERVER_PORT", "tcp://10.0.0.7:9001"),
        ("EDGE_SERVER_DATA", "/srv/somewhere"),
    ],
)
def test_what_asks_for_nothing_else_is_no_warning(environment, caplog, variable, text):
    environment({variable: text})
    assert caplog.records == []


# --- the key ---


def test_the_key_is_never_printed(config, environment, caplog):
    caplog.set_level(logging.DEBUG)
    loaded = environment({"EDGE_SERVER_KEY": SECRET, "EDGE_SERVER_KEY_FOR": "all"})
    assert (loaded.key, loaded.key_for) == (SECRET, "all")
    assert "key is taken from the variable EDGE_SERVER_KEY" in caplog.text
    assert SECRET not in f"{loaded} {caplog.text}"


@pytest.mark.parametrize("wrong", [f"{SECRET} x", f"{SECRET}\u00e9", f"{SECRET}\tx"])
def test_a_key_that_cannot_be_sent_is_refused_unprinted(config, environment, wrong):
    for refused in (
        lambda: Settings(data_dir=Path("/nowhere"), key=wrong),
        lambda: load_settings(config=config(f'key = "{wrong}"'.replace("\t", "\\t"))),
        lambda: environment({"EDGE_SERVER_KEY": wrong}),
    ):
        with pytest.raises(SettingsError, match="ASCII without spaces") as caught:
            refused()
        assert SECRET not in str(caught.value)


def test_a_key_of_another_type_is_refused_unprinted(config):
    with pytest.raises(SettingsError, match="key is not printed here") as caught:
        load_settings(config=config("key = 4711"))
    assert "4711" not in str(caught.value)


# --- the data directory ---


def test_the_data_directory_is_the_one_asked_for_before_all_others(tmp_path, monkeypatch, config):
    monkeypatch.setenv("EDGE_SERVER_DATA", str(tmp_path / "environment"))
    assert resolve_data_dir(tmp_path / "chosen") == tmp_path / "chosen"
    assert resolve_data_dir(None) == tmp_path / "environment"
    path = config(f'data_dir = "{tmp_path}/file"\n')
    assert load_settings(config=path).data_dir == tmp_path / "environment"
    assert load_settings(config=path, data_dir=tmp_path / "flag").data_dir == tmp_path / "flag"
    monkeypatch.delenv("EDGE_SERVER_DATA")
    assert load_settings(config=path).data_dir == tmp_path / "file"


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
