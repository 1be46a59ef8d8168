"""What a bare ONNX file says about itself: its tensors, its metadata, and what one run gave."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_server.errors import PackageError
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
_DEFAULT_SIZE = (640, 640)
_MAX_SIZE = 8192


@dataclass(frozen=True)
class OnnxMetadata:
    """What the exporter wrote into the file beside the network.

    Attributes:
        task: what the network does, in the API's terms where it has one; None when not said.
        ultralytics: the file was written by Ultralytics' exporter.
        architecture: a model type such as ``yolo11n-seg``; None when not said.
        head: Ultralytics' name of the last layer; None when not said.
        end_to_end: the head needs no NMS; None when not said.
        nms: NMS was added to the graph; None when not said.
        class_names: None when not said.
        keypoint_shape: keypoints per object and numbers per keypoint; None when not said.
        keypoint_names: by class id; None when not said.
        imgsz: height and width; None when not said.
    """

    task: str | None = None
    ultralytics: bool = False
    architecture: str | None = None
    head: str | None = None
    end_to_end: bool | None = None
    nms: bool | None = None
    class_names: tuple[str, ...] | None = None
    keypoint_shape: tuple[int, int] | None = None
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
        engine = open_onnx(path, threads=usable_cpus())
        try:
            return _facts(path, engine, default_size_hw)
        finally:
            engine.close()
    except EngineError as error:
        raise PackageError(str(error)) from error


def declared_size_hw(path: Path) -> tuple[int | None, int | None]:
    """Height and width that the picture input declares; None where any size runs.

    Raises:
        PackageError: the file cannot be opened, or does not take one picture tensor.
    """
    try:
        engine = open_onnx(path, threads=1)
    except EngineError as error:
        raise PackageError(str(error)) from error
    engine.close()
    spec = _picture_input(path, engine.inputs)
    return spec.shape[2], spec.shape[3]


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
    if any(array.ndim == 0 for array in outputs.values()):
        raise PackageError(
            f"{path.name} has an output without dimensions; no such family is known."
        )
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
    args = _literal(values.get("args"))
    shape = _literal(values.get("kpt_shape"))
    if shape is not None and _pair(shape) is None:
        raise PackageError(f"{file}: its metadata key 'kpt_shape' is {shape!r}; expected [K, 3].")
    imgsz = _literal(values.get("imgsz"))
    nms = args.get("nms") if isinstance(args, dict) else None
    task = values.get("task")
    return OnnxMetadata(
        task=_TASKS.get(task, task) if task else None,
        ultralytics=task in _TASKS or values.get("author") == "Ultralytics",
        architecture=_architecture(values),
        head=values.get("head"),
        end_to_end=_flag(values.get("end2end")),
        nms=nms if isinstance(nms, bool) else None,
        class_names=_class_names(file, values.get("names")),
        keypoint_shape=_pair(shape),
        keypoint_names=_keypoint_names(values.get("kpt_names")),
        imgsz=_pair([imgsz, imgsz]) or _pair(imgsz),
    )


def _architecture(values: Mapping[str, str]) -> str | None:
    """Ultralytics writes "Ultralytics YOLO11n-seg model trained on coco.yaml"."""
    found = re.search(r"\b(YOLO\S+)", values.get("description", ""), re.IGNORECASE)
    if found is None:
        return None
    # ``yolov5nu`` is a YOLOv8 head on a YOLOv5 body.
    return re.sub(r"^yolov5([nsmlx])6?u(?=$|-)", r"yolov8\1", found.group(1).lower())


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


def _flag(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").lower())


def _literal(text: str | None) -> object:
    """The Python literal in ``text``; None when it is absent or none. Never executes anything."""
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
