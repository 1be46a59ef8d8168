"""Most of the requests that fit the schema ask a bundled model about its example picture.

What is made up at random hardly ever names a model, and never is a picture.
"""

import base64
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import schemathesis
from PIL import Image
from schemathesis import Case, GenerationMode, HookContext

BUNDLED = Path(__file__).parents[2] / "edge_server" / "bundled"
MODELS = sorted(BUNDLED.glob("*/*"))
LEGACY = "/{project}/{version}"
# The schema takes any text or number here, the server a few; or they say where a picture is.
SPECIAL = ("image", "image_type", "mask_decode_mode", "tradeoff_factor")


def _picture(model: Path) -> bytes:
    file = io.BytesIO()
    with Image.open(sorted(model.glob("examples/*.jpg"))[0]) as example:
        example.reduce(2).save(file, "JPEG")
    return file.getvalue()


PICTURES = {model: _picture(model) for model in MODELS}


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """``/model/add`` fits ``/{project}/{version}`` too, but answers as itself."""
    names = (case.path_parameters or {}).values()
    others = case.operation.schema.raw_schema["paths"]
    return case.path != LEGACY or f"/{'/'.join(map(str, names))}" not in others


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    chance = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if chance % 4 == 0:
        return case
    model = MODELS[chance // 4 % len(MODELS)]
    # Of a model that is not there nothing else is told.
    if "project" in (case.path_parameters or {}):
        case.path_parameters = {"project": model.parent.name, "version": model.name}
    if not case.meta or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return case
    if case.path == LEGACY and case.method == "POST":
        output = ("json", "image", "image_and_json")[chance // 64 % 3]
        case.query = {**_without_special(case.query or {}), "format": output}
        for name in [name for name in case.headers or {} if name.startswith("X-Image-")]:
            del case.headers[name]  # of raw pixels
        case.body = _body(case.media_type, PICTURES[model])
    elif isinstance(case.body, dict):
        case.body = {**_without_special(case.body), **_fields(case.body, model)}
    return case


def _without_special(fields: Mapping) -> dict:
    return {name: value for name, value in fields.items() if name not in SPECIAL}


def _body(media_type: str | None, picture: bytes) -> Any:
    if media_type == "multipart/form-data":
        return {"file": picture}
    return base64.b64encode(picture).decode() if media_type == "text/plain" else picture


def _fields(body: dict, model: Path) -> dict:
    known = {"model_id": f"{model.parent.name}/{model.name}"}
    picture = {"type": "base64", "value": _body("text/plain", PICTURES[model])}
    sent = body.get("image")
    known["image"] = [picture] * len(sent[:2]) if isinstance(sent, list) else picture
    return {name: value for name, value in known.items() if name in body}
