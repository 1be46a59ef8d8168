"""Small real ONNX networks of every layout that is served, made when a test needs them.

``NETWORKS`` is the table: one line per layout. All of them see colours: a part of the picture that
is purely red, green or blue is an object of that class, so a test can tell right answers from
wrong ones. What is black or grey is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.networks import STRIDES, Graph
from tests.heads import (
    Head,
    Seen,
    classifier,
    end_to_end,
    raw_detector,
    raw_pose,
    raw_segmenter,
    rfdetr,
    semantic,
    with_objectness,
    yololite,
    yolonas,
)

COLOURS = ("red", "green", "blue")
KEYPOINT_NAMES = ("left", "right")
SIZE = 64
BACKGROUND_OF_RFDETR = "background_class83422"
IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
HALF = [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]


@dataclass(frozen=True)
class Network:
    """One layout of one family, and what its exporter says about it.

    Attributes:
        name: for test ids.
        task: in the API's terms.
        family: as ``models add`` finds it, or is told.
        head: builds the outputs.
        metadata: what the exporter writes into the file.
        columns: names of the class columns of the network, in order.
        class_names: of the installed package.
        fused: the graph ends in NMS, softmax or sigmoid.
        hints: what ``models add`` must be told about a bare file: ``task``, ``family``; and
            ``classes``, names, where the file has none.
    """

    name: str
    task: str
    family: str
    head: Head
    metadata: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = COLOURS
    class_names: tuple[str, ...] = COLOURS
    fused: bool = False
    hints: Mapping[str, Any] = field(default_factory=dict)

    def save(
        self,
        path: Path,
        *,
        batch: int | str = "batch",
        dtype: int = TensorProto.FLOAT,
        int8: bool = False,
        size_hw: tuple[int, int] = (SIZE, SIZE),
        dynamic_size: bool = False,
    ) -> Path:
        """Write the network.

        Args:
            path: file to write.
            batch: a number fixes the batch.
            dtype: of weights, input and outputs: ``TensorProto.FLOAT`` or ``FLOAT16``.
            int8: convolutions between QuantizeLinear and DequantizeLinear.
            size_hw: of the pictures it takes, multiples of 32.
            dynamic_size: declare the size as dynamic; only ``size_hw`` runs all the same.
        """
        graph = Graph(dtype=dtype, int8=int8)
        outputs = self.head(Seen(graph, size_hw))
        metadata = dict(self.metadata)
        if metadata:
            metadata["imgsz"] = str(list(size_hw))
        declared = ("height", "width") if dynamic_size else size_hw
        return graph.save(path, outputs, size=declared, batch=batch, metadata=metadata)

    @property
    def normalization(self) -> list[list[float]] | None:
        """What the family is trained with."""
        return {"vit": HALF, "resnet": IMAGENET, "dinov3": IMAGENET, "rfdetr": IMAGENET}.get(
            self.family, IMAGENET if self.family == "deeplabv3plus" else None
        )


def _ultralytics(task: str, model: str, **more: str) -> dict[str, str]:
    names = dict(enumerate(COLOURS))
    if task == "semantic":
        names[3] = "background"
    return {
        "description": f"Ultralytics {model} model trained on colours.yaml",
        "author": "Ultralytics",
        "task": task,
        "names": str(names),
        **({"kpt_shape": "[2, 3]"} if task == "pose" else {}),
        **more,
    }


_NMS = {"end2end": "False", "args": "{'nms': True}"}
_E2E = {"end2end": "True"}
_CLASSES = {"classes": COLOURS}
_WITH_BACKGROUND = (*COLOURS, "background")


def _detectors() -> list[Network]:
    task = "object-detection"
    raw = [
        Network(f"{family}-raw", task, family, raw_detector, _ultralytics("detect", model))
        for family, model in (
            ("yolov8", "YOLOv8n"),
            ("yolov9", "YOLOv9t"),
            ("yolov10", "YOLOv10n"),
            ("yolov11", "YOLO11n"),
            ("yolov12", "YOLO12n"),
            ("yolo26", "YOLO26n"),
        )
    ]
    v8_nms, v10, v26 = (
        _ultralytics("detect", model, **more)
        for model, more in (("YOLOv8n", _NMS), ("YOLOv10n", _E2E), ("YOLO26n", _E2E))
    )
    named = {"names": str(list(COLOURS))}
    lite = {"family": "yololite", **_CLASSES}
    return [
        *raw,
        Network("yolov8-nms", task, "yolov8", end_to_end(padded=True), v8_nms, fused=True),
        Network("yolov10-end2end", task, "yolov10", end_to_end(), {**v10, "head": "v10Detect"}),
        Network("yolo26-end2end", task, "yolo26", end_to_end(), {**v26, "head": "Detect"}),
        Network("yolov5", task, "yolov5", with_objectness(), named),
        Network("yolov5-raw-heads", task, "yolov5", with_objectness(raw_heads=3), named),
        Network("yolonas", task, "yolonas", yolonas, hints=_CLASSES),
        Network("yololite", task, "yololite", yololite, hints=_CLASSES),
        Network("yololite-nms", task, "yololite", end_to_end(padded=True), fused=True, hints=lite),
        Network("rfdetr", task, "rfdetr", rfdetr(background="last"), hints=_CLASSES),
        Network("rfdetr-unnamed", task, "rfdetr", rfdetr(named=False), hints=_CLASSES),
    ]


# A package, not a bare file, says that its first column is no class.
RFDETR_BACKGROUND_FIRST = Network(
    "rfdetr-background-first",
    "object-detection",
    "rfdetr",
    rfdetr(background="first"),
    columns=(BACKGROUND_OF_RFDETR, *COLOURS),
)


def _segmenters() -> list[Network]:
    task = "instance-segmentation"
    v8, v11, v26 = (_ultralytics("segment", f"{m}-seg") for m in ("YOLOv8n", "YOLO11n", "YOLO26n"))
    e2e, nms = end_to_end(task="segment"), end_to_end(task="segment", padded=True)
    return [
        Network("yolov8-seg", task, "yolov8", raw_segmenter, v8),
        Network("yolov11-seg", task, "yolov11", raw_segmenter, v11),
        Network("yolo26-seg-raw", task, "yolo26", raw_segmenter, {**v26, "end2end": "False"}),
        Network("yolo26-seg-end2end", task, "yolo26", e2e, {**v26, **_E2E}),
        Network("yolov8-seg-nms", task, "yolov8", nms, {**v8, **_NMS}, fused=True),
        Network("yolov5-seg", task, "yolov5", with_objectness(protos_at=1), hints=_CLASSES),
        Network(
            "yolov7-seg", task, "yolov7", with_objectness(raw_heads=3, protos_at=4), hints=_CLASSES
        ),
        Network(
            "rfdetr-seg", task, "rfdetr", rfdetr(background="last", masks=True), hints=_CLASSES
        ),
    ]


def _pose() -> list[Network]:
    task = "keypoint-detection"
    v8, v11, v26 = (_ultralytics("pose", f"{m}-pose") for m in ("YOLOv8n", "YOLO11n", "YOLO26n"))
    e2e, nms = end_to_end(task="pose"), end_to_end(task="pose", padded=True)
    return [
        Network("yolov8-pose", task, "yolov8", raw_pose, v8),
        Network("yolov11-pose", task, "yolov11", raw_pose, v11),
        Network("yolo26-pose-raw", task, "yolo26", raw_pose, {**v26, "end2end": "False"}),
        Network("yolo26-pose-end2end", task, "yolo26", e2e, {**v26, **_E2E}),
        Network("yolov8-pose-nms", task, "yolov8", nms, {**v8, **_NMS}, fused=True),
    ]


def _classifiers() -> list[Network]:
    task, many = "classification", "multi-label-classification"
    softmax = classifier("Softmax")
    v8, v11 = (_ultralytics("classify", f"{model}-cls") for model in ("YOLOv8n", "YOLO11n"))
    told = {name: {"family": name, **_CLASSES} for name in ("resnet", "vit", "dinov3")}
    return [
        *(Network(name, task, name, classifier(), hints=told[name]) for name in told),
        Network("resnet-softmax", task, "resnet", softmax, fused=True, hints=told["resnet"]),
        Network("yolov8-cls", task, "yolov8", softmax, v8, fused=True),
        Network("yolov11-cls", task, "yolov11", softmax, v11, fused=True),
        *(
            Network(
                f"{name}-multi-label", many, name, classifier(), hints={"task": many, **told[name]}
            )
            for name in told
        ),
        Network(
            "resnet-multi-label-sigmoid",
            many,
            "resnet",
            classifier("Sigmoid"),
            fused=True,
            hints={"task": many, **told["resnet"]},
        ),
    ]


def _semantic() -> list[Network]:
    task = "semantic-segmentation"
    base = Network("", task, "deeplabv3plus", semantic(), class_names=_WITH_BACKGROUND)
    v26 = _ultralytics("semantic", "YOLO26n-sem")
    classes = {"classes": _WITH_BACKGROUND}
    deeplab, rf = {"family": "deeplabv3plus", **classes}, {"family": "rfdetr", **classes}
    bare = [
        replace(base, name="deeplabv3plus", hints=deeplab),
        replace(
            base, name="deeplabv3plus-no-background", head=semantic(background=False), hints=deeplab
        ),
        replace(
            base, name="deeplabv3plus-softmax", head=semantic(fused=True), fused=True, hints=deeplab
        ),
        replace(base, name="yolo26-sem", family="yolo26", head=semantic(8), metadata=v26),
        replace(
            base, name="yolo26-sem-map", family="yolo26", head=semantic(best=True), metadata=v26
        ),
        replace(base, name="rfdetr-sem", family="rfdetr", head=semantic(4), hints=rf),
    ]
    return [replace(network, columns=_WITH_BACKGROUND) for network in bare]


NETWORKS = [*_detectors(), *_segmenters(), *_pose(), *_classifiers(), *_semantic()]
BY_NAME = {network.name: network for network in (*NETWORKS, RFDETR_BACKGROUND_FIRST)}

_POST_PROCESSING = {
    "classification": "softmax",
    "multi-label-classification": "sigmoid",
    "semantic-segmentation": "softmax",
}


def save_package(folder: Path, network: Network, **save: Any) -> Path:
    """Write ``network`` as a folder in the newer layout; ``save`` goes to ``Network.save``."""
    folder.mkdir(parents=True)
    network.save(folder / "weights.onnx", **save)
    height, width = save.get("size_hw", (SIZE, SIZE))
    config = {
        "model_architecture": network.family,
        "task_type": network.task,
        "backend_type": "onnx",
    }
    inference = {
        "network_input": {
            "training_input_size": {"height": height, "width": width},
            "dynamic_spatial_size_supported": False,
            "color_mode": "rgb",
            "resize_mode": "stretch",
            "padding_value": None,
            "input_channels": 3,
            "scaling_factor": 255,
            "normalization": network.normalization,
        },
        "post_processing": {
            "type": _POST_PROCESSING.get(network.task, "nms"),
            "fused": network.fused,
        },
        "class_names_operations": [
            {"type": "class_name_removal", "class_name": name}
            for name in network.columns
            if name not in network.class_names
        ],
    }
    _write_json(folder / "model_config.json", config)
    _write_json(folder / "inference_config.json", inference)
    _write_names(folder, network)
    return folder


def save_legacy_folder(folder: Path, network: Network, **save: Any) -> Path:
    """Write ``network`` as a folder in the older layout; ``save`` goes to ``Network.save``."""
    folder.mkdir(parents=True)
    is_classifier = network.task.endswith("classification")
    weights = "best.onnx" if is_classifier else "weights.onnx"
    network.save(
        folder / ("yolov5s_weights.onnx" if network.family == "yolov5" else weights), **save
    )
    height, width = save.get("size_hw", (SIZE, SIZE))
    resize = {"enabled": True, "width": width, "height": height, "format": "Stretch to"}
    environment: dict[str, Any] = {"PREPROCESSING": json.dumps({"resize": resize})}
    if is_classifier:
        environment["CLASS_MAP"] = {str(i): name for i, name in enumerate(network.columns)}
        environment["MULTICLASS"] = network.task.startswith("multi-label")
    else:
        _write_names(folder, network)
    _write_json(folder / "environment.json", environment)
    task = "classification" if is_classifier else network.task
    kind = {"project_task_type": task, "model_type": network.family}
    _write_json(folder / "model_type.json", kind)
    return folder


def _write_names(folder: Path, network: Network) -> None:
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in network.columns))
    if network.task == "keypoint-detection":
        keypoints = dict(zip(("0", "1"), KEYPOINT_NAMES, strict=True))
        entries = [
            {"object_class_id": index, "keypoints": keypoints, "edges": [{"from": 0, "to": 1}]}
            for index in range(len(network.columns))
        ]
        _write_json(folder / "keypoints_metadata.json", entries)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def cells(height: int, width: int) -> int:
    """How many cells an anchor-free detector has for an input of this size."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def head_rows(
    boxes: list[list[float]], scores: list[list[float]], count: int
) -> NDArray[np.float32]:
    """The output (4 + C, count) of a detector that sees these boxes (cx, cy, w, h) and no more."""
    rows = np.zeros((4 + len(scores[0]), count), np.float32)
    rows[:4, : len(boxes)] = np.array(boxes, np.float32).T
    rows[4:, : len(scores)] = np.array(scores, np.float32).T
    return rows


