"""How a package says that pictures become tensors: ``network_input`` and what belongs to it."""

from __future__ import annotations

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
    steps = inference.section("image_pre_processing", required=False)
    width, height = network.section("training_input_size").size_wh()
    if network.values.get("input_channels", 3) != 3:
        raise network.unexpected("input_channels", "3")
    contrast = steps.enabled("contrast")
    return NetworkInput(
        height=height,
        width=width,
        color_mode=network.choice("color_mode", ("rgb", "bgr")),
        scaling_factor=_scaling_factor(network),
        normalization=_normalization(network),
        static_crop=_static_crop(steps),
        grayscale=steps.enabled("grayscale") is not None,
        contrast=contrast.choice("type", get_args(Contrast)) if contrast else None,
        **_resize(network, family),
    )


def _resize(network: Section, family: str) -> dict[str, Any]:
    """The fields of ``NetworkInput`` that say how a picture is put in."""
    mode = network.choice("resize_mode", _RESIZE_MODES)
    padding = int(network.number("padding_value", low=0, high=255) or 0)
    if mode == "fit-longer-edge":
        mode, substitute = fit_longer_edge_of(family)
        padding = substitute
    elif mode == "letterbox-reflect-edges":  # the reference does not reflect either
        mode = "letterbox"
    if family != RFDETR:
        return {"resize_mode": mode, "padding_value": padding}
    dataset_size = None
    if network.values.get("dataset_version_resize_dimensions") is not None:
        dataset_size = network.section("dataset_version_resize_dimensions").size_wh()
    if mode == "stretch" or dataset_size is None:
        # Without the size of the dataset the reference stretches, whatever the mode says.
        mode, padding, dataset_size = "stretch", 0, None
    return {
        "resize_mode": mode,
        "padding_value": padding,
        "antialias": True,
        "dataset_size": dataset_size,
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
