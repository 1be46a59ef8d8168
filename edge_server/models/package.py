"""A model package: the folder format in which every installed model is kept, read and written.

The format is the one that Roboflow's ``inference-models`` uses: ``weights.onnx``,
``model_config.json``, ``inference_config.json``, ``class_names.txt`` and, for keypoints,
``keypoints_metadata.json``. Weights that arrive in another form are converted to it once, by
``models.importing``. This file and ``network_input.py`` are the only ones that know its keys.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.families import (
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    RFDETR,
    SEMANTIC,
    families,
    family_of,
    tasks,
)
from edge_server.models.fields import Section, read_json, read_section
from edge_server.models.network_input import read_network_input, write_network_input
from edge_server.vision.params import Thresholds
from edge_server.vision.preprocess import NetworkInput
from edge_server.vision.semantic import BACKGROUND

WEIGHTS = "weights.onnx"
MODEL_CONFIG = "model_config.json"
INFERENCE_CONFIG = "inference_config.json"
CLASS_NAMES = "class_names.txt"
KEYPOINTS_METADATA = "keypoints_metadata.json"
# A key of ours in ``model_config.json``: what whoever added the model should know about it.
NOTES = "edge_server_notes"

# What follows the last layer, inside the graph or outside, by task; for all others it is NMS.
_POST_PROCESSING = {
    CLASSIFICATION: ("softmax",),
    MULTI_LABEL: ("sigmoid",),
    SEMANTIC: ("softmax", "sigmoid"),
}
# Pictures per pass when neither the package nor the network says: bounds the memory of a pass.
_DEFAULT_MAX_BATCH = 8
# Class maps are sent as 8-bit pictures.
_MAX_SEMANTIC_CLASSES = 256


@dataclass(frozen=True)
class ModelPackage:
    """Everything known about a model before its weights are opened.

    Attributes:
        task: ``object-detection`` and so on, as the API names tasks.
        family: the kind of head, the key of its decoder: ``yolov8``.
        class_names: by class id, without ``removed_columns``.
        network_input: how pictures become tensors.
        weights: the ONNX file.
        thresholds: what the package recommends.
        max_batch_size: most pictures per pass when the network's batch is dynamic.
        fused: the graph itself ends in NMS, softmax or sigmoid.
        removed_columns: class columns of the network that are no class, in rising order.
        keypoints: names of the keypoints by class id; empty for other tasks.
        notes: sentences for whoever added the model, such as what had to be assumed.
        model_id: the id under which it is installed; empty while it is not.
    """

    task: str
    family: str
    class_names: tuple[str, ...]
    network_input: NetworkInput
    weights: Path
    thresholds: Thresholds = field(default_factory=Thresholds)
    max_batch_size: int = _DEFAULT_MAX_BATCH
    fused: bool = False
    removed_columns: tuple[int, ...] = ()
    keypoints: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    model_id: str = ""


def read_package(folder: Path, model_id: str = "") -> ModelPackage:
    """Read the package in ``folder``.

    Raises:
        PackageError: a file is missing or malformed, or asks for what cannot be served; the
            message names the file, what was found and what was expected.
    """
    config = read_section(folder / MODEL_CONFIG)
    inference = read_section(folder / INFERENCE_CONFIG)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise PackageError(f"{weights} is missing.")
    if config.values.get("backend_type", "onnx") != "onnx":
        raise config.unexpected("backend_type", "'onnx': only such weights can be served")
    task = config.choice("task_type", tasks())
    family = family_of(str(config.values.get("model_architecture")))
    if family not in families(task):
        raise config.unexpected("model_architecture", f"one of {', '.join(families(task))}")
    columns = read_class_names(folder / CLASS_NAMES)
    removed = _removed_columns(inference, columns, family)
    class_names = tuple(name for index, name in enumerate(columns) if index not in removed)
    check_class_names(class_names, task, CLASS_NAMES)
    metadata = folder / KEYPOINTS_METADATA
    return ModelPackage(
        model_id=model_id,
        task=task,
        family=family,
        class_names=class_names,
        network_input=read_network_input(inference, family),
        thresholds=_thresholds(config),
        max_batch_size=_max_batch_size(inference),
        weights=weights,
        fused=_fused(inference, task),
        removed_columns=removed,
        keypoints=read_keypoints(metadata, len(class_names)) if task == KEYPOINTS else (),
        notes=_notes(config),
    )


def write_package(package: ModelPackage, folder: Path) -> None:
    """Fill the empty ``folder`` with what ``read_package`` reads as ``package``."""
    shutil.copyfile(package.weights, folder / WEIGHTS)
    columns = list(package.class_names)
    removed = {column: f"no_class_{column}" for column in package.removed_columns}
    for column, name in removed.items():
        columns.insert(column, name)
    names = "".join(f"{name}\n" for name in columns)
    (folder / CLASS_NAMES).write_text(names, encoding="utf-8")
    config = {
        "model_architecture": package.family,
        "task_type": package.task,
        "backend_type": "onnx",
        "recommended_parameters": {
            "confidence": package.thresholds.confidence,
            "perClassConfidence": package.thresholds.per_class,
        },
        NOTES: package.notes,
    }
    write_json(folder / MODEL_CONFIG, config)
    inference = {
        **write_network_input(package.network_input),
        "forward_pass": {"max_dynamic_batch_size": package.max_batch_size},
        "post_processing": {
            "type": _POST_PROCESSING.get(package.task, ("nms",))[0],
            "fused": package.fused,
        },
        "class_names_operations": [
            {"type": "class_name_removal", "class_name": name} for name in removed.values()
        ],
    }
    write_json(folder / INFERENCE_CONFIG, inference)
    keypoints = [
        {"object_class_id": class_id, "keypoints": dict(enumerate(names)), "edges": []}
        for class_id, names in enumerate(package.keypoints)
    ]
    if keypoints:
        write_json(folder / KEYPOINTS_METADATA, keypoints)


def read_class_names(path: Path) -> tuple[str, ...]:
    """One stripped name per line; the order gives the class ids.

    Raises:
        PackageError: the file is missing, not UTF-8, names no class, or has an empty line
            between names.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PackageError(f"{path} is not UTF-8 text: {error}.") from error
    while names and not names[-1]:
        names.pop()
    if not names:
        raise PackageError(f"{path} is empty; expected one class name per line.")
    if "" in names:
        raise PackageError(
            f"{path}: line {names.index('') + 1} of {len(names)} is empty; "
            "expected one class name per line."
        )
    return tuple(names)


