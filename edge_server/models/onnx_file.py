"""What a bare ONNX file says about itself: its metadata, its tensors, and the family they show."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_server.errors import PackageError
from engines.base import EngineError, TensorSpec
from engines.device import usable_cpus
from engines.onnx_cpu import open_onnx

# The value of the metadata key ``task`` as Ultralytics writes it, and the API's name for it.
_TASKS = {
    "detect": "object-detection",
    "segment": "instance-segmentation",
    "pose": "keypoint-detection",
    "classify": "classification",
    "semantic": "semantic-segmentation",
}
_DEFAULT_SIZE = 640
_MAX_SIZE = 8192
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class OnnxFacts:
    """Facts about ONNX weights, proved by one run.

    Attributes:
        input: the first input, as declared.
        height: rows that the network takes: declared, else from the metadata, else 640.
        width: columns, likewise.
        output_shapes: the shapes that one run on a blank picture gave, by output name.
        task: the task named by the metadata, in the API's terms; None when it names none.
        class_names: from the metadata; None when it names none.
    """

    input: TensorSpec
    height: int
    width: int
    output_shapes: Mapping[str, tuple[int, ...]]
    task: str | None
    class_names: tuple[str, ...] | None

    def __str__(self) -> str:
        outputs = ", ".join(f"{name} {shape}" for name, shape in self.output_shapes.items())
        return f"input {self.input}, outputs {outputs}"


def inspect_onnx(path: Path) -> OnnxFacts:
    """Open the weights, read what they declare, and run them once on a blank picture.

    Raises:
        PackageError: the file cannot be opened or run, or does not take one picture tensor.
    """
    try:
        engine = open_onnx(path, threads=usable_cpus())
        spec = engine.inputs[0]
        metadata = engine.description.metadata
        height, width = _input_size(path, spec, metadata)
        blank = np.zeros((spec.shape[0] or 1, 3, height, width), spec.dtype)
        outputs = engine.run({spec.name: blank})
    except EngineError as error:
        raise PackageError(str(error)) from error
    engine.close()
    return OnnxFacts(
        input=spec,
        height=height,
        width=width,
        output_shapes={name: array.shape for name, array in outputs.items()},
        task=_TASKS.get(metadata.get("task", ""), metadata.get("task")),
        class_names=_class_names(path, metadata.get("names")),
    )


def detect_family(facts: OnnxFacts) -> tuple[str, str, int]:
    """Task, family and number of classes, read from the shapes.

    Raises:
        PackageError: the shapes are of no family that can be served; says what was found.
    """
    shapes = list(facts.output_shapes.values())
    anchors = sum((facts.height // stride) * (facts.width // stride) for stride in _STRIDES)
    if len(shapes) == 1 and len(shapes[0]) == 3:
        _, rows, columns = shapes[0]
        if columns == anchors and rows > 4:
            return "object-detection", "yolov8", rows - 4
    raise PackageError(
        f"No known family has {facts}. Expected a detector with one output "
        f"(batch, 4 + classes, {anchors}), as exports of YOLOv8, v9, v11 and v12 have "
        "without NMS inside."
    )


def _input_size(path: Path, spec: TensorSpec, metadata: Mapping[str, str]) -> tuple[int, int]:
    if len(spec.shape) != 4 or spec.shape[1] not in (3, None) or spec.dtype.kind != "f":
        raise PackageError(
            f"{path.name} takes {spec}; expected a float picture tensor (batch, 3, height, width)."
        )
    declared = _literal(metadata.get("imgsz"))
    if not (isinstance(declared, (list, tuple)) and len(declared) == 2):
        declared = (_DEFAULT_SIZE, _DEFAULT_SIZE)
    height, width = (spec.shape[2] or declared[0], spec.shape[3] or declared[1])
    if not all(type(size) is int and 32 <= size <= _MAX_SIZE for size in (height, width)):
        raise PackageError(f"{path.name}: its input is {height} x {width}; up to {_MAX_SIZE} runs.")
    return height, width


def _class_names(path: Path, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = _literal(text)
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise PackageError(f"{path.name}: the ids of its metadata key 'names' have holes.")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, (list, tuple)) or not names:
        raise PackageError(f"{path.name}: its metadata key 'names' is {text[:200]!r}.")
    return tuple(str(name) for name in names)


def _literal(text: str | None) -> object:
    """The Python literal in ``text``; None when it is absent or none. Never executes anything."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
