"""An InferenceHTTPClient as users make it, its methods called either way, and how that ended."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError, HTTPClientError
from PIL import Image


def connect(
    server: str, mode: str = "v1", key: str | None = "any text", configuration: dict | None = None
) -> InferenceHTTPClient:
    """A client of ``server``; v0 sends nothing without a key, whatever the key is."""
    client = InferenceHTTPClient(api_url=server, api_key=key)
    client.configure(InferenceConfiguration(**(configuration or {})))
    return client.select_api_v0() if mode == "v0" else client.select_api_v1()


def call(client: InferenceHTTPClient, twin: str, method: str, *arguments: Any, **named: Any) -> Any:
    """Call a method, or its async twin, and wait for what it returns."""
    if twin == "async":
        return asyncio.run(getattr(client, f"{method}_async")(*arguments, **named))
    return getattr(client, method)(*arguments, **named)


def outcome(action: Callable[[], Any]) -> Any:
    """What ``action`` returned, as JSON can hold it, or which error of the client it raised."""
    try:
        return _plain(action())
    except HTTPCallErrorError as error:
        return {"status": error.status_code, "message": error.api_message}
    except HTTPClientError as error:
        return {"raised": type(error).__name__}


def form(name: str, reference: str) -> Any:
    """A picture in one of the forms that the client takes."""
    if name == "array":
        return cv2.imread(reference)
    if name == "pil":
        return Image.open(reference)
    if name in ("base64", "data URI"):
        text = base64.b64encode(Path(reference).read_bytes()).decode("ascii")
        return text if name == "base64" else f"data:image/jpeg;base64,{text}"
    return reference  # a path, or an address


def _plain(answer: Any) -> Any:
    """Pictures that the client has decoded become the name of their type and their shape."""
    if isinstance(answer, list):
        return [_plain(item) for item in answer]
    if isinstance(answer, dict):
        return {name: _plain(item) for name, item in answer.items()}
    if isinstance(answer, (np.ndarray, Image.Image)):
        return [type(answer).__name__, *np.asarray(answer).shape]
    return answer
