"""JSON bodies and query strings to typed structs."""

from __future__ import annotations

import tracemalloc
from typing import Literal

import pytest
from msgspec import Struct

from edge_server.api.fields import (
    FieldsError,
    Flag,
    Number,
    Text,
    Texts,
    Whole,
    read_json,
    read_query,
)
from edge_server.errors import RequestTooLargeError


class Part(Struct):
    type: str
    value: str | None = None


class Body(Struct, kw_only=True):
    name: str
    part: Part | list[Part] | None = None
    score: float | Literal["best"] = 0.4
    number: Number = 1.5
    whole: Whole = 7
    flag: Flag = False
    text: Text = "text"
    texts: Texts = []
    strict: str = ""


def read(**fields: str) -> Body:
    """Fields given as JSON texts."""
    text = ",".join(f'"{name}":{value}' for name, value in {"name": '"n"', **fields}.items())
    return read_json(b"{" + text.encode() + b"}", Body)


@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        pytest.param("number", "2", 2.0, id="a whole number is a number"),
        pytest.param("number", '"2.5"', 2.5, id="a numeric text is a number"),
        pytest.param("number", "null", 1.5, id="null is the default"),
        pytest.param("whole", "3.0", 3, id="a round float is whole"),
        pytest.param("whole", '"3"', 3, id="a numeric text is whole"),
        pytest.param("flag", '"YES"', True, id="a word is true"),
        pytest.param("flag", '"Off"', False, id="a word is false"),
        pytest.param("flag", "1", True, id="one is true"),
        pytest.param("flag", '"0"', False, id="zero is false"),
        pytest.param("flag", '"True"', True, id="Python's True"),
        pytest.param("texts", '["a","b"]', ["a", "b"], id="texts"),
        pytest.param("texts", "null", [], id="no texts"),
        pytest.param("score", '"best"', "best", id="a word beside a number"),
        pytest.param("score", '"0.5"', 0.5, id="a numeric text beside a word"),
        pytest.param("part", '{"type":"t","more":{}}', Part("t"), id="an object"),
        pytest.param("part", '[{"type":"t"}]', [Part("t")], id="a list of objects"),
        pytest.param("part", "null", None, id="no object"),
    ],
)
def test_values_are_read_as_the_api_coerces_them(name, sent, value):
    assert getattr(read(**{name: sent}), name) == value


@pytest.mark.parametrize(
    ("name", "sent", "location", "words"),
    [
        pytest.param("name", "7", ["name"], "a text", id="text"),
        pytest.param("name", "null", ["name"], "a text", id="null where a text must be"),
        pytest.param("strict", "null", ["strict"], "a text", id="null where none may be"),
        pytest.param("number", '"x"', ["number"], "a number", id="word for a number"),
        pytest.param("number", '"nan"', ["number"], "a number", id="not a number"),
        pytest.param("number", "1e999", ["number"], "a number", id="beyond all numbers"),
        pytest.param("number", "true", ["number"], "a number", id="truth for a number"),
        pytest.param("whole", "2.5", ["whole"], "a whole number", id="fraction"),
        pytest.param("flag", '"perhaps"', ["flag"], "true or false", id="perhaps"),
        pytest.param("flag", "2", ["flag"], "true or false", id="two"),
        pytest.param("texts", '"a"', ["texts"], "a list, each a text", id="text for a list"),
        pytest.param("score", '"worst"', ["score"], "a number or one of 'best'", id="word"),
        pytest.param("part", '"x"', ["part"], "an object or a list", id="text for an object"),
        pytest.param("part", "{}", ["part", "type"], "Field required", id="a part of the object"),
        pytest.param(
            "part", '[{"type":"t"},{"type":1}]', ["part", 1, "type"], "str", id="deep inside"
        ),
    ],
)
def test_what_is_not_right_is_named(name, sent, location, words):
    with pytest.raises(FieldsError) as refused:
        read(**{name: sent})
    (detail,) = refused.value.details
    assert detail["loc"] == ["body", *location]
    assert words in detail["msg"]


def test_every_violation_is_told_at_once():
    with pytest.raises(FieldsError) as refused:
        read_json(b'{"number":"x","flag":[],"unknown":1}', Body)
    assert [detail["loc"][1] for detail in refused.value.details] == ["name", "number", "flag"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "required"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"{", "not valid JSON"),
        (b'{"name":"\xff"}', "text"),
        (b'{"name":"n"} {}', "not valid JSON"),
        (b'{"name":"\\ud800"}', "not valid JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"part":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "nested"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_object_is_refused(body, words):
    with pytest.raises(FieldsError, match=words):
        read_json(body, Body)


@pytest.mark.parametrize(
    "filler",
    [b'"unknown":[' + b"[]," * 2_000_000 + b"0]", b'"texts":[' + b'"ab",' * 1_000_000 + b'""]'],
    ids=["in a field that nobody reads", "in a field that is read"],
)
def test_a_body_of_millions_of_values_is_refused_before_they_are_built(filler):
    body = b'{"name":"n",' + filler + b"}"
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLargeError, match="values"):
            read_json(body, Body)
        assert tracemalloc.get_traced_memory()[1] < len(body) + 100_000
    finally:
        tracemalloc.stop()


def test_of_a_repeated_query_parameter_the_last_counts_and_an_empty_one_is_absent():
    read = read_query({"name": ["a", "b"], "number": "", "flag": "on"}, Body)
    assert (read.name, read.number, read.flag) == ("b", 1.5, True)
    with pytest.raises(FieldsError) as refused:
        read_query({"name": "n", "number": "null"}, Body)
    assert refused.value.details[0]["loc"] == ["query", "number"]
