"""Read typed structs from JSON bodies and query strings, by the coercion rules of the API.

Numbers may be numeric texts, truth values may be words, null is as good as absent where a field
allows it, unknown fields are ignored. Every violation is collected, so that a caller sees all of
them in one answer. The same structs are the schemas of ``/openapi.json``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct, ValidationError

from edge_server.errors import RequestTooLargeError

Place = Literal["body", "query"]
S = TypeVar("S", bound=Struct)

_NULL = Raw(b"null")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Three bytes can become a hundred in memory; a comma stands before each value but the first.
_MOST_VALUES = 10_000

_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


# What most fields are: a sent null means the default.
NULLABLE = "nullable"
_NULLABLE = Meta(extra_json_schema={NULLABLE: True})
Text = Annotated[str, _NULLABLE]
Texts = Annotated[list[str], _NULLABLE]
Number = Annotated[float, _NULLABLE]
Whole = Annotated[int, _NULLABLE]
Flag = Annotated[bool, _NULLABLE]


class FieldsError(Exception):
    """The request violates its schema. ``details`` has one entry per violation."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(detail["msg"]) for detail in details))
        self.details = details


def read_json(body: bytes, struct: type[S]) -> S:
    """The fields of a JSON object. What the struct does not name is skipped, never built.

    Raises:
        FieldsError: the body is empty, not JSON, nested too deeply, not an object, or a field
            is missing or of a wrong type.
        RequestTooLargeError: it has more values than any request needs.
    """
    if not body:
        raise FieldsError([{"type": "missing", "loc": ["body"], "msg": "A JSON body is required"}])
    commas = np.count_nonzero(np.frombuffer(body, np.uint8) == ord(","))
    if commas > _MOST_VALUES:
        raise RequestTooLargeError(f"The JSON body has more than {_MOST_VALUES} values.")
    return _read_at_once(body, struct) or _read_one_by_one(body, struct)


def _read_at_once(body: bytes, struct: type[S]) -> S | None:
    """The fields in one pass over the body; None when something about them is not plain."""
    try:
        twin = msgspec.json.decode(body, type=_twin(struct), strict=False)
    except _UNREADABLE:
        return None
    sent = {name: getattr(twin, name) for name in twin.__struct_fields__}
    values = {name: value for name, value in sent.items() if value is not None}
    if any(isinstance(value, float) and not math.isfinite(value) for value in values.values()):
        return None
    return struct(**values) if _required(struct) <= values.keys() else None


def _read_one_by_one(body: bytes, struct: type[S]) -> S:
    """The same for whatever comes, with a reason for each field that is not right."""
    try:
        raw = msgspec.json.decode(body, type=_raw_twin(struct))
    except ValidationError as error:
        message = f"The body is not what it should be: {error}"
        raise FieldsError([{"type": "dict_type", "loc": ["body"], "msg": message}]) from error
    except _UNREADABLE as error:
        offset = re.search(r"\(byte (\d+)\)", str(error))
        location = ["body", int(offset[1]) if offset else len(body)]
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        message = f"The body is not valid JSON: {why}"
        raise FieldsError([{"type": "json_invalid", "loc": location, "msg": message}]) from error
    values = {name: getattr(raw, name) for name in raw.__struct_fields__}
    return _read({name: raw for name, raw in values.items() if raw is not None}, struct, "body")


def read_query(params: Mapping[str, str | list[str]], struct: type[S]) -> S:
    """The parameters of a query string; of a repeated one the last counts, an empty one is absent.

    Raises:
        FieldsError: a parameter is of a wrong type.
    """
    last = {name: text[-1] if isinstance(text, list) else text for name, text in params.items()}
    return _read({name: text for name, text in last.items() if text != ""}, struct, "query")


@dataclass(frozen=True)
class _Field:
    """How one field is read, and how a wrong value is answered."""

    name: str
    type: Any
    required: bool
    nullable: bool
    is_flag: bool
    kind: str
    expected: str

    def read(self, value: str | Raw) -> Any:  # noqa: ANN401 - of the field's type
        """Raises ``ValidationError``."""
        if isinstance(value, str):
            return self._checked(msgspec.convert(value, self._or_text, strict=False))
        return self._checked(msgspec.json.decode(value, type=self._or_text, strict=False))

    @property
    def _or_text(self) -> Any:  # noqa: ANN401
        return bool | str if self.is_flag else self.type

    def _checked(self, value: Any) -> Any:  # noqa: ANN401
        if self.is_flag and isinstance(value, str):
            value = _WORDS.get(value.lower())
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            raise ValidationError(f"Input should be {self.expected}")
        return value


