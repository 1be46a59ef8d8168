"""Every setting of the appliance, its default and the reason for it. Read once, then frozen.

``docs/settings.md`` is the same for operators; a test holds the two together.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args

from edge_server.errors import SettingsError
from engines.files import writable_folder

log = logging.getLogger(__name__)

UrlInput = Literal["any", "private", "public", "off"]
KeyFor = Literal["changes", "all"]
Precision = Literal["auto", "fp32", "fp16", "int8", "off"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
IMAGE_FORMATS = ("jpeg", "png", "webp", "bmp", "gif", "tiff")

SYSTEM_DATA_DIR = Path("/var/lib/edge-server")


@dataclass(frozen=True)
class Settings:
    """The whole configuration. Only the composition root (``cli``, ``api.server``) sees it whole.

    Attributes:
        data_dir: the one folder that holds everything that survives a restart.
        host: address to listen on; loopback, because without ``key`` anyone may connect.
        port: 9001 is where clients of this API look first; 0 takes a free port.
        unix_socket: path of a socket for programs on this machine, served beside the port.
        preload: ids of models to load before the server reports itself ready.
        server_threads: requests worked on at once, status routes included.
        engine_threads: threads of one CPU inference; 0 means every CPU this process may use.
        precision: of TensorRT engines, where there is a GPU: ``auto`` takes the fastest that
            answers like the weights, ``off`` stays on the CPU.
        engine_cache_mib: for all TensorRT engines on disk together; one takes 10 to 200.
        log_level: the least important message that ``edge-server start`` logs.
        key: what callers must send; empty: none. Never printed.
        key_for: which requests need ``key``: those that change what is installed, or all.
        allow_origins: web pages that may call this server from a browser; ``*`` is every page.
        allowed_hosts: names by which this server may be called, beside its own.
        max_body_mib: largest request body. 32 MiB holds a 20-megapixel PNG in base64.
        max_images: most pictures of one request.
        max_image_megapixels: largest picture decoded; 64 covers industrial cameras and
            bounds a decompression bomb to 192 MiB of pixels.
        image_formats: file formats decoded. GIF and TIFF are off: cameras send neither, and
            every decoder less is one fewer to attack.
        url_input: which addresses pictures may be fetched from: ``any`` that is not special,
            ``private`` or ``public`` ones only, or none (``off``).
        url_allow: hosts, addresses or networks fetched from although their addresses would
            be refused; nothing is when ``url_input`` is ``off``.
        url_only: when not empty, nothing is fetched from other hosts or networks.
        url_deny: hosts or networks never fetched from, whatever else allows them.
        url_https_only: refuse http; off, because cameras have nothing else.
        url_fqdn_only: refuse addresses and names that are not fully qualified; off, because
            cameras rarely have a name.
        url_max_redirects: redirects followed for one picture.
        url_timeout_s: seconds for one picture URL, name look-up and redirects included.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9001
    unix_socket: str = ""
    preload: tuple[str, ...] = ()
    server_threads: int = 8
    engine_threads: int = 0
    precision: Precision = "auto"
    engine_cache_mib: int = 4096
    log_level: LogLevel = "info"
    key: str = field(default="", repr=False)
    key_for: KeyFor = "changes"
    allow_origins: tuple[str, ...] = ("*",)
    allowed_hosts: tuple[str, ...] = ()
    max_body_mib: int = 32
    max_images: int = 64
    max_image_megapixels: int = 64
    image_formats: tuple[str, ...] = ("jpeg", "png", "webp", "bmp")
    url_input: UrlInput = "any"
    url_allow: tuple[str, ...] = ()
    url_only: tuple[str, ...] = ()
    url_deny: tuple[str, ...] = ()
    url_https_only: bool = False
    url_fqdn_only: bool = False
    url_max_redirects: int = 5
    url_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for name in _EXPECTED:
            _require(name, getattr(self, name), f"The setting {name}")
        if self.key_for == "all" and not self.key:
            raise SettingsError(
                "The setting key_for is 'all', but there is no key: set the variable "
                "EDGE_SERVER_KEY, or set key_for to 'changes'."
            )


