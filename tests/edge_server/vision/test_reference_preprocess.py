"""The reference's own tensors and placements: what Roboflow Inference makes of a picture.

Each fixture holds the formula of a picture, the package's ``inference_config``, and the tensor
and metadata that came out; see its ``what``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.preprocess import NetworkInput, StaticCrop, make_feed, make_preprocess
from engines.base import TensorSpec

FOLDER = Path(__file__).parents[2] / "fixtures" / "reference"
FIXTURES = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("pre_im_*.json")}

COVERED = {
    "pre_im_bgr_model",
    "pre_im_center_crop_larger",
    "pre_im_center_crop_mixed",
    "pre_im_contrast_adaptive",
    "pre_im_contrast_hist",
    "pre_im_contrast_stretching",
    "pre_im_fit_longer_edge",
    "pre_im_gray_then_contrast",
    "pre_im_grayscale",
    "pre_im_letterbox_black",
    "pre_im_letterbox_grey_odd",
    "pre_im_letterbox_reflect",
    "pre_im_letterbox_white",
    "pre_im_no_scaling",
    "pre_im_normalization",
    "pre_im_rfdetr_letterbox_single_step",
    "pre_im_rfdetr_stretch",
    "pre_im_rfdetr_two_step",
    "pre_im_static_crop",
    "pre_im_static_crop_letterbox",
    "pre_im_stretch",
    "pre_im_stretch_up",
}

# Pixels of the fixtures' pictures at (x, y, channel), BGR; width and height are (w, h).
FORMULAS = {
    "hash": lambda x, y, c, w, h: (37 * x + 59 * y + 83 * c + 7 * x * y) % 256,
    "ramp": lambda x, y, c, w, h: 255 * x // (w - 1) // 2 + 255 * y // (h - 1) // 2 - 20 * c,
    "lowcontrast": lambda x, y, c, w, h: 80 + (3 * x + 5 * y + 7 * c) % 60,
}


def picture(image):
    width, height = image["width"], image["height"]
    y, x, channel = np.mgrid[:height, :width, :3]
    pixels = FORMULAS[image["kind"]](x, y, channel, width, height)
    return pixels.clip(0, 255).astype(np.uint8)


def network_input(fixture):
    config = fixture["params"]["inference_config"]
    network, steps = config["network_input"], config["image_pre_processing"] or {}
    crop, contrast = steps.get("static-crop"), steps.get("contrast")
    dataset = network.get("dataset_version_resize_dimensions")
    mode = network["resize_mode"]
    return NetworkInput(
        height=network["training_input_size"]["height"],
        width=network["training_input_size"]["width"],
        # The reader of packages replaces reflected edges likewise.
        resize_mode="letterbox" if mode == "letterbox-reflect-edges" else mode,
        padding_value=network["padding_value"] or 0,
        color_mode=network["color_mode"],
        scaling_factor=network["scaling_factor"],
        normalization=network["normalization"],
        static_crop=crop and StaticCrop(**{k: v for k, v in crop.items() if k != "enabled"}),
        grayscale=steps.get("grayscale", {}).get("enabled", False),
        contrast=contrast and contrast["type"],
        antialias=any("rfdetr" in call for call in fixture["peer_calls"]),
        dataset_size=dataset and (dataset["width"], dataset["height"]),
    )


def placement(meta):
    """The reference's metadata in our words."""
    crop, frame = meta["static_crop_offset"], meta["nonsquare_intermediate_size"]
    frame = frame or meta["inference_size"]
    return Placement(
        original=(meta["original_size"]["width"], meta["original_size"]["height"]),
        crop=(crop["offset_x"], crop["offset_y"], crop["crop_width"], crop["crop_height"]),
        frame=(frame["width"], frame["height"]),
        scale=pytest.approx((meta["scale_width"], meta["scale_height"]), abs=1e-6),
        pad=tuple(meta[f"pad_{side}"] for side in ("left", "top", "right", "bottom")),
    )


def test_every_fixture_is_covered():
    assert set(FIXTURES) == COVERED


@pytest.mark.parametrize("name", sorted(COVERED))
def test_tensor_and_placement_are_the_reference_s(name):
    fixture = FIXTURES[name]
    network, expected = network_input(fixture), fixture["expected"]
    pixels, (found,) = make_preprocess(network)(
        [picture(fixture["inputs"]["image"])], InferParams()
    )
    spec = TensorSpec("images", np.dtype(np.float32), (None, 3, None, None))
    tensor = make_feed(network, spec)(pixels)
    assert list(tensor.shape) == expected["tensor"]["shape"]
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(
        tensor, expected["tensor"]["data"], rtol=0, atol=fixture["tolerance"]["abs"]
    )
    assert found == placement(expected["metadata"])
