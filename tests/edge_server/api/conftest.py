"""A real server with models whose answers are known."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

from edge_server.models.store import ModelStore
from tests.networks import cells, head_rows, save_detector
from tests.support import running_server

NAMES = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect"}
# In a 128 x 128 picture, twice the network's size: three cats, two of which overlap, and a dog
# where the first cat is. cx, cy, w, h in network pixels; scores of cat and dog.
BOXES = [[16, 16, 16, 16], [18, 16, 16, 16], [48, 48, 8, 16], [16, 16, 16, 16]]
SCORES = [[0.9, 0.1], [0.8, 0.1], [0.45, 0.1], [0.1, 0.6]]
ROWS = head_rows(BOXES, SCORES, cells(64, 64))


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(
    url: str,
    body: bytes | None = None,
    content_type: str | None = None,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request; the content type is sent only when it is given."""
    headers = {"Content-Type": content_type or "", **(headers or {})}
    if body is None and content_type is None:
        del headers["Content-Type"]  # to a body without one, urllib would add its own
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def post(url: str, body: object) -> Answer:
    """POST a JSON body."""
    return send(url, json.dumps(body).encode(), "application/json")


def picture(width: int = 128, height: int = 128, extension: str = ".jpg") -> bytes:
    """A grey picture as a file's bytes."""
    _, encoded = cv2.imencode(extension, np.full((height, width, 3), 120, np.uint8))
    return encoded.tobytes()


def as_object(encoded: bytes) -> dict[str, str]:
    """The picture object of the JSON API."""
    return {"type": "base64", "value": base64.b64encode(encoded).decode()}


@pytest.fixture(scope="session")
def known(tmp_path_factory) -> str:
    """The address of a server with the models boxes/1, boxes-of-two/1, word and broken/1."""
    folder = tmp_path_factory.mktemp("known")
    store = ModelStore(folder / "data" / "models")
    for model_id, batch in (("boxes/1", "batch"), ("boxes-of-two/1", 2), ("word", "batch")):
        weights = save_detector(folder / "best.onnx", ROWS, batch=batch, metadata=NAMES)
        store.install(model_id, weights, task=None, prove=lambda package: None)
    broken = store.install("broken/1", weights, task=None, prove=lambda package: None)
    broken.weights.write_bytes(b"not a network")
    with running_server(folder / "data", config='url_allow = ["127.0.0.1"]\n') as url:
        yield url