def load_settings(
    *,
    data_dir: Path | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from defaults, then the TOML file, the environment, ``overrides`` (command line).

    Args:
        data_dir: what the command line says; see ``resolve_data_dir``.
        config: a TOML file whose keys are the attributes of ``Settings``.
        overrides: values that win over file and environment; None means not given.

    Raises:
        SettingsError: the file is missing or malformed, or a value is not accepted.
    """
    values = _read_config(config) if config else {}
    configured = values.pop("data_dir", None)
    folder = resolve_data_dir(data_dir, Path(configured) if configured else None)
    values |= _from_environment(os.environ, values)
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    return Settings(data_dir=folder, **values)


def resolve_data_dir(chosen: Path | None, configured: Path | None = None) -> Path:
    """The data directory: ``chosen``, else ``EDGE_SERVER_DATA``, ``configured``, the system's.

    ``/var/lib/edge-server`` is taken when this process may write there (the service), the
    user's data folder otherwise (a laptop). The folder is made when something is stored.

    Args:
        chosen: what the command line says.
        configured: what the configuration file says.

    Raises:
        SettingsError: the path exists and is not a folder.
    """
    variable = os.environ.get("EDGE_SERVER_DATA")
    folder = chosen or (Path(variable) if variable else configured)
    if folder is None:
        folder = SYSTEM_DATA_DIR if writable_folder(SYSTEM_DATA_DIR) else _user_data_dir()
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"The data directory {folder} is a file; choose a folder.")
    return folder


def _user_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "edge-server"


# --- What each setting may be. Its type is that of its default. ---

_Check = tuple[Callable[[Any], bool], str]


def _at_least(lowest: int) -> _Check:
    return lambda value: value >= lowest, f"{lowest} or more"


def _one_of(choices: tuple[str, ...]) -> _Check:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


def _each(pattern: str, expected: str) -> _Check:
    return lambda values: all(re.fullmatch(pattern, value) for value in values), expected


_EXPECTED: dict[str, _Check] = {
    # An empty host would mean every address of this machine.
    "host": (lambda host: bool(host.strip()), "an address or a host name"),
    "port": (lambda port: 0 <= port <= 65535, "a number from 0 to 65535"),
    "server_threads": _at_least(1),
    "engine_threads": _at_least(0),
    "precision": _one_of(get_args(Precision)),
    "engine_cache_mib": _at_least(1),
    "log_level": _one_of(get_args(LogLevel)),
    "key": (lambda key: re.fullmatch(r"[!-~]*", key) is not None, "ASCII without spaces"),
    "key_for": _one_of(get_args(KeyFor)),
    "allow_origins": _each(
        r"\*|[a-z][a-z0-9+.-]*://[^\s/]+", "a list of origins such as https://example.com, or *"
    ),
    "allowed_hosts": _each(r"[^\s/@]+", "a list of host names"),
    "max_body_mib": _at_least(1),
    "max_images": _at_least(1),
    "max_image_megapixels": _at_least(1),
    "image_formats": _each("|".join(IMAGE_FORMATS), f"a list out of {', '.join(IMAGE_FORMATS)}"),
    "url_input": _one_of(get_args(UrlInput)),
    "url_max_redirects": _at_least(0),
    # Infinity would be no time limit that a socket takes.
    "url_timeout_s": (lambda seconds: 0 < seconds <= 3600, "more than 0, and 3600 at most"),
}
_DEFAULTS = {field.name: field.default for field in fields(Settings) if field.name != "data_dir"}


def _require(name: str, value: object, source: str) -> None:
    """Refuse a value of the right type that the setting cannot have."""
    if name in _EXPECTED:
        good, expected = _EXPECTED[name]
        if not good(value):
            raise _refusal(source, name, value, expected)


def _refusal(source: str, name: str, value: object, expected: str) -> SettingsError:
    shown = "not printed here" if name == "key" else repr(value)
    return SettingsError(f"{source} is {shown}; it must be {expected}.")


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {prefix}{near[0]}?" if near else "docs/settings.md lists all that exist."


# --- The TOML file ---


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
    defaults = {"data_dir": "", **_DEFAULTS}
    if name not in defaults:
        raise SettingsError(f"{path}: unknown setting {name!r}; {_nearest(name, defaults)}")
    source, default = f"{path}: the setting {name}", defaults[name]
    if isinstance(default, tuple):
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise _refusal(source, name, value, "a list of texts")
        value = tuple(value)
    elif isinstance(default, float) and type(value) is int:
        value = float(value)
    elif type(value) is not type(default):
        raise _refusal(source, name, value, f"like {default!r}")
    _require(name, value, source)
    return value


# --- The environment. A reader is given a variable's text and the value that holds without it;
# the text of its ValueError says what it expected. ---

_Reader = Callable[[str, Any], Any]


def _boolean(text: str, _: object = None) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _integer(text: str, _: object) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError("a whole number")
    return int(text)


def _number(text: str, _: object) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _texts(text: str, _: object) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _listen_address(text: str, so_far: str) -> str:
    """Some shells put the machine's name into HOST; that must not open it to the network."""
    try:
        return text if text == "localhost" else str(ip_address(text))
    except ValueError:
        hint = "it is no address; to listen there all the same, set EDGE_SERVER_HOST"
        log.warning("the variable HOST is %r and has no effect: %s", text, hint)
        return so_far


def _url_input_allowed(text: str, so_far: str) -> str:
    if not _boolean(text):
        return "off"
    return "any" if so_far == "off" else so_far


def _url_input_not_global(text: str, so_far: str) -> str:
    if _boolean(text):
        return "any" if so_far == "public" else so_far
    return "off" if so_far == "off" else "public"


def _url_input_offline(text: str, so_far: str) -> str:
    return "off" if _boolean(text) else so_far


# The variables of Roboflow Inference. Of those that change the same setting the last one wins.
_REFERENCE: dict[str, tuple[str, _Reader]] = {
    "HOST": ("host", _listen_address),
    "PORT": ("port", _integer),
    "HTTP_API_THREADPOOL_WORKERS": ("server_threads", _integer),
    "LOG_LEVEL": ("log_level", lambda text, _: text.lower()),
    "PRELOAD_MODELS": ("preload", _texts),
    "ALLOW_ORIGINS": ("allow_origins", _texts),
    "ALLOW_URL_INPUT": ("url_input", _url_input_allowed),
    "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES": ("url_input", _url_input_not_global),
    "OFFLINE_MODE": ("url_input", _url_input_offline),
    "ALLOW_NON_HTTPS_URL_INPUT": ("url_https_only", lambda text, _: not _boolean(text)),
    "ALLOW_URL_INPUT_WITHOUT_FQDN": ("url_fqdn_only", lambda text, _: not _boolean(text)),
    "WHITELISTED_DESTINATIONS_FOR_URL_INPUT": ("url_only", _texts),
    "BLACKLISTED_DESTINATIONS_FOR_URL_INPUT": ("url_deny", _texts),
    "MAX_IMAGE_URL_REDIRECTS": ("url_max_redirects", _integer),
}
# What asks for something unsafe, and what happens instead.
_REFUSED = {
    ("VALIDATE_IMAGE_URL_REDIRECTS", "false"): "every redirect is checked like the URL itself",
    ("ALLOW_NUMPY_INPUT", "true"): "nothing is unpickled; send arrays as .npy, PNG or JPEG",
    ("ALLOW_LOADING_IMAGES_FROM_LOCAL_FILESYSTEM", "true"): (
        "callers cannot read files of this machine; send the file itself"
    ),
}
_PREFIX = "EDGE_SERVER_"
_READERS: dict[type, _Reader] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: lambda text, _: text,
    tuple: _texts,
}
# Every variable, what it sets and how it is read; each stands after those that it overrides.
VARIABLES = _REFERENCE | {
    _PREFIX + name.upper(): (name, _READERS[type(default)]) for name, default in _DEFAULTS.items()
}
# Kubernetes and Docker set these for a service that is called edge-server.
_SERVICE_LINK = re.compile(r"EDGE_SERVER_(SERVICE_|PORT_[0-9]|PORT=[a-z]+://)")