def _read(values: Mapping[str, Any], struct: type[S], place: Place) -> S:
    read: dict[str, Any] = {}
    details: list[dict[str, Any]] = []
    for field in _fields(struct):
        value = values.get(field.name)
        if value is None:
            if field.required:
                message = f"{field.name}: Field required"
                details.append({"type": "missing", "loc": [place, field.name], "msg": message})
        elif not (field.nullable and value == _NULL):
            try:
                read[field.name] = field.read(value)
            except _UNREADABLE as error:
                details.append(_violation(place, field, str(error)))
    if details:
        raise FieldsError(details)
    return struct(**read)


def _violation(place: Place, field: _Field, text: str) -> dict[str, Any]:
    """An entry of ``detail``. The offending input is left out: it may be a picture of megabytes."""
    text, _, path = text.partition(" - at `$")
    inside = [int(part) if part.isdecimal() else part for part in re.findall(r"\w+", path)]
    missing = re.fullmatch(r"Object missing required field `(\w+)`", text)
    if missing:
        inside.append(missing[1])
    if not inside:
        text = f"Input should be {field.expected}"
    location = [place, field.name, *inside]
    return {
        "type": "missing" if missing else field.kind,
        "loc": location,
        "msg": f"{'.'.join(map(str, location[1:]))}: {'Field required' if missing else text}",
    }


@lru_cache
def _twin(struct: type[Struct]) -> type[Struct]:
    """A struct of the same fields where each may be absent, and null as far as it allows that."""
    return msgspec.defstruct(
        struct.__name__,
        [
            (field.name, field.type | None if field.nullable else field.type, None)
            for field in _fields(struct)
        ],
    )


@lru_cache
def _required(struct: type[Struct]) -> frozenset[str]:
    return frozenset(field.name for field in _fields(struct) if field.required)


@lru_cache
def _raw_twin(struct: type[Struct]) -> type[Struct]:
    """A struct of the same fields that leaves each as the bytes it was sent as."""
    return msgspec.defstruct(
        struct.__name__, [(name, Raw, None) for name in struct.__struct_fields__]
    )


@lru_cache
def _fields(struct: type[Struct]) -> tuple[_Field, ...]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - narrows the type
    hints = {field.name: field for field in msgspec.structs.fields(struct)}
    return tuple(_field(field, hints[field.name].type) for field in info.fields)


def _field(field: msgspec.inspect.Field, hint: Any) -> _Field:  # noqa: ANN401 - a type
    kind = field.type
    extra: dict[str, Any] = {}
    while isinstance(kind, msgspec.inspect.Metadata):
        extra = {**extra, **(kind.extra_json_schema or {})}
        kind = kind.type
    name, expected = _expectation(kind)
    optional = isinstance(kind, msgspec.inspect.UnionType) and kind.includes_none
    return _Field(
        name=field.name,
        type=hint,
        required=field.required,
        nullable=optional or NULLABLE in extra,
        is_flag=isinstance(kind, msgspec.inspect.BoolType),
        kind=name,
        expected=expected,
    )


def _expectation(kind: msgspec.inspect.Type) -> tuple[str, str]:
    """A word for programs and one for people that say what a value of this type is."""
    match kind:
        case msgspec.inspect.UnionType():
            parts = [_expectation(part) for part in kind.types if part != _NONE]
            return parts[0][0], " or ".join(text for _, text in parts)
        case msgspec.inspect.LiteralType():
            return "literal_error", f"one of {', '.join(map(repr, kind.values))}"
        case msgspec.inspect.ListType():
            return "list_type", f"a list, each {_expectation(kind.item_type)[1]}"
    return _EXPECTATIONS[type(kind)]


_NONE = msgspec.inspect.NoneType()
_EXPECTATIONS: dict[type, tuple[str, str]] = {
    msgspec.inspect.StrType: ("string_type", "a text"),
    msgspec.inspect.FloatType: ("float_type", "a number"),
    msgspec.inspect.IntType: ("int_type", "a whole number"),
    msgspec.inspect.BoolType: ("bool_type", "true or false"),
    msgspec.inspect.StructType: ("dict_type", "an object"),
}
