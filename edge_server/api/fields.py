"""Read typed fields from JSON bodies and query strings, by the coercion rules of the API.

Numbers may be numeric strings, booleans may be words, unknown fields are ignored. Every
violation is collected, so that a caller sees all of them in one answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import orjson

from edge_server.errors import RequestError
from edge_server.vision.params import Confidence

Place = Literal["body", "query"]
T = TypeVar("T")

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class FieldsError(Exception):
    """The request violates its schema. ``details`` has one entry per violation."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(detail["msg"]) for detail in details))
        self.details = details


class Fields:
    """One request's fields. Ask for each by its type, then call ``check`` once."""

    def __init__(self, values: Mapping[str, Any], place: Place) -> None:
        self._values = values
        self._place = place
        self._details: list[dict[str, Any]] = []
        self._not_allowed: list[str] = []

    @property
    def place(self) -> Place:
        """Where the fields were sent."""
        return self._place

    def check(self) -> None:
        """Look back at all fields asked for.

        Raises:
            FieldsError: one was missing or of a wrong type.
            RequestError: all are well-formed, but one has a value that is not allowed.
        """
        if self._details:
            raise FieldsError(self._details)
        if self._not_allowed:
            raise RequestError(" ".join(self._not_allowed))

    def disallow(self, message: str) -> None:
        """Let ``check`` refuse a well-formed value; ``message`` is a sentence that says why."""
        self._not_allowed.append(message)

    def required(self, name: str) -> Any:  # noqa: ANN401 - whatever the caller sent
        """The raw value of a field that must be there."""
        if name not in self._values:
            self._refuse(name, "missing", "Field required")
        return self._values.get(name)

    def required_text(self, name: str) -> str:
        """A text that must be there."""
        value = self.required(name)
        if name in self._values and not isinstance(value, str):
            self._refuse(name, "string_type", "Input should be a text")
        return str(value)

    def text(self, name: str, default: T, *, nullable: bool = True) -> str | T:
        """A text."""
        value = self._given(name, nullable=nullable)
        if value is _ABSENT:
            return default
        if not isinstance(value, str):
            self._refuse(name, "string_type", "Input should be a text")
        return str(value)

    def choice(self, name: str, choices: Sequence[str], default: T) -> str | T:
        """One of a few words."""
        value = self._given(name)
        if value is _ABSENT:
            return default
        if value not in choices:
            words = ", ".join(repr(word) for word in choices)
            self._refuse(name, "literal_error", f"Input should be one of {words}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty when absent."""
        value = self._given(name)
        if value is _ABSENT:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(name, "list_type", "Input should be a list of texts")
            return ()
        return tuple(value)

    def number(self, name: str, default: T) -> float | T:
        """A finite number."""
        value = self._given(name)
        return default if value is _ABSENT else self._as_float(name, value)

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._given(name)
        if value is _ABSENT:
            return default
        number = self._as_float(name, value)
        if not number.is_integer():
            self._refuse(name, "int_type", "Input should be a whole number")
        return int(number)

    def boolean(self, name: str, default: bool) -> bool:
        """A truth value, also as a word or as 0 and 1."""
        value = self._given(name)
        word = str(value).lower()
        if value is _ABSENT:
            return default
        if isinstance(value, (bool, int, str)) and word in _TRUE | _FALSE:
            return word in _TRUE
        self._refuse(name, "bool_type", "Input should be true or false")
        return default

    def confidence(self, default: float) -> Confidence:
        """The field ``confidence``: a number, ``best`` or ``default``; never null."""
        value = self._given("confidence", nullable=False)
        if value is _ABSENT:
            return default
        if value == "best":
            return "best"
        if value == "default":
            return "default"
        return self._as_float("confidence", value, "a number, 'best' or 'default'")

    def _given(self, name: str, *, nullable: bool = True) -> Any:  # noqa: ANN401
        value = self._values.get(name, _ABSENT)
        return _ABSENT if value is None and nullable else value

    def _as_float(self, name: str, value: object, expected: str = "a number") -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self._refuse(name, "float_type", f"Input should be {expected}")
            return 0.0
        return number

    def _refuse(self, name: str, kind: str, message: str) -> None:
        # The offending input is left out: it may be a picture of megabytes.
        self._details.append(
            {"type": kind, "loc": [self._place, name], "msg": f"{name}: {message}"}
        )


_ABSENT = object()


def parse_json(body: bytes) -> Fields:
    """The fields of a JSON object.

    Raises:
        FieldsError: the body is empty, not JSON, or not an object.
    """
    if not body:
        raise FieldsError([{"type": "missing", "loc": ["body"], "msg": "A JSON body is required"}])
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = {
            "type": "json_invalid",
            "loc": ["body", error.pos],
            "msg": f"The body is not valid JSON: {error.msg}",
        }
        raise FieldsError([detail]) from error
    if not isinstance(values, dict):
        message = f"The body is a JSON {type(values).__name__}; expected an object"
        raise FieldsError([{"type": "dict_type", "loc": ["body"], "msg": message}])
    return Fields(values, "body")
