"""Weights of any origin in, a model package out: what ``models add`` does to its source."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_server.errors import PackageError
from edge_server.models.families import (
    CLASSIFICATION,
    NORMALIZATIONS,
    RFDETR,
    SEMANTIC,
    bare_resize,
)
from edge_server.models.fields import read_section
from edge_server.models.identify import Hints, class_names_of, identify
from edge_server.models.legacy import ENVIRONMENT, read_legacy
from edge_server.models.network_input import resize_of
from edge_server.models.onnx_file import OnnxFacts, inspect_onnx
from edge_server.models.package import (
    CLASS_NAMES,
    INFERENCE_CONFIG,
    KEYPOINTS_METADATA,
    MODEL_CONFIG,
    NOTES,
    WEIGHTS,
    ModelPackage,
    check_class_names,
    read_package,
    write_json,
    write_package,
)
from edge_server.models.readings import Reading
from edge_server.vision.preprocess import NetworkInput
from edge_server.vision.semantic import BACKGROUND


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
    if hints.class_names is not None and (source / CLASS_NAMES).is_file():
        raise PackageError(f"{source / CLASS_NAMES} names the classes; leave out --classes.")
    if source.is_file() and source.suffix.lower() == ".onnx":
        write_package(_read_bare(source, hints), target)
    elif (source / MODEL_CONFIG).is_file():
        _copy_package(source, target, hints)
    elif (source / ENVIRONMENT).is_file():
        write_package(read_legacy(source, hints), target)
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
    """Keep a package as it is, with keys that later versions may read."""
    for name in (WEIGHTS, MODEL_CONFIG, INFERENCE_CONFIG, CLASS_NAMES, KEYPOINTS_METADATA):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
        elif name != KEYPOINTS_METADATA:
            raise PackageError(f"{source / name} is missing.")
    package = read_package(target)
    hints.joined(MODEL_CONFIG, package.task, package.family)
    if package.family == RFDETR:
        _correct_size(package, target)


def _correct_size(package: ModelPackage, target: Path) -> None:
    """RF-DETR packages may state another size than their network has: the network's counts."""
    stated = package.network_input
    facts = inspect_onnx(package.weights, (stated.height, stated.width))
    if (facts.height, facts.width) == (stated.height, stated.width):
        return
    inference = read_section(target / INFERENCE_CONFIG).values
    size = {"training_input_size": {"height": facts.height, "width": facts.width}}
    network = {**inference["network_input"], **size}
    write_json(target / INFERENCE_CONFIG, {**inference, "network_input": network})
    note = (
        f"{INFERENCE_CONFIG} says that the network takes {stated.width}x{stated.height}; it takes "
        f"{facts.width}x{facts.height}, which is used."
    )
    config = read_section(target / MODEL_CONFIG).values
    write_json(target / MODEL_CONFIG, {**config, NOTES: [note]})


def _read_bare(source: Path, hints: Hints) -> ModelPackage:
    facts = inspect_onnx(source)
    reading = identify(facts, hints)
    task, family = reading.task, reading.family
    names = class_names_of(facts, reading, hints)
    notes = []
    if names != (hints.class_names or facts.metadata.class_names):
        notes.append(
            f"The file names no classes: they are called by their numbers, 0 to {len(names) - 1}. "
            "Give it --classes FILE to name them."
        )
    if task == SEMANTIC and BACKGROUND not in {name.lower() for name in names}:
        # At the end, so that every class keeps its id; pixels below the threshold become it.
        notes.append(f"No class is the background: class {len(names)} was added for it.")
        names = (*names, BACKGROUND)
    if reading.keypoint_count and facts.metadata.keypoint_names is None:
        notes.append("The file names no keypoints: they are called by their numbers.")
    if task == CLASSIFICATION and family.startswith("yolo"):
        notes.append(
            "Ultralytics trains classifiers on the middle of a picture, its shorter side scaled; "
            f"here pictures are stretched to {facts.width}x{facts.height}. Wide pictures may "
            "score differently."
        )
    check_class_names(names, task, source.name)
    return ModelPackage(
        task=task,
        family=family,
        class_names=names,
        network_input=NetworkInput(
            facts.height,
            facts.width,
            normalization=NORMALIZATIONS.get(family),
            **resize_of(family, bare_resize(task, family)),
        ),
        weights=source,
        fused=reading.fused,
        keypoints=_keypoints(facts, reading, len(names)),
        notes=tuple(notes),
    )


def _keypoints(facts: OnnxFacts, reading: Reading, class_count: int) -> tuple[tuple[str, ...], ...]:
    count, named = reading.keypoint_count, facts.metadata.keypoint_names or ()
    if count and [len(row) for row in named] == [count] * class_count:
        return named
    numbers = tuple(str(index) for index in range(count))
    return (numbers,) * class_count if count else ()
