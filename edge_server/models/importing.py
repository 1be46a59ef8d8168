"""Weights of any origin in, a model package out: what ``models add`` does to its source."""

from __future__ import annotations

from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.draft import Draft, copy_file, write_json
from edge_server.models.families import CLASSIFICATION, RFDETR, SEMANTIC, bare_resize, family_of
from edge_server.models.fields import Section, read_section
from edge_server.models.identify import Hints, Identity, identify
from edge_server.models.legacy import ENVIRONMENT, read_legacy
from edge_server.models.onnx_file import OnnxFacts, declared_size_hw, inspect_onnx
from edge_server.models.package import (
    CLASS_NAMES,
    INFERENCE_CONFIG,
    KEYPOINTS_METADATA,
    MODEL_CONFIG,
    NOTES,
    WEIGHTS,
    read_task_and_family,
)

_BACKGROUND = "background"


def import_model(source: Path, target: Path, hints: Hints | None = None) -> None:
    """Fill the folder ``target`` with the package made from ``source``.

    Args:
        source: an ``.onnx`` file, or a folder in either layout that Roboflow's servers keep:
            with ``model_config.json``, or with ``environment.json``.
        target: an empty folder.
        hints: what the user says about the model; the files may not contradict it.

    Raises:
        PackageError: the source is not understood; says what was found and what was expected.
    """
    hints = hints or Hints()
    if source.is_file() and source.suffix.lower() == ".onnx":
        _read_bare(source, hints).write(target)
    elif (source / MODEL_CONFIG).is_file():
        _copy_package(source, target, hints)
    elif (source / ENVIRONMENT).is_file():
        read_legacy(source, hints).write(target)
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
        f"or {ENVIRONMENT} and the weights."
    )


def _copy_package(source: Path, target: Path, hints: Hints) -> None:
    config = read_section(source / MODEL_CONFIG)
    task, family = read_task_and_family(config)
    for what, said, hinted in (
        ("task", task, hints.task),
        ("family", family, hints.family and family_of(hints.family)),
    ):
        if hinted not in (None, said):
            raise PackageError(f"{MODEL_CONFIG} says that the {what} is {said}, not {hinted}.")
    if hints.class_names is not None:
        raise PackageError(f"{source / CLASS_NAMES} names the classes; leave out --classes.")
    for name in (WEIGHTS, MODEL_CONFIG, INFERENCE_CONFIG, CLASS_NAMES):
        copy_file(source / name, target / name)
    if (source / KEYPOINTS_METADATA).is_file():
        copy_file(source / KEYPOINTS_METADATA, target / KEYPOINTS_METADATA)
    if family == RFDETR:
        _correct_size(target, config)


def _correct_size(target: Path, config: Section) -> None:
    """RF-DETR packages may state another size than their network has: the network's counts."""
    inference = read_section(target / INFERENCE_CONFIG)
    network = inference.section("network_input")
    width, height = network.section("training_input_size").size_wh()
    declared = declared_size_hw(target / WEIGHTS)
    size = {"height": declared[0] or height, "width": declared[1] or width}
    if size == {"height": height, "width": width}:
        return
    corrected = {**network.values, "training_input_size": size}
    write_json(target / INFERENCE_CONFIG, {**inference.values, "network_input": corrected})
    note = (
        f"{INFERENCE_CONFIG} says that the network takes {width}x{height}; it takes "
        f"{size['width']}x{size['height']}, which is used."
    )
    write_json(target / MODEL_CONFIG, {**config.values, NOTES: [note]})


def _read_bare(source: Path, hints: Hints) -> Draft:
    facts = inspect_onnx(source)
    identity = identify(facts, hints)
    names = identity.class_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated and identity.task != CLASSIFICATION:
        raise PackageError(
            f"{source.name} names a class {repeated[0]!r} more than once; expected {len(names)} "
            "names that differ. Give it others with --classes FILE."
        )
    if identity.task == SEMANTIC and _BACKGROUND not in {name.lower() for name in names}:
        # At the end, so that every class keeps its id; pixels below the threshold become it.
        names = (*names, _BACKGROUND)
    return Draft(
        weights=source,
        task=identity.task,
        family=identity.family,
        class_names=names,
        size_hw=(facts.height, facts.width),
        resize=bare_resize(identity.task, identity.family),
        fused=identity.fused,
        keypoints=_keypoints(facts, identity),
        notes=_notes(facts, identity),
    )


def _keypoints(facts: OnnxFacts, identity: Identity) -> tuple[tuple[str, ...], ...]:
    count, named = identity.keypoint_count, facts.metadata.keypoint_names or ()
    fits = [len(row) for row in named] == [count] * len(identity.class_names)
    numbers = tuple(str(index) for index in range(count))
    return named if fits else (numbers,) * len(identity.class_names) if count else ()


def _notes(facts: OnnxFacts, identity: Identity) -> list[str]:
    """What had to be assumed, in sentences."""
    notes = []
    count = len(identity.class_names)
    if identity.numbered:
        notes.append(
            f"The file names no classes: they are called by their numbers, 0 to {count - 1}. "
            "Give it --classes FILE to name them."
        )
    if identity.task == SEMANTIC and _BACKGROUND not in map(str.lower, identity.class_names):
        notes.append(f"No class is the background: class {count} was added for it.")
    if identity.keypoint_count and facts.metadata.keypoint_names is None:
        notes.append("The file names no keypoints: they are called by their numbers.")
    if identity.task == CLASSIFICATION and identity.family.startswith("yolo"):
        notes.append(
            "Ultralytics trains classifiers on the middle of a picture, its shorter side scaled; "
            f"here pictures are stretched to {facts.width}x{facts.height}. Wide pictures may "
            "score differently."
        )
    return notes