def save_constants(
    path: Path, outputs: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a network for one picture of 64 x 64 that answers these arrays, whatever it sees."""
    graph = Graph()
    names = {name: graph.constant(array) for name, array in outputs.items()}
    return graph.save(path, names, size=(SIZE, SIZE), metadata=metadata)


def save_detector(
    path: Path,
    rows: NDArray[np.float32],
    *,
    gain: NDArray[np.float32] | None = None,
    size: tuple[int | str, int | str] = (64, 64),
    batch: int | str = "batch",
    dtype: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network whose output (B, R, N) is ``rows`` plus ``gain`` times the mean of a picture.

    The output thus has the layout of a YOLOv8 detector and still depends on every picture.
    """
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    constants = {
        "rows": rows[None].astype(numpy_type),
        "gain": (np.zeros_like(rows) if gain is None else gain)[None].astype(numpy_type),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean4", "last_axis"], ["mean"]),
        helper.make_node("Mul", ["mean", "gain"], ["seen"]),
        helper.make_node("Add", ["seen", "rows"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", dtype, [batch, 3, *size])],
        [helper.make_tensor_value_info("output0", dtype, [batch, *rows.shape])],
        [
            *(numpy_helper.from_array(array, name) for name, array in constants.items()),
            numpy_helper.from_array(np.array([3], np.int64), "last_axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