def _from_environment(environ: Mapping[str, str], configured: Mapping[str, Any]) -> dict[str, Any]:
    """What the environment changes of defaults and of what is ``configured``."""
    given = {
        variable: text.strip()
        for variable, text in environ.items()
        if not _SERVICE_LINK.match(f"{variable}={text}")
    }
    _warn(given)
    values: dict[str, Any] = {}
    for variable, (name, read) in VARIABLES.items():
        text = given.get(variable)
        # Empty means not set, but for a list, where it means an empty one.
        if text or (text == "" and read is _texts):
            source = f"The environment variable {variable}"
            so_far = {**_DEFAULTS, **configured, **values}[name]
            try:
                value = read(text, so_far)
            except ValueError as error:
                raise _refusal(source, name, text, str(error)) from None
            _require(name, value, source)
            values[name] = value
            if value != so_far:
                log.info("%s is taken from the variable %s", name, variable)
    return values


def _warn(given: Mapping[str, str]) -> None:
    """Say what has no effect. Values stay unsaid: a misspelt name may hold a secret."""
    for (variable, text), instead in _REFUSED.items():
        if given.get(variable, "").lower() == text:
            log.warning("%s=%s has no effect: %s", variable, text, instead)
    known = {"DATA", *map(str.upper, _DEFAULTS)}
    for variable in given:
        name = variable.removeprefix(_PREFIX)
        if name != variable and name not in known:
            log.warning("the variable %s is unknown; %s", variable, _nearest(name, known, _PREFIX))
