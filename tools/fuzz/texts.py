"""JSON requests, and what may become of them: the same for the same number."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable
from typing import Any

MODEL = "fuzz/1"
# Loading and unloading are tried on another model, so that the first one stays.
OTHER_MODEL = "fuzz/2"

_INFER_ROUTES = (
    "object_detection",
    "instance_segmentation",
    "keypoints_detection",
    "classification",
    "semantic_segmentation",
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    40,
    2**31,
    2**53 + 1,
    -(2**63) - 1,
    10**400,
    1e-320,
    1.7e308,
    float("nan"),
    float("-inf"),
    "",
    "0.5",
    "best",
    "\0",
    "\ud800",
    "ÿ" * 300,
    "\U0001f600",
    "../../etc/passwd",
    "a/b/c",
    "%2e%2e/%00",
    "fuzz",
    "fuzz/1",
    "url",
    "base64",
    "numpy",
    "file",
    "http://127.0.0.1:1/",
    "data:image/png;base64,",
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["cat"] * 100,
    {"type": "base64"},
    {"type": "numpy", "value": "k05VTVBZAQA="},
)
_BYTES = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\0", b"\\u0000", b"\\ud800")
_BYTES += (b"{", b"}", b"[", b"]", b'"', b",", b":", b"1e999", b"-", b"NaN", b"// ", b"9" * 5000)
_BYTES += (b'{"a":' * 2000, b"[" * 100_000, b'"model_id": "fuzz/1",', b'"image": {},', b" " * 5000)


def text_seeds(picture: bytes) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Paths and bodies of requests that succeed."""
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    options = {
        "id": "a request",
        "api_key": None,
        "confidence": 0.4,
        "iou_threshold": 0.3,
        "max_detections": 10,
        "class_filter": ["cat"],
        "class_agnostic_nms": False,
        "visualize_predictions": True,
        "visualization_labels": True,
        "visualization_stroke_width": 2,
        "disable_preproc_auto_orient": False,
        "mask_decode_mode": "tradeoff",
        "tradeoff_factor": 0.5,
        "response_mask_format": "rle",
        "keypoint_confidence": 0.1,
        "source": "a program",
    }
    plain = {"model_id": MODEL, "image": image}
    other = {"model_id": OTHER_MODEL, "model_type": None, "api_key": None}
    bodies = (plain, {**plain, **options}, {**plain, "image": [image, image]})
    return (
        *((f"/infer/{route}", body) for route in _INFER_ROUTES for body in bodies),
        ("/model/add", other),
        ("/model/remove", other),
    )


def mutated_text(
    chance: random.Random, seeds: tuple[tuple[str, dict[str, Any]], ...]
) -> tuple[str, bytes]:
    """The path and the body of one of ``seeds`` with one to five changes."""
    path, seed = chance.choice(seeds)
    if chance.random() < 0.001:
        path = "/model/clear"
    body = copy.deepcopy(seed)
    for _ in range(chance.randint(0, 3)):
        body = _change_a_value(chance, body)
    text = bytearray(json.dumps(body), "ascii")
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            chance.choice(_TEXT_MUTATIONS)(chance, text)
    return path, bytes(text)


def _change_a_value(chance: random.Random, body: Any) -> Any:  # noqa: ANN401 - any JSON
    """Replace, leave out, rename or wrap one value, at whatever depth."""
    places = list(_places(body))
    if not places:
        return chance.choice(_VALUES)
    holder, key = chance.choice(places)
    change = chance.randrange(6)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[chance.choice((key.upper(), key + "s", "", "image", "model_id"))] = holder.pop(key)
    elif change == 2:
        holder[key] = [holder[key]] * chance.choice((1, 1, 3))
    elif change == 3:
        holder[key] = str(holder[key])[: chance.randrange(1, 200)]
    else:
        holder[key] = copy.deepcopy(chance.choice(_VALUES))
    return body


def _places(body: Any) -> Any:  # noqa: ANN401 - any JSON
    """Every dict or list within ``body`` with each of its keys."""
    keys = list(body) if isinstance(body, dict) else range(len(body)) if body else ()
    for key in keys if isinstance(body, (dict, list)) else ():
        yield body, key
        yield from _places(body[key]) if isinstance(body[key], (dict, list)) else ()


def _flip_a_bit(chance: random.Random, text: bytearray) -> None:
    if text:
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)


def _insert(chance: random.Random, text: bytearray) -> None:
    place = chance.randrange(len(text) + 1)
    text[place:place] = chance.choice(_BYTES)


def _insert_after_a_comma(chance: random.Random, text: bytearray) -> None:
    """Where another key may stand: it is then there twice."""
    places = [place for place, byte in enumerate(text) if byte in b"{,"] or [0]
    place = chance.choice(places) + 1
    text[place:place] = chance.choice(_BYTES)


def _leave_out(chance: random.Random, text: bytearray) -> None:
    start = chance.randrange(len(text) + 1)
    del text[start : start + chance.choice((1, 1, 2, 8, 64))]


def _cut_off(chance: random.Random, text: bytearray) -> None:
    del text[chance.randrange(len(text) + 1) :]


_TEXT_MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip_a_bit,
    _insert,
    _insert_after_a_comma,
    _leave_out,
    _cut_off,
)
