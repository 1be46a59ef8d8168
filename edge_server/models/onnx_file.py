"""What a bare ONNX file says about itself: its tensors, its metadata, and what one run gave."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_server.errors import PackageError
from edge_server.models.families import family_of
from engines.base import Array, EngineError, TensorSpec
from engines.device import usable_cpus
from engines.onnx_cpu import OnnxCpuEngine, open_onnx

# The value of the metadata key ``task`` as Ultralytics writes it, and the API's name for it.
_TASKS = {
    "detect": "object-detection",
    "segment": "instance-segmentation",
    "pose": "keypoint-detection",
    "classify": "classification",
    "semantic": "semantic-segmentation",
}
# Last layers that say more than the model's name. Else, of the heads that end without NMS, only
# YOLO26's keeps the plain names.
_HEADS = {"v10Detect": "yolov10", "RTDETRDecoder": "rtdetr"}
_DEFAULT_SIZE = (640, 640)
_MAX_SIZE = 8192


@dataclass(frozen=True)
class OnnxMetadata:
    """What the exporter wrote into the file beside the network.

    Attributes:
        task: what the network does, in the API's terms where it has one; None when not said.
        ultralytics: the file was written by Ultralytics' exporter.
        family: the shape still decides about its layout; None when not said.
        nms_inside: rows of boxes come from NMS that was added to the graph, not from a head that
            needs none; None when not said.
        class_names: None when not said.
        keypoint_count: per object; None when not said.
        keypoint_names: by class id; None when not said.
        imgsz: height and width; None when not said.
    """

    task: str | None = None
    ultralytics: bool = False
    family: str | None = None
    nms_inside: bool | None = None
    class_names: tuple[str, ...] | None = None
    keypoint_count: int | None = None
    keypoint_names: tuple[tuple[str, ...], ...] | None = None
    imgsz: tuple[int, int] | None = None


@dataclass(frozen=True)
class OnnxFacts:
    """Facts about ONNX weights, proved by one run.

    Attributes:
        file: name of the file, for messages.
        input: the picture input, as declared.
        height: rows that the network takes: declared, else from the metadata, else 640.
        width: columns, likewise.
        outputs: what one run on noise gave, in the order of the network.
        metadata: what the file says about itself.
    """

    file: str
    input: TensorSpec
    height: int
    width: int
    outputs: Mapping[str, Array] = field(repr=False)
    metadata: OnnxMetadata = OnnxMetadata()

    def __str__(self) -> str:
        outputs = ", ".join(f"{name} {array.shape}" for name, array in self.outputs.items())
        return f"input {self.input}, outputs {outputs}"


def inspect_onnx(path: Path, default_size_hw: tuple[int, int] | None = None) -> OnnxFacts:
    """Open the weights, read what they declare, and run them once on noise.

    Args:
        path: the ``.onnx`` file.
        default_size_hw: for a network whose declared size is dynamic; None takes the metadata's,
            else 640 x 640.

    Raises:
        PackageError: the file cannot be opened or run, or does not take one picture tensor.
    """
    try:
        with closing(open_onnx(path, threads=usable_cpus())) as engine:
            return _facts(path, engine, default_size_hw)
    except EngineError as error:
        raise PackageError(str(error)) from error


def _facts(path: Path, engine: OnnxCpuEngine, default: tuple[int, int] | None) -> OnnxFacts:
    spec = _picture_input(path, engine.inputs)
    metadata = read_metadata(path.name, engine.description.metadata)
    fallback = default or metadata.imgsz or _DEFAULT_SIZE
    height, width = (spec.shape[2] or fallback[0], spec.shape[3] or fallback[1])
    if not all(32 <= size <= _MAX_SIZE for size in (height, width)):
        raise PackageError(
            f"{path.name} takes pictures of {width} x {height}; expected 32 to {_MAX_SIZE} pixels."
        )
    noise = np.random.default_rng(0).random((spec.shape[0] or 1, 3, height, width), np.float32)
    outputs = engine.run({spec.name: noise.astype(spec.dtype)})
    return OnnxFacts(path.name, spec, height, width, outputs, metadata)


def _picture_input(path: Path, inputs: Sequence[TensorSpec]) -> TensorSpec:
    if "orig_target_sizes" in {spec.name for spec in inputs}:
        raise PackageError(
            f"{path.name} has the inputs {', '.join(spec.name for spec in inputs)}: it is an "
            "RT-DETR, D-FINE or DEIM export with its post-processing inside, which is not "
            "supported. Families of the same kind that are: rfdetr, yolo26."
        )
    if len(inputs) != 1:
        names = ", ".join(str(spec) for spec in inputs)
        raise PackageError(f"{path.name} has {len(inputs)} inputs ({names}); expected one picture.")
    spec = inputs[0]
    if len(spec.shape) != 4 or spec.shape[1] not in (3, None) or spec.dtype.kind != "f":
        raise PackageError(
            f"{path.name} takes {spec}; expected a float picture tensor (batch, 3, height, width)."
        )
    return spec


def read_metadata(file: str, values: Mapping[str, str]) -> OnnxMetadata:
    """Parse the key-value pairs that Ultralytics and YOLOv5 write. Never executes anything.

    Raises:
        PackageError: the class names or keypoints are there but malformed.
    """
    task = values.get("task")
    end_to_end = {"true": True, "false": False}.get(values.get("end2end", "").lower())
    return OnnxMetadata(
        task=_TASKS.get(task, task) if task else None,
        ultralytics=task in _TASKS or values.get("author") == "Ultralytics",
        family=_family(values) or ("yolo26" if end_to_end else None),
        nms_inside=_has_nms_added(values) or (None if end_to_end is None else not end_to_end),
        class_names=_class_names(file, values.get("names")),
        keypoint_count=_keypoint_count(file, values.get("kpt_shape")),
        keypoint_names=_keypoint_names(values.get("kpt_names")),
        imgsz=_pair(_literal(values.get("imgsz"))),
    )


def _family(values: Mapping[str, str]) -> str | None:
    """By the last layer; else Ultralytics writes "Ultralytics YOLO11n-seg model trained on ..."."""
    if values.get("head") in _HEADS:
        return _HEADS[values["head"]]
    found = re.search(r"\b(YOLO\S+)", values.get("description", ""), re.IGNORECASE)
    if found is None:
        return None
    # ``yolov5nu`` is a YOLOv8 head on a YOLOv5 body.
    return family_of(re.sub(r"^yolov5([nsmlx])6?u(?=$|-)", r"yolov8\1", found.group(1).lower()))


def _has_nms_added(values: Mapping[str, str]) -> bool:
    args = _literal(values.get("args"))
    return isinstance(args, dict) and args.get("nms") is True


def _keypoint_count(file: str, text: str | None) -> int | None:
    if text is None:
        return None
    shape = _pair(_literal(text))
    if shape is None or shape[1] != 3:
        raise PackageError(
            f"{file}: its metadata key 'kpt_shape' is {text[:200]}; expected [K, 3], for x, y and "
            "visibility of K keypoints. Train it with such a kpt_shape."
        )
    return shape[0]


def _class_names(file: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = _by_number(_literal(text))
    if not names:
        raise PackageError(
            f"{file}: its metadata key 'names' is {text[:200]!r}; "
            "expected names under 0, 1, 2 without a gap."
        )
    return tuple(" ".join(str(name).split()) or str(index) for index, name in enumerate(names))


def _keypoint_names(text: str | None) -> tuple[tuple[str, ...], ...] | None:
    rows = [_by_number(row) for row in _by_number(_literal(text)) or ()]
    named = [tuple(str(name) for name in row) for row in rows if row]
    return tuple(named) if named and len(named) == len(rows) else None


def _by_number(value: object) -> list[object] | None:
    """The items of a list, or of a dictionary with the keys 0, 1, 2 and so on."""
    if isinstance(value, dict):
        if set(value) != set(range(len(value))):
            return None
        return [value[index] for index in range(len(value))]
    return list(value) if isinstance(value, (list, tuple)) else None


def _pair(value: object) -> tuple[int, int] | None:
    """The two whole numbers above 0 in ``value``; None when it holds anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, second = value
        if type(first) is int and type(second) is int and min(first, second) > 0:
            return first, second
    return None


def _literal(text: str | None) -> object:
    """The Python literal in ``text``; None when it is absent or none. Never executes anything."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
