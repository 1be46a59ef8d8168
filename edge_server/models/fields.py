"""Checked values out of a package's JSON files: every refusal names file, value and expectation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_server.errors import PackageError

_MAX_FILE_BYTES = 4 * 2**20
_MAX_PIXELS = 8192


@dataclass(frozen=True)
class Section:
    """One object of a JSON file.

    Attributes:
        file: name of the file, for messages.
        values: the object.
        path: keys that lead to it, each followed by a dot.
    """

    file: str
    values: Mapping[str, Any]
    path: str = ""

    def section(self, key: str, *, required: bool = True) -> Section:
        """The object under ``key``; an empty one when it is absent and not required."""
        value = self.values.get(key)
        if value is None and not required:
            value = {}
        if not isinstance(value, dict):
            raise self.unexpected(key, "an object")
        return Section(self.file, value, f"{self.path}{key}.")

    def objects(self, key: str) -> list[Section]:
        """The objects in the list under ``key``; none when it is absent."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.unexpected(key, "a list of objects")
        return [
            Section(self.file, item, f"{self.path}{key}[{index}].")
            for index, item in enumerate(value)
        ]

    def numbered(self, key: str) -> tuple[str, ...]:
        """The names under "0", "1", "2" and so on in the object under ``key``, in that order."""
        values = self.section(key).values
        names = tuple(values.get(str(index)) for index in range(len(values)))
        if not all(isinstance(name, str) and name.strip() for name in names):
            raise self.unexpected(key, "names under '0', '1', '2' without a gap")
        return tuple(" ".join(str(name).split()) for name in names)

    def enabled(self, key: str) -> Section | None:
        """The object under ``key`` when it says that it is enabled."""
        value = self.values.get(key)
        on = isinstance(value, dict) and bool(value.get("enabled"))
        return self.section(key) if on else None

    def choice(self, key: str, choices: tuple[str, ...]) -> Any:  # noqa: ANN401 - a Literal
        """The text under ``key``, which must be one of ``choices``."""
        value = self.values.get(key)
        if value not in choices:
            raise self.unexpected(key, f"one of {', '.join(choices)}")
        return value

    def flag(self, key: str) -> bool:
        """The truth value under ``key``; false when it is absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.unexpected(key, "true or false")
        return bool(value)

    def number(self, key: str, *, low: float = -math.inf, high: float = math.inf) -> float | None:
        """The finite number under ``key``; None when it is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not is_finite(value) or not low <= value <= high:
            limits = "" if math.inf in (-low, high) else f" from {low:g} to {high:g}"
            raise self.unexpected(key, f"a number{limits}")
        return float(value)

    def count(self, key: str) -> int | None:
        """The whole number above 0 under ``key``; None when it is absent."""
        value = self.values.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise self.unexpected(key, "a whole number above 0")
        return value

    def size_wh(self) -> tuple[int, int]:
        """The ``width`` and ``height`` of this object, in pixels."""
        for key in ("width", "height"):
            value = self.values.get(key)
            if type(value) is not int or not 1 <= value <= _MAX_PIXELS:
                raise self.unexpected(key, f"pixels from 1 to {_MAX_PIXELS}")
        return self.values["width"], self.values["height"]

    def unexpected(self, key: str, expected: str) -> PackageError:
        """The error about what stands under ``key``."""
        found = repr(self.values.get(key))
        return PackageError(f"{self.file}: {self.path}{key} is {found[:200]}; expected {expected}.")


def is_finite(value: object) -> bool:
    """Whether this is a number, and neither infinite nor NaN, which JSON readers let through."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type] # a number by now


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read JSON from a file of sane size.

    Raises:
        PackageError: the file is missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise PackageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes.")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is not valid JSON: {error}.") from error


def read_section(path: Path) -> Section:
    """Read a file that holds one JSON object.

    Raises:
        PackageError: as ``read_json``, or the file holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise PackageError(f"{path} holds a {type(value).__name__}; expected a JSON object.")
    return Section(path.name, value)
