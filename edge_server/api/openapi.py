"""``/openapi.json``: the routes and their typed structs as an OpenAPI 3.1 document.

Everything in it, names, defaults and ranges, comes from what the code itself uses.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from edge_server import __version__
from edge_server.api.answers import NotFound, Refusal, Status, Violations
from edge_server.api.fields import NULLABLE
from edge_server.api.operations import JSON, Operation

Schema = dict[str, Any]
# Path, the resource that answers there, and the suffix of its responders.
Route = tuple[str, object, str | None]

_DESCRIPTION = (
    "Computer-vision models over HTTP. Numbers may be sent as numeric texts and truth values as "
    "words such as `on`; unknown fields and parameters are ignored. Every answer carries "
    "`X-Request-ID`, `X-Processing-Time` and `X-Model-Cold-Start`."
)
_REFUSALS: Mapping[int, Any] = {
    400: Refusal,
    401: Refusal,
    403: Refusal,
    404: Refusal | NotFound,
    413: Refusal,
    415: Refusal | NotFound,
    422: Violations,
    500: Refusal,
    503: Refusal | Status,
    507: Refusal,
}
# Any route may answer these: bad framing, a key that is missing, a name that is not this server's.
_EVERYWHERE = (400, 401, 403)
_METHODS = ("get", "post")
_TAGS = {
    "infer": "inference",
    "{project}": "inference",
    "model": "models in memory",
    "start": "models in memory",
    "clear_cache": "models in memory",
    "models": "models on disk",
}


def describe(routes: Iterable[Route]) -> Schema:
    """The OpenAPI document of ``routes``."""
    structs: dict[str, type[Struct]] = {}
    paths: Schema = {}
    for path, resource, suffix in routes:
        for method, facts in _operations(resource, suffix):
            paths.setdefault(path, {})[method] = _operation(path, method, facts, structs)
    _, components = msgspec.json.schema_components(structs.values(), ref_template=_REFERENCE)
    for component in components.values():
        for field in component.get("properties", {}).values():
            if field.pop(NULLABLE, False):
                field["type"] = [field["type"], "null"]
                field.update({"enum": [*field["enum"], None]} if "enum" in field else {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Edge Server", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "api_key"},
            },
        },
        # Only asked for when the operator has set a key.
        "security": [{}, {"bearer": []}, {"query": []}],
    }


def _operations(resource: object, suffix: str | None) -> Iterator[tuple[str, Operation]]:
    for method in _METHODS:
        name = f"on_{method}_{suffix}" if suffix else f"on_{method}"
        facts = getattr(getattr(resource, name, None), "operation", None)
        if isinstance(facts, Operation):
            yield method, facts


def _operation(
    path: str, method: str, facts: Operation, structs: dict[str, type[Struct]]
) -> Schema:
    answers = _content(facts.answers, structs)
    described: Schema = {
        "summary": facts.summary,
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "tags": [_TAGS.get(path.split("/")[1], "this server")],
        "parameters": [*_path_parameters(path), *_headers(facts), *_query(facts)],
        "responses": {
            "200": {"description": "OK", **({"content": answers} if answers else {})},
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": _content({JSON: _REFUSALS[status]}, structs),
                }
                for status in sorted({*_EVERYWHERE, *facts.refusals})
            },
        },
    }
    if facts.bodies:
        required = set(facts.bodies) == {JSON}
        described["requestBody"] = {
            "required": required,
            "content": _content(facts.bodies, structs),
        }
    return described


def _content(types_: Mapping[str, Any], structs: dict[str, type[Struct]]) -> Schema:
    return {media: {"schema": _schema(kind, structs)} for media, kind in types_.items()}


def _schema(kind: Any, structs: dict[str, type[Struct]]) -> Schema:  # noqa: ANN401 - a type
    """The schema of a type; msgspec itself refuses unions of structs."""
    if isinstance(kind, Mapping):
        return dict(kind)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(part, structs) for part in parts]}
    if origin is list:
        return {"type": "array", "items": _schema(parts[0], structs)}
    if isinstance(kind, type) and issubclass(kind, Struct):
        structs[kind.__name__] = kind
        return {"$ref": _REFERENCE.format(name=kind.__name__)}
    return msgspec.json.schema(kind)


_REFERENCE = "#/components/schemas/{name}"


def _path_parameters(path: str) -> list[Schema]:
    pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": pattern},
        }
        for name in re.findall(r"{(\w+)}", path)
    ]


def _headers(facts: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in facts.headers.items()
    ]


def _query(facts: Operation) -> list[Schema]:
    if facts.query is None:
        return []
    schema = msgspec.json.schema(facts.query)
    (fields,) = (entry["properties"] for entry in schema["$defs"].values())
    return [_parameter(name, dict(field)) for name, field in fields.items()]


def _parameter(name: str, field: Schema) -> Schema:
    description = field.pop("description", "")
    field.pop(NULLABLE, None)  # a query string knows no null
    return {"name": name, "in": "query", "description": description, "schema": field}
