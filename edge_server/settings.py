"""Every setting of the appliance, its default and the reason for it. Read once, then frozen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from edge_server.errors import SettingsError
from engines.files import writable_folder

UrlInput = Literal["any", "private", "off"]

SYSTEM_DATA_DIR = Path("/var/lib/edge-server")


@dataclass(frozen=True)
class Settings:
    """The whole configuration. Only the composition root (``cli``, ``api.server``) sees it whole.

    Attributes:
        data_dir: the one folder that holds everything that survives a restart.
        host: address to listen on; loopback, because there is no authentication yet.
        port: 9001 is where clients of this API look first; 0 takes a free port.
        unix_socket: path of a socket for programs on this machine, served beside the port.
        preload: ids of models to load before the server reports itself ready.
        server_threads: requests worked on at once, status routes included.
        engine_threads: threads of one CPU inference; 0 means every CPU this process may use.
        max_body_mib: largest request body. 32 MiB holds a 20-megapixel PNG in base64.
        max_image_megapixels: largest picture decoded; 64 covers industrial cameras and
            bounds a decompression bomb to 192 MiB of pixels.
        url_input: whether pictures may be fetched by URL: from ``any`` address that is not
            this machine, from ``private`` networks only, or not at all (``off``).
        url_allow: hosts, addresses or networks fetched from although their addresses would
            be refused; nothing is when ``url_input`` is ``off``.
        url_timeout_s: seconds for one picture URL, redirects included.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9001
    unix_socket: str = ""
    preload: tuple[str, ...] = ()
    server_threads: int = 8
    engine_threads: int = 0
    max_body_mib: int = 32
    max_image_megapixels: int = 64
    url_input: UrlInput = "any"
    url_allow: tuple[str, ...] = ()
    url_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "port", self.port, "a number from 0 to 65535")
        for name in ("server_threads", "max_body_mib", "max_image_megapixels"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _require(self.engine_threads >= 0, "engine_threads", self.engine_threads, "0 or more")
        _require(self.url_timeout_s > 0, "url_timeout_s", self.url_timeout_s, "more than 0")
        choices = get_args(UrlInput)
        _require(self.url_input in choices, "url_input", self.url_input, f"one of {choices}")


def load_settings(
    *,
    data_dir: Path | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from defaults, then the TOML file, then ``overrides`` (the command line).

    Args:
        data_dir: what the command line says; see ``resolve_data_dir``.
        config: a TOML file whose keys are the attributes of ``Settings``.
        overrides: values that win over the file; None means not given.

    Raises:
        SettingsError: the file is missing or malformed, or a value is not accepted.
    """
    values = _read_config(config) if config else {}
    configured = values.pop("data_dir", None)
    chosen = data_dir or (Path(configured) if configured else None)
    settings = replace(Settings(data_dir=resolve_data_dir(chosen)), **values)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    return replace(settings, **given)


def resolve_data_dir(chosen: Path | None) -> Path:
    """The data directory: ``chosen``, else ``EDGE_SERVER_DATA``, else the system's or the user's.

    ``/var/lib/edge-server`` is taken when this process may write there (the service), the
    user's data folder otherwise (a laptop). The folder is made when something is stored.

    Raises:
        SettingsError: the path exists and is not a folder.
    """
    from_environment = os.environ.get("EDGE_SERVER_DATA")
    if chosen is None and from_environment:
        chosen = Path(from_environment)
    if chosen is None:
        chosen = SYSTEM_DATA_DIR if writable_folder(SYSTEM_DATA_DIR) else _user_data_dir()
    folder = chosen.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"The data directory {folder} is a file; choose a folder.")
    return folder


def _user_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "edge-server"


def _read_config(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The configuration {path} cannot be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration {path} is not valid TOML: {error}.") from error
    return {name: _checked(path, name, value) for name, value in values.items()}


def _checked(path: Path, name: str, value: Any) -> Any:  # noqa: ANN401 - what TOML may hold
    defaults = {field.name: field.default for field in fields(Settings)} | {"data_dir": ""}
    if name not in defaults:
        known = ", ".join(defaults)
        raise SettingsError(f"{path}: unknown setting {name!r}; known are {known}.")
    default = defaults[name]
    if isinstance(default, tuple):
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
        _require(good, name, value, "a list of texts")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    _require(type(value) is type(default), name, value, f"like {default!r}")
    return value


def _require(good: bool, name: str, value: object, expected: str) -> None:
    if not good:
        raise SettingsError(f"The setting {name} is {value!r}; it must be {expected}.")
