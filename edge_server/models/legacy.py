"""The older layout of Roboflow's servers: ``environment.json`` and weights of several names."""

from __future__ import annotations

import json
from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.families import (
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    NORMALIZATIONS,
    RFDETR,
)
from edge_server.models.fields import Section, read_section
from edge_server.models.identify import Hints, class_names_of, identify
from edge_server.models.network_input import read_steps, resize_of
from edge_server.models.onnx_file import OnnxFacts, inspect_onnx
from edge_server.models.package import (
    CLASS_NAMES,
    KEYPOINTS_METADATA,
    WEIGHTS,
    ModelPackage,
    read_class_names,
    read_keypoints,
)
from edge_server.models.readings import Reading, possible_readings
from edge_server.vision.preprocess import NetworkInput

ENVIRONMENT = "environment.json"
_MODEL_TYPE = "model_type.json"
_WEIGHTS = (WEIGHTS, "yolov5s_weights.onnx", "best.onnx")
# What the training of RF-DETR calls its column for nothing.
_RFDETR_BACKGROUND = "background_class83422"
# A model type that says no more than "an ONNX file".
_UNTOLD = ("", "ort", "None")

# ``resize.format`` of a Roboflow dataset version, as ``resize_mode`` and ``padding_value``.
_STRETCH = ("stretch", 0)
_RESIZE_FORMATS = {
    "Stretch to": _STRETCH,
    "Fit (black edges) in": ("letterbox", 0),
    "Fit (grey edges) in": ("letterbox", 127),
    "Fit (white edges) in": ("letterbox", 255),
    "Fit (reflect edges) in": ("letterbox-reflect-edges", 0),
    "Fill (with center crop) in": ("center-crop", 0),
    "Fit within": ("fit-longer-edge", 127),
}


def read_legacy(source: Path, hints: Hints) -> ModelPackage:
    """The package that the folder ``source`` is.

    Raises:
        PackageError: a file is missing or malformed, contradicts the hints, or leaves two ways
            to read the network.
    """
    weights = next((source / name for name in _WEIGHTS if (source / name).is_file()), None)
    if weights is None:
        raise PackageError(f"{source} has no weights; expected one of {', '.join(_WEIGHTS)}.")
    environment = read_section(source / ENVIRONMENT)
    preprocessing = _preprocessing(environment)
    resize = preprocessing.section("resize", required=False)
    dataset_size = resize.size_wh() if {"width", "height"} <= set(resize.values) else None
    resize_format = _RESIZE_FORMATS.get(str(resize.values.get("format")), _STRETCH)
    hints = _said(source, environment, hints)
    facts = inspect_onnx(weights, dataset_size[::-1] if dataset_size else None)
    reading = _reading(facts, hints)
    columns = class_names_of(facts, reading, hints)
    removed: tuple[int, ...] = ()
    if reading.family == RFDETR and _RFDETR_BACKGROUND in columns:
        removed = (columns.index(_RFDETR_BACKGROUND),)
    class_names = tuple(name for index, name in enumerate(columns) if index not in removed)
    keypoints: tuple[tuple[str, ...], ...] = ()
    if reading.task == KEYPOINTS:
        keypoints = read_keypoints(source / KEYPOINTS_METADATA, len(class_names))
    return ModelPackage(
        task=reading.task,
        family=reading.family,
        class_names=class_names,
        network_input=NetworkInput(
            facts.height,
            facts.width,
            normalization=NORMALIZATIONS.get(reading.family),
            **resize_of(reading.family, resize_format, dataset_size),
            **read_steps(preprocessing),
        ),
        weights=weights,
        fused=reading.fused,
        removed_columns=removed,
        keypoints=keypoints,
    )


def _preprocessing(environment: Section) -> Section:
    value = environment.values.get("PREPROCESSING")
    if isinstance(value, str):  # older exports hold JSON inside JSON
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise PackageError(
                f"{environment.file}: PREPROCESSING is not valid JSON: {error}."
            ) from error
    return Section(environment.file, {"PREPROCESSING": value}).section("PREPROCESSING")


def _said(source: Path, environment: Section, hints: Hints) -> Hints:
    """The hints, and what the files say."""
    path = source / _MODEL_TYPE
    kind = read_section(path).values if path.is_file() else {}
    task, family = (str(kind.get(key) or "") for key in ("project_task_type", "model_type"))
    if task == CLASSIFICATION and environment.flag("MULTICLASS"):
        task = MULTI_LABEL
    hints = hints.joined(_MODEL_TYPE, task or None, None if family in _UNTOLD else family)
    names = hints.class_names
    if (source / CLASS_NAMES).is_file():
        names = read_class_names(source / CLASS_NAMES)
    elif environment.values.get("CLASS_MAP") is not None:
        names = environment.numbered("CLASS_MAP")
    return Hints(hints.task, hints.family, names)


def _reading(facts: OnnxFacts, hints: Hints) -> Reading:
    """What the files say is believed; else the network itself shows it."""
    task, family, names = hints.task, hints.family, hints.class_names
    if task is None or family is None or names is None:
        return identify(facts, hints)
    # Shapes that are of no such family are for its decoder to refuse.
    possible = possible_readings(facts, task, len(names))
    fused = [item.fused for item in possible if item.task == task and family in item.families]
    return Reading(task, (family,), fused=any(fused[:1]))