def read_keypoints(path: Path, class_count: int) -> tuple[tuple[str, ...], ...]:
    """The names of the keypoints of each class.

    Raises:
        PackageError: the file is missing or malformed, or leaves out a class.
    """
    entries = Section(path.name, {"": read_json(path)}).objects("")
    by_class: dict[object, tuple[str, ...]] = {}
    for entry in entries:
        by_class[entry.values.get("object_class_id")] = entry.numbered("keypoints")
    if set(by_class) != set(range(class_count)) or len(entries) != class_count:
        found = [entry.values.get("object_class_id") for entry in entries]
        raise PackageError(
            f"{path.name}: object_class_id takes the values {found}; "
            f"expected 0 to {class_count - 1}, each once."
        )
    if not any(by_class.values()):
        raise PackageError(f"{path.name} names no keypoint; expected one or more for a class.")
    return tuple(by_class[index] for index in range(class_count))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` for people to read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _removed_columns(inference: Section, columns: Sequence[str], family: str) -> tuple[int, ...]:
    removed = []
    for operation in inference.objects("class_names_operations"):
        operation.choice("type", ("class_name_removal",))
        name = operation.values.get("class_name")
        if family != RFDETR:
            raise inference.unexpected("class_names_operations", f"none for {family}")
        if name not in columns:
            raise operation.unexpected("class_name", f"a name in {CLASS_NAMES}")
        removed.append(columns.index(name))
    return tuple(sorted(set(removed)))


def check_class_names(names: Sequence[str], task: str, file: str) -> None:
    """Refuse names that answers could not be given with; ``file`` is where they come from.

    Raises:
        PackageError: a name stands there twice, there are none or too many, or the background
            is missing.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    # One thousand ImageNet classes name two kinds of crane; such answers carry ids beside names.
    if repeated and task != CLASSIFICATION:
        raise PackageError(
            f"{file} names a class {repeated[0]!r} more than once; expected {len(names)} names "
            f"that differ. Change them in {CLASS_NAMES}, or for an .onnx file with --classes FILE."
        )
    if not names:
        raise PackageError(f"{file}: no class is left after class_names_operations.")
    if task != SEMANTIC:
        return
    if BACKGROUND not in {name.lower() for name in names}:
        raise PackageError(
            f"{file} names {', '.join(names[:8])}; expected {BACKGROUND!r} among the classes "
            f"of {SEMANTIC}."
        )
    if len(names) > _MAX_SEMANTIC_CLASSES:
        raise PackageError(
            f"{file} names {len(names)} classes; expected at most {_MAX_SEMANTIC_CLASSES} "
            f"for {SEMANTIC}."
        )


def _fused(inference: Section, task: str) -> bool:
    if inference.values.get("post_processing") is None and task not in (
        CLASSIFICATION,
        MULTI_LABEL,
    ):
        return False
    post = inference.section("post_processing")
    post.choice("type", _POST_PROCESSING.get(task, ("nms",)))
    return post.flag("fused")


def _thresholds(config: Section) -> Thresholds:
    recommended = config.section("recommended_parameters", required=False)
    key = "perClassConfidence"
    if key not in recommended.values:
        key = "per_class_confidence"
    per_class = recommended.section(key, required=False)
    limits = {name: per_class.number(name, low=0, high=1) for name in per_class.values}
    return Thresholds(
        confidence=recommended.number("confidence", low=0, high=1),
        per_class={name: limit for name, limit in limits.items() if limit is not None},
    )


def _notes(config: Section) -> tuple[str, ...]:
    notes = config.values.get(NOTES)
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _max_batch_size(inference: Section) -> int:
    forward = inference.section("forward_pass", required=False)
    return (
        forward.count("static_batch_size")
        or forward.count("max_dynamic_batch_size")
        or _DEFAULT_MAX_BATCH
    )
