"""The older layout of Roboflow's servers: ``environment.json`` and weights of several names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.draft import Draft
from edge_server.models.families import (
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    RFDETR,
    check_family,
    check_task,
)
from edge_server.models.fields import Section, read_section
from edge_server.models.identify import Hints, Identity, identify
from edge_server.models.onnx_file import OnnxFacts, inspect_onnx
from edge_server.models.package import (
    CLASS_NAMES,
    KEYPOINTS_METADATA,
    WEIGHTS,
    read_class_names,
    read_keypoints,
)
from edge_server.models.readings import possible_readings

ENVIRONMENT = "environment.json"
_MODEL_TYPE = "model_type.json"
_WEIGHTS = (WEIGHTS, "yolov5s_weights.onnx", "best.onnx")
# What the training of RF-DETR calls its column for nothing.
_RFDETR_BACKGROUND = "background_class83422"
# A model type that says no more than "an ONNX file".
_UNTOLD = ("", "ort", "None")

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


def read_legacy(source: Path, hints: Hints) -> Draft:
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
    task, family = _said(source, environment, hints)
    names = _class_names(source, environment, hints)
    facts = inspect_onnx(weights, dataset_size[::-1] if dataset_size else None)
    identity = _identity(facts, task, family, names)
    mode = _RESIZE_FORMATS.get(str(resize.values.get("format")), _RESIZE_FORMATS["Stretch to"])
    is_rfdetr = identity.family == RFDETR
    removed = [name for name in identity.class_names if is_rfdetr and name == _RFDETR_BACKGROUND]
    class_count = len(identity.class_names) - len(removed)
    keypoints: Sequence[Sequence[str]] = ()
    if identity.task == KEYPOINTS:
        keypoints = read_keypoints(source / KEYPOINTS_METADATA, class_count)
    return Draft(
        weights=weights,
        task=identity.task,
        family=identity.family,
        class_names=identity.class_names,
        size_hw=(facts.height, facts.width),
        resize=mode,
        dataset_size_wh=dataset_size if is_rfdetr else None,
        steps={name: step for name, step in preprocessing.values.items() if name != "resize"},
        fused=identity.fused,
        keypoints=keypoints,
        removed=removed,
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


def _said(source: Path, environment: Section, hints: Hints) -> tuple[str | None, str | None]:
    """Task and family, by the files or else by the user; None where neither says it."""
    path = source / _MODEL_TYPE
    kind = read_section(path) if path.is_file() else Section(_MODEL_TYPE, {})
    task, model_type = (
        str(kind.values.get(key) or "") for key in ("project_task_type", "model_type")
    )
    if task == CLASSIFICATION and environment.flag("MULTICLASS"):
        task = MULTI_LABEL
    if hints.task and task and hints.task != task:
        raise PackageError(f"{_MODEL_TYPE} says that the task is {task}, not {hints.task}.")
    chosen_task = hints.task or task or None
    if chosen_task is not None:
        check_task(chosen_task)
    said = None if model_type in _UNTOLD else check_family(model_type, chosen_task)
    wanted = check_family(hints.family, chosen_task) if hints.family else None
    if said and wanted and said != wanted:
        raise PackageError(f"{_MODEL_TYPE} says that the family is {said}, not {wanted}.")
    return chosen_task, said or wanted


def _class_names(source: Path, environment: Section, hints: Hints) -> tuple[str, ...] | None:
    path = source / CLASS_NAMES
    if path.is_file():
        if hints.class_names is not None:
            raise PackageError(f"{path} names the classes already; leave out --classes.")
        return read_class_names(path)
    if environment.values.get("CLASS_MAP") is None:
        return hints.class_names
    by_id = environment.section("CLASS_MAP")
    names = tuple(by_id.values.get(str(index)) for index in range(len(by_id.values)))
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise environment.unexpected("CLASS_MAP", "names under '0', '1', '2' without a gap")
    return tuple(" ".join(str(name).split()) for name in names)


def _identity(
    facts: OnnxFacts, task: str | None, family: str | None, names: tuple[str, ...] | None
) -> Identity:
    """Taken from the files where they say it; else from the network itself."""
    if task is None or family is None or names is None:
        return identify(facts, Hints(task, family, names))
    fused = [
        reading.fused
        for reading in possible_readings(facts, task, len(names))
        if reading.task == task and family in reading.families
    ]
    # Shapes that are of no such family are for its decoder to refuse.
    return Identity(task, family, names, numbered=False, fused=any(fused[:1]), keypoint_count=0)
