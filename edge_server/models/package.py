"""A model package: the folder format in which every installed model is kept, and its reader.

The format is the one that Roboflow's ``inference-models`` uses: ``weights.onnx``,
``model_config.json``, ``inference_config.json`` and ``class_names.txt``. Weights that arrive
in another form are converted to it once, by ``models.importing``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_server.errors import PackageError
from edge_server.vision.decoders import DECODERS
from edge_server.vision.params import Thresholds
from edge_server.vision.preprocess import NetworkInput, StaticCrop

WEIGHTS = "weights.onnx"
MODEL_CONFIG = "model_config.json"
INFERENCE_CONFIG = "inference_config.json"
CLASS_NAMES = "class_names.txt"

# The reference runs fixed-size YOLO networks of mode ``fit-longer-edge`` as a letterbox with
# this grey, and reflected edges as plain ones.
_FIT_LONGER_EDGE_PADDING = 127
_RESIZE_MODES = (
    "stretch",
    "letterbox",
    "letterbox-reflect-edges",
    "center-crop",
    "fit-longer-edge",
)

# Pictures per pass when neither the package nor the network says: bounds the memory of a pass.
_DEFAULT_MAX_BATCH = 8
_MAX_CONFIG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ModelPackage:
    """Everything known about a model before its weights are opened.

    Attributes:
        model_id: the id under which it is installed.
        task: ``object-detection`` and so on, as the API names tasks.
        family: the kind of head, the key of its decoder: ``yolov8``.
        class_names: by class id.
        network_input: how pictures become tensors.
        thresholds: what the package recommends.
        max_batch_size: most pictures per pass when the network's batch is dynamic.
        weights: the ONNX file.
    """

    model_id: str
    task: str
    family: str
    class_names: tuple[str, ...]
    network_input: NetworkInput
    thresholds: Thresholds
    max_batch_size: int
    weights: Path


def read_package(folder: Path, model_id: str) -> ModelPackage:
    """Read the package in ``folder``.

    Raises:
        PackageError: a file is missing or malformed, or asks for what cannot be served; the
            message names the file, what was found and what was expected.
    """
    config = read_json(folder / MODEL_CONFIG)
    inference = read_json(folder / INFERENCE_CONFIG)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise PackageError(f"{weights} is missing.")
    task, family = _task_and_family(config)
    return ModelPackage(
        model_id=model_id,
        task=task,
        family=family,
        class_names=read_class_names(folder / CLASS_NAMES),
        network_input=_network_input(inference),
        thresholds=_thresholds(config),
        max_batch_size=_max_batch_size(inference),
        weights=weights,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of sane size.

    Raises:
        PackageError: the file is missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise PackageError(f"{path} is larger than {_MAX_CONFIG_BYTES} bytes.")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise PackageError(f"{path} holds a {type(value).__name__}; expected a JSON object.")
    return value


def read_class_names(path: Path) -> tuple[str, ...]:
    """One stripped name per line; the order gives the class ids.

    Raises:
        PackageError: the file is missing, not UTF-8, or names no class.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PackageError(f"{path} is not UTF-8 text: {error}.") from error
    while names and not names[-1]:
        names.pop()
    if not names:
        raise PackageError(f"{path} is empty; expected one class name per line.")
    return tuple(names)


def family_of(architecture: str) -> str:
    """The family of a model type: sizes do not matter, ``yolov8n`` and ``yolov8x`` are one."""
    name = architecture.lower().replace("yolo11", "yolov11").replace("yolo12", "yolov12")
    sized = re.fullmatch(r"(yolov(?:8|9|11|12))[ntsmblxce]", name)
    return sized.group(1) if sized else name


def _task_and_family(config: Mapping[str, Any]) -> tuple[str, str]:
    backend = config.get("backend_type", "onnx")
    if backend != "onnx":
        raise PackageError(
            f"{MODEL_CONFIG}: backend_type is {backend!r}; only 'onnx' weights can be served."
        )
    task, family = config.get("task_type"), family_of(str(config.get("model_architecture")))
    if (task, family) not in DECODERS:
        known = "; ".join(f"{task} with {family}" for task, family in DECODERS)
        raise PackageError(
            f"{MODEL_CONFIG}: task_type {task!r} with model_architecture "
            f"{config.get('model_architecture')!r} is not supported; supported are: {known}."
        )
    return str(task), family


