"""A model package: the folder format in which every installed model is kept, and its reader.

The format is the one that Roboflow's ``inference-models`` uses: ``weights.onnx``,
``model_config.json``, ``inference_config.json``, ``class_names.txt`` and, for keypoints,
``keypoints_metadata.json``. Weights that arrive in another form are converted to it once, by
``models.importing``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.families import (
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    RFDETR,
    SEMANTIC,
    check_family,
    check_task,
)
from edge_server.models.fields import Section, is_finite, read_json, read_section
from edge_server.models.network_input import read_network_input
from edge_server.vision.params import Thresholds
from edge_server.vision.preprocess import NetworkInput

WEIGHTS = "weights.onnx"
MODEL_CONFIG = "model_config.json"
INFERENCE_CONFIG = "inference_config.json"
CLASS_NAMES = "class_names.txt"
KEYPOINTS_METADATA = "keypoints_metadata.json"
# A key of ours in ``model_config.json``: what whoever added the model should know about it.
NOTES = "edge_server_notes"

# What follows the last layer, inside the graph or outside, by task; for all others it is NMS.
POST_PROCESSING = {
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
        model_id: the id under which it is installed.
        task: ``object-detection`` and so on, as the API names tasks.
        family: the kind of head, the key of its decoder: ``yolov8``.
        class_names: by class id, without ``removed_columns``.
        network_input: how pictures become tensors.
        thresholds: what the package recommends.
        max_batch_size: most pictures per pass when the network's batch is dynamic.
        weights: the ONNX file.
        fused: the graph itself ends in NMS, softmax or sigmoid.
        removed_columns: class columns of the network that are no class, in rising order.
        keypoints: names of the keypoints by class id; empty for other tasks.
        notes: sentences for whoever added the model, such as what had to be assumed.
    """

    model_id: str
    task: str
    family: str
    class_names: tuple[str, ...]
    network_input: NetworkInput
    thresholds: Thresholds
    max_batch_size: int
    weights: Path
    fused: bool = False
    removed_columns: tuple[int, ...] = ()
    keypoints: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def read_package(folder: Path, model_id: str) -> ModelPackage:
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
    task, family = read_task_and_family(config)
    columns = read_class_names(folder / CLASS_NAMES)
    removed = _removed_columns(inference, columns, family)
    class_names = tuple(name for index, name in enumerate(columns) if index not in removed)
    _check_class_names(class_names, task)
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


def read_task_and_family(config: Section) -> tuple[str, str]:
    """What ``model_config.json`` says that the model is.

    Raises:
        PackageError: it cannot be served.
    """
    if config.values.get("backend_type", "onnx") != "onnx":
        raise config.unexpected("backend_type", "'onnx': only such weights can be served")
    task, architecture = (config.text(key) for key in ("task_type", "model_architecture"))
    try:
        return check_task(task), check_family(architecture, task)
    except PackageError as error:
        raise PackageError(f"{config.file}: {error}") from error


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
        named = entry.section("keypoints")
        names = tuple(named.values.get(str(index)) for index in range(len(named.values)))
        if not all(isinstance(name, str) and name for name in names):
            raise entry.unexpected("keypoints", "names under '0', '1', '2' without a gap")
        by_class[entry.values.get("object_class_id")] = tuple(str(name) for name in names)
    if set(by_class) != set(range(class_count)) or len(entries) != class_count:
        found = [entry.values.get("object_class_id") for entry in entries]
        raise PackageError(
            f"{path.name}: object_class_id takes the values {found}; "
            f"expected 0 to {class_count - 1}, each once."
        )
    if not any(by_class.values()):
        raise PackageError(f"{path.name} names no keypoint; expected one or more for a class.")
    return tuple(by_class[index] for index in range(class_count))


def _removed_columns(inference: Section, columns: Sequence[str], family: str) -> tuple[int, ...]:
    removed = []
    for operation in inference.objects("class_names_operations"):
        operation.choice("type", ("class_name_removal",))
        name = operation.text("class_name")
        if family != RFDETR:
            raise inference.unexpected("class_names_operations", f"none for {family}")
        if name not in columns:
            raise operation.unexpected("class_name", f"a name in {CLASS_NAMES}")
        removed.append(columns.index(name))
    return tuple(sorted(set(removed)))


def _check_class_names(names: Sequence[str], task: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    # One thousand ImageNet classes name two kinds of crane; such answers carry ids beside names.
    if repeated and task != CLASSIFICATION:
        raise PackageError(
            f"{CLASS_NAMES}: {', '.join(map(repr, repeated[:5]))} stands there more than once; "
            f"expected a name of its own for each of the {len(names)} classes."
        )
    if not names:
        raise PackageError(f"{CLASS_NAMES}: no class is left after class_names_operations.")
    if task != SEMANTIC:
        return
    if "background" not in {name.lower() for name in names}:
        raise PackageError(
            f"{CLASS_NAMES} names {', '.join(names[:8])}; expected 'background' among the classes "
            f"of {SEMANTIC}."
        )
    if len(names) > _MAX_SEMANTIC_CLASSES:
        raise PackageError(
            f"{CLASS_NAMES} names {len(names)} classes; expected at most {_MAX_SEMANTIC_CLASSES} "
            f"for {SEMANTIC}."
        )


def _fused(inference: Section, task: str) -> bool:
    if inference.values.get("post_processing") is None and task not in (
        CLASSIFICATION,
        MULTI_LABEL,
    ):
        return False
    post = inference.section("post_processing")
    post.choice("type", POST_PROCESSING.get(task, ("nms",)))
    return post.flag("fused")


def _thresholds(config: Section) -> Thresholds:
    recommended = config.section("recommended_parameters", required=False)
    key = "perClassConfidence"
    if key not in recommended.values:
        key = "per_class_confidence"
    per_class = recommended.section(key, required=False)
    bad = next((name for name, value in per_class.values.items() if not _is_share(value)), None)
    if bad is not None:
        raise per_class.unexpected(bad, "a number from 0 to 1")
    return Thresholds(
        confidence=recommended.number("confidence", low=0, high=1),
        per_class={name: float(value) for name, value in per_class.values.items()},
    )


def _is_share(value: object) -> bool:
    return is_finite(value) and 0 <= value <= 1  # type: ignore[operator] # a number by now


def _max_batch_size(inference: Section) -> int:
    forward = inference.section("forward_pass", required=False)
    return (
        forward.count("static_batch_size")
        or forward.count("max_dynamic_batch_size")
        or _DEFAULT_MAX_BATCH
    )


def _notes(config: Section) -> tuple[str, ...]:
    notes = config.values.get(NOTES, [])
    if not isinstance(notes, list):
        raise config.unexpected(NOTES, "a list of texts")
    return tuple(str(note) for note in notes)
