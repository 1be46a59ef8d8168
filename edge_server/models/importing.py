"""Weights of any origin in, a model package out: what ``models add`` does to its source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_server.errors import PackageError
from edge_server.models.onnx_file import OnnxFacts, detect_family, inspect_onnx
from edge_server.models.package import (
    CLASS_NAMES,
    INFERENCE_CONFIG,
    MODEL_CONFIG,
    WEIGHTS,
    family_of,
    read_class_names,
    read_json,
)

_ENVIRONMENT = "environment.json"
_MODEL_TYPE = "model_type.json"
_LEGACY_WEIGHTS = (WEIGHTS, "yolov5s_weights.onnx", "best.onnx")

# ``resize.format`` of a Roboflow dataset version, as ``resize_mode`` and ``padding_value``.
_RESIZE_FORMATS = {
    "Stretch to": ("stretch", 0),
    "Fit (black edges) in": ("letterbox", 0),
    "Fit (grey edges) in": ("letterbox", 127),
    "Fit (white edges) in": ("letterbox", 255),
    "Fit (reflect edges) in": ("letterbox-reflect-edges", 0),
    "Fill (with center crop) in": ("center-crop", 0),
    "Fit within": ("fit-longer-edge", 127),
}
# What Ultralytics trains with and its exports therefore expect.
_ULTRALYTICS_RESIZE = ("letterbox", 114)


def import_model(source: Path, target: Path, task: str | None) -> None:
    """Fill the folder ``target`` with the package made from ``source``.

    Args:
        source: an ``.onnx`` file, or a folder in either layout that Roboflow's servers keep:
            with ``model_config.json``, or with ``environment.json``.
        target: an empty folder.
        task: what the user says the model does; None leaves it to the files.

    Raises:
        PackageError: the source is not understood; says what was found and what was expected.
    """
    if source.is_file() and source.suffix.lower() == ".onnx":
        _import_bare(source, target, task)
    elif (source / MODEL_CONFIG).is_file():
        for name in (WEIGHTS, MODEL_CONFIG, INFERENCE_CONFIG, CLASS_NAMES):
            _copy(source / name, target / name)
    elif (source / _ENVIRONMENT).is_file():
        _import_legacy(source, target, task)
    else:
        raise PackageError(_not_understood(source))


def _not_understood(source: Path) -> str:
    if not source.exists():
        return f"{source} does not exist."
    found = "a file"
    if source.is_dir():
        names = sorted(path.name for path in source.iterdir())
        found = f"a folder with {', '.join(names[:8]) or 'nothing in it'}"
    return (
        f"{source} is {found}; expected an .onnx file, or a folder with {MODEL_CONFIG} "
        f"or {_ENVIRONMENT} and the weights."
    )


def _import_bare(source: Path, target: Path, task: str | None) -> None:
    facts = inspect_onnx(source)
    if facts.task is not None and task is not None and facts.task != task:
        raise PackageError(f"{source.name} says that its task is {facts.task}, not {task}.")
    detected_task, family, class_count = _detected(source, facts, task or facts.task)
    names = facts.class_names or tuple(str(index) for index in range(class_count))
    if len(names) != class_count:
        raise PackageError(
            f"{source.name} names {len(names)} classes in its metadata; "
            f"its output has rows for {class_count}."
        )
    _copy(source, target / WEIGHTS)
    _write_package(target, detected_task, family, names, _network_input(facts, _ULTRALYTICS_RESIZE))


def _import_legacy(source: Path, target: Path, task: str | None) -> None:
    weights = next((source / name for name in _LEGACY_WEIGHTS if (source / name).is_file()), None)
    if weights is None:
        raise PackageError(
            f"{source} has no weights; expected one of {', '.join(_LEGACY_WEIGHTS)}."
        )
    preprocessing = _preprocessing(source / _ENVIRONMENT)
    names = read_class_names(source / CLASS_NAMES)
    facts = inspect_onnx(weights)
    if (source / _MODEL_TYPE).is_file():
        kind = read_json(source / _MODEL_TYPE)
        task = task or str(kind.get("project_task_type"))
        family = family_of(str(kind.get("model_type")))
    else:
        task, family, _ = _detected(weights, facts, task)
    resize = preprocessing.get("resize")
    resize_format = resize.get("format") if isinstance(resize, dict) else None
    mode = _RESIZE_FORMATS.get(str(resize_format), _RESIZE_FORMATS["Stretch to"])
    steps = {name: preprocessing[name] for name in preprocessing if name != "resize"}
    _copy(weights, target / WEIGHTS)
    _write_package(target, task, family, names, _network_input(facts, mode), steps)


def _detected(source: Path, facts: OnnxFacts, task: str | None) -> tuple[str, str, int]:
    try:
        found_task, family, class_count = detect_family(facts)
    except PackageError as error:
        raise PackageError(f"{source.name} cannot be used. {error}") from error
    if task not in (None, found_task):
        raise PackageError(
            f"{source.name} is said to do {task}; its outputs are those of {found_task}: {facts}."
        )
    return found_task, family, class_count


def _preprocessing(path: Path) -> Mapping[str, Any]:
    value = read_json(path).get("PREPROCESSING")
    if isinstance(value, str):  # older exports hold JSON inside JSON
        try:
            value = json.loads(value)
        except ValueError as error:
            raise PackageError(f"{path}: PREPROCESSING is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise PackageError(f"{path}: PREPROCESSING is {value!r}; expected an object.")
    return value


def _network_input(facts: OnnxFacts, resize: tuple[str, int]) -> dict[str, Any]:
    mode, padding = resize
    return {
        "training_input_size": {"height": facts.height, "width": facts.width},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": mode,
        "padding_value": padding,
        "input_channels": 3,
        "scaling_factor": 255,
        "normalization": None,
    }


def _write_package(
    target: Path,
    task: str,
    family: str,
    class_names: tuple[str, ...],
    network_input: Mapping[str, Any],
    steps: Mapping[str, Any] | None = None,
) -> None:
    config = {"model_architecture": family, "task_type": task, "backend_type": "onnx"}
    inference = {
        "image_pre_processing": steps or {},
        "network_input": network_input,
        "post_processing": {"type": "nms", "fused": False},
    }
    (target / MODEL_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (target / INFERENCE_CONFIG).write_text(json.dumps(inference, indent=2) + "\n", encoding="utf-8")
    (target / CLASS_NAMES).write_text("\n".join(class_names) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise PackageError(f"{source} is missing.") from error
