"""What each route takes and answers, written beside the code that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

F = TypeVar("F", bound=Callable[..., None])

JSON = "application/json"
# Stands for a body that is no JSON: a file, or text.
BINARY: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Operation:
    """One method of one route, for ``/openapi.json``.

    Attributes:
        summary: one line.
        bodies: by media type, the struct or schema of the request's body.
        answers: by media type, the struct, union of structs or schema of the answer.
        query: the struct of the query's parameters.
        headers: names and descriptions of request headers.
        refusals: the error statuses that the route can answer, besides those of every route.
    """

    summary: str
    bodies: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    query: type[Struct] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()


def operation(
    summary: str,
    *,
    body: Any = None,  # noqa: ANN401 - a struct, or several by media type
    answer: Any = None,  # noqa: ANN401 - a type, a union of types, or several by media type
    query: type[Struct] | None = None,
    headers: Mapping[str, str] | None = None,
    refusals: tuple[int, ...] = (),
) -> Callable[[F], F]:
    """Describe a responder by an ``Operation``; a lone ``body`` or ``answer`` is JSON."""

    def describe(responder: F) -> F:
        responder.operation = Operation(  # type: ignore[attr-defined]
            summary, _by_media(body), _by_media(answer), query, headers or {}, refusals
        )
        return responder

    return describe


def _by_media(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a type, or several by media type
    if isinstance(kind, Mapping):
        return kind
    return {} if kind is None else {JSON: kind}
