"""Writing a model package: what ``models.package`` reads, made from facts about a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_server.errors import PackageError
from edge_server.models.families import normalization_of
from edge_server.models.package import (
    CLASS_NAMES,
    INFERENCE_CONFIG,
    KEYPOINTS_METADATA,
    MODEL_CONFIG,
    NOTES,
    POST_PROCESSING,
    WEIGHTS,
)


@dataclass(frozen=True)
class Draft:
    """A package about to be written.

    Attributes:
        weights: the ONNX file to copy.
        task: in the API's terms.
        family: the key of its decoder.
        class_names: by class column of the network.
        size_hw: height and width of the network's input.
        resize: resize mode and padding, in the words of ``inference_config.json``.
        dataset_size_wh: size of the dataset's pictures, for RF-DETR.
        steps: ``image_pre_processing``.
        fused: the graph ends in NMS, softmax or sigmoid.
        keypoints: names of the keypoints by class id.
        removed: names of class columns that are no class.
        notes: for whoever adds the model.
    """

    weights: Path
    task: str
    family: str
    class_names: Sequence[str]
    size_hw: tuple[int, int]
    resize: tuple[str, int]
    dataset_size_wh: tuple[int, int] | None = None
    steps: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = False
    keypoints: Sequence[Sequence[str]] = ()
    removed: Sequence[str] = ()
    notes: Sequence[str] = ()

    def write(self, target: Path) -> None:
        """Fill the empty folder ``target``."""
        copy_file(self.weights, target / WEIGHTS)
        config = {
            "model_architecture": self.family,
            "task_type": self.task,
            "backend_type": "onnx",
            NOTES: list(self.notes),
        }
        write_json(target / MODEL_CONFIG, config)
        inference = {
            "image_pre_processing": dict(self.steps),
            "network_input": self._network_input(),
            "post_processing": {
                "type": POST_PROCESSING.get(self.task, ("nms",))[0],
                "fused": self.fused,
            },
            "class_names_operations": [
                {"type": "class_name_removal", "class_name": name} for name in self.removed
            ],
        }
        write_json(target / INFERENCE_CONFIG, inference)
        names = "".join(f"{name}\n" for name in self.class_names)
        (target / CLASS_NAMES).write_text(names, encoding="utf-8")
        if self.keypoints:
            write_json(target / KEYPOINTS_METADATA, keypoints_metadata(self.keypoints))

    def _network_input(self) -> dict[str, Any]:
        mode, padding = self.resize
        return {
            "training_input_size": {"height": self.size_hw[0], "width": self.size_hw[1]},
            "dataset_version_resize_dimensions": self.dataset_size_wh
            and {"width": self.dataset_size_wh[0], "height": self.dataset_size_wh[1]},
            "dynamic_spatial_size_supported": False,
            "color_mode": "rgb",
            "resize_mode": mode,
            "padding_value": padding,
            "input_channels": 3,
            "scaling_factor": 255,
            "normalization": normalization_of(self.family),
        }


def keypoints_metadata(keypoints: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The content of ``keypoints_metadata.json`` for names by class id."""
    return [
        {
            "object_class_id": class_id,
            "keypoints": {str(index): name for index, name in enumerate(names)},
            "edges": [],
        }
        for class_id, names in enumerate(keypoints)
    ]


def write_json(path: Path, value: object) -> None:
    """Write ``value`` for people to read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copy one file of a package.

    Raises:
        PackageError: it is missing.
    """
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise PackageError(f"{source} is missing.") from error
