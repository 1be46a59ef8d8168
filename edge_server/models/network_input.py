"""How pictures become tensors: what JSON files of either layout say about it, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from edge_server.errors import PackageError
from edge_server.models.families import RFDETR, fit_longer_edge_of
from edge_server.models.fields import Section, is_finite
from edge_server.vision.preprocess import Contrast, NetworkInput, StaticCrop

_RESIZE_MODES = (
    "stretch",
    "letterbox",
    "letterbox-reflect-edges",
    "center-crop",
    "fit-longer-edge",
)


def read_network_input(inference: Section, family: str) -> NetworkInput:
    """What ``inference_config.json`` says about the input of a network of ``family``.

    Raises:
        PackageError: a value is missing, malformed or asks for what cannot be done.
    """
    network = inference.section("network_input")
    width, height = network.section("training_input_size").size_wh()
    if network.values.get("input_channels", 3) != 3:
        raise network.unexpected("input_channels", "3")
    dataset_size = network.section("dataset_version_resize_dimensions", required=False)
    resize = (
        network.choice("resize_mode", _RESIZE_MODES),
        int(network.number("padding_value", low=0, high=255) or 0),
    )
    return NetworkInput(
        height=height,
        width=width,
        color_mode=network.choice("color_mode", ("rgb", "bgr")),
        scaling_factor=_scaling_factor(network),
        normalization=_normalization(network),
        **resize_of(family, resize, dataset_size.size_wh() if dataset_size.values else None),
        **read_steps(inference.section("image_pre_processing", required=False)),
    )


def write_network_input(given: NetworkInput) -> dict[str, Any]:
    """The keys of ``inference_config.json`` that ``read_network_input`` reads."""
    steps: dict[str, Any] = {}
    if given.static_crop is not None:
        steps["static-crop"] = {"enabled": True, **asdict(given.static_crop)}
    if given.grayscale:
        steps["grayscale"] = {"enabled": True}
    if given.contrast is not None:
        steps["contrast"] = {"enabled": True, "type": given.contrast}
    size = given.dataset_size
    return {
        "image_pre_processing": steps,
        "network_input": {
            "training_input_size": {"height": given.height, "width": given.width},
            "dataset_version_resize_dimensions": size and {"width": size[0], "height": size[1]},
            "dynamic_spatial_size_supported": False,
            "color_mode": given.color_mode,
            "resize_mode": given.resize_mode,
            "padding_value": given.padding_value,
            "input_channels": 3,
            "scaling_factor": given.scaling_factor,
            "normalization": given.normalization,
        },
    }


def resize_of(
    family: str, resize: tuple[str, int], dataset_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The fields of ``NetworkInput`` that say how a picture is put in.

    Args:
        family: the key of its decoder.
        resize: mode and padding, in the words of ``inference_config.json``.
        dataset_size: width and height of the dataset's pictures; counts for RF-DETR only.
    """
    mode, padding = resize
    if mode == "fit-longer-edge":
        mode, padding = fit_longer_edge_of(family)
    elif mode == "letterbox-reflect-edges":  # the reference does not reflect either
        mode = "letterbox"
    if family != RFDETR:
        return {"resize_mode": mode, "padding_value": padding}
    if mode == "stretch" or dataset_size is None:
        # Without the size of the dataset the reference stretches, whatever the mode says.
        mode, padding, dataset_size = "stretch", 0, None
    return {
        "resize_mode": mode,
        "padding_value": padding,
        "antialias": True,
        "dataset_size": dataset_size,
    }


def read_steps(steps: Section) -> dict[str, Any]:
    """The fields of ``NetworkInput`` that both layouts call the same.

    Raises:
        PackageError: a step is malformed.
    """
    contrast = steps.enabled("contrast")
    return {
        "static_crop": _static_crop(steps),
        "grayscale": steps.enabled("grayscale") is not None,
        "contrast": contrast.choice("type", get_args(Contrast)) if contrast else None,
    }


def _scaling_factor(network: Section) -> float | None:
    factor = network.number("scaling_factor")
    if factor is not None and factor <= 0:
        raise network.unexpected("scaling_factor", "a number above 0")
    return factor


def _static_crop(steps: Section) -> StaticCrop | None:
    crop = steps.enabled("static-crop")
    if crop is None:
        return None
    edges: dict[str, float] = {}
    for key in ("x_min", "x_max", "y_min", "y_max"):
        edge = crop.number(key)
        if edge is None:
            raise crop.unexpected(key, "percent from 0 to 100")
        edges[key] = edge
    try:
        return StaticCrop(**edges)
    except ValueError as error:
        raise PackageError(f"{crop.file}: static-crop {edges}: {error}.") from error


def _normalization(network: Section) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    value = network.values.get("normalization")
    if value is None:
        return None
    rows = value if isinstance(value, list) and len(value) == 2 else []
    fits = [
        isinstance(row, list) and len(row) == 3 and all(is_finite(item) for item in row)
        for row in rows
    ]
    if fits != [True, True] or not all(item > 0 for item in rows[1]):
        raise network.unexpected(
            "normalization", "[[mean, mean, mean], [std, std, std]] with deviations above 0"
        )
    means, stds = (tuple(float(item) for item in row) for row in rows)
    return means, stds