def _network_input(inference: Mapping[str, Any]) -> NetworkInput:
    network = _section(inference, "network_input")
    size = _section(network, "training_input_size")
    mode = _choice(network, "resize_mode", _RESIZE_MODES)
    padding = _number(network, "padding_value", default=0)
    if mode == "fit-longer-edge":
        mode, padding = "letterbox", _FIT_LONGER_EDGE_PADDING
    elif mode == "letterbox-reflect-edges":
        mode = "letterbox"
    if network.get("input_channels", 3) != 3:
        raise _unexpected("input_channels", network["input_channels"], "3")
    steps = _section(inference, "image_pre_processing", required=False)
    if _enabled(steps, "contrast"):
        raise _unexpected("contrast", steps["contrast"], "no contrast step (not supported yet)")
    fused = _section(inference, "post_processing", required=False).get("fused", False)
    if fused:
        raise _unexpected("post_processing.fused", fused, "false: NMS outside the network")
    scaling = network.get("scaling_factor")
    return NetworkInput(
        height=_size(size, "height"),
        width=_size(size, "width"),
        resize_mode=mode,
        padding_value=int(padding),
        color_mode=_choice(network, "color_mode", ("rgb", "bgr")),
        scaling_factor=None if scaling is None else _number(network, "scaling_factor"),
        normalization=_normalization(network.get("normalization")),
        static_crop=_static_crop(steps),
        grayscale=_enabled(steps, "grayscale"),
    )


def _static_crop(steps: Mapping[str, Any]) -> StaticCrop | None:
    if not _enabled(steps, "static-crop"):
        return None
    crop = steps["static-crop"]
    edges = {name: _number(crop, name) for name in ("x_min", "x_max", "y_min", "y_max")}
    try:
        return StaticCrop(**edges)
    except ValueError as error:
        raise PackageError(f"{INFERENCE_CONFIG}: static-crop {edges}: {error}") from error


def _normalization(
    value: Any,  # noqa: ANN401 - whatever the JSON file holds
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if value is None:
        return None
    try:
        means, stds = (tuple(float(item) for item in row) for row in value)
    except (TypeError, ValueError):
        means, stds = (), ()
    if len(means) != 3 or len(stds) != 3 or 0.0 in stds:
        raise _unexpected("normalization", value, "[[mean, mean, mean], [std, std, std]]")
    return means, stds


def _thresholds(config: Mapping[str, Any]) -> Thresholds:
    recommended = _section(config, "recommended_parameters", required=False, file=MODEL_CONFIG)
    per_class = recommended.get("perClassConfidence", recommended.get("per_class_confidence"))
    try:
        return Thresholds(
            confidence=_optional_float(recommended.get("confidence")),
            per_class={str(name): float(value) for name, value in (per_class or {}).items()},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise PackageError(
            f"{MODEL_CONFIG}: recommended_parameters is {recommended}; expected numbers: {error}."
        ) from error


def _max_batch_size(inference: Mapping[str, Any]) -> int:
    forward = _section(inference, "forward_pass", required=False)
    size = forward.get("static_batch_size") or forward.get("max_dynamic_batch_size")
    if size is None:
        return _DEFAULT_MAX_BATCH
    if type(size) is not int or size < 1:
        raise _unexpected("forward_pass batch size", size, "a whole number above 0")
    return size


def _section(
    parent: Mapping[str, Any], key: str, *, required: bool = True, file: str = INFERENCE_CONFIG
) -> Mapping[str, Any]:
    value = parent.get(key)
    if value is None and not required:
        return {}
    if not isinstance(value, dict):
        raise PackageError(f"{file}: {key} is {value!r}; expected an object.")
    return value


def _enabled(steps: Mapping[str, Any], name: str) -> bool:
    step = steps.get(name)
    return isinstance(step, dict) and bool(step.get("enabled"))


def _choice(values: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> Any:  # noqa: ANN401
    value = values.get(key)
    if value not in choices:
        raise _unexpected(key, value, f"one of {', '.join(choices)}")
    return value


def _number(values: Mapping[str, Any], key: str, *, default: float | None = None) -> float:
    value = values.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unexpected(key, value, "a number")
    return float(value)


def _optional_float(value: Any) -> float | None:  # noqa: ANN401 - whatever the JSON file holds
    return None if value is None else float(value)


def _size(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if type(value) is not int or not 1 <= value <= 8192:
        raise _unexpected(f"training_input_size.{key}", value, "pixels from 1 to 8192")
    return value


def _unexpected(key: str, found: object, expected: str) -> PackageError:
    return PackageError(f"{INFERENCE_CONFIG}: {key} is {found!r}; expected {expected}.")
