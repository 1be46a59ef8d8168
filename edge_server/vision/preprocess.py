"""Pictures to the network's input: crop, grey, contrast, resize into place, then its dtype.

Pixels stay uint8 BGR until ``make_feed``'s function, the last step before the engine. The
geometry is that of Roboflow Inference, pixel for pixel: OpenCV's bilinear resize on uint8, and
Pillow's where the network was trained with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.vision.contrast import equalize, equalize_adaptive, stretch_contrast
from edge_server.vision.params import InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Image
from engines.base import Array, TensorSpec

ResizeMode: TypeAlias = Literal["stretch", "letterbox", "center-crop", "fit-longer-edge"]
Contrast: TypeAlias = Literal[
    "Contrast Stretching", "Histogram Equalization", "Adaptive Equalization"
]
Pixels: TypeAlias = NDArray[np.uint8]
Preprocess: TypeAlias = Callable[[Sequence[Image], InferParams], tuple[Pixels, list[Placement]]]


@dataclass(frozen=True)
class StaticCrop:
    """The part of every picture that the model was trained on, in percent of its size."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float

    def __post_init__(self) -> None:
        x_good = 0 <= self.x_min < self.x_max <= 100
        if not (x_good and 0 <= self.y_min < self.y_max <= 100):
            raise ValueError("edges must rise within 0 to 100 percent")

    def apply(self, image: Image) -> tuple[Image, tuple[int, int]]:
        """The cropped view, at least one pixel large, and its corner (x, y)."""
        height, width = image.shape[:2]
        left, top = int(self.x_min / 100 * width), int(self.y_min / 100 * height)
        right = max(int(self.x_max / 100 * width), left + 1)
        bottom = max(int(self.y_max / 100 * height), top + 1)
        return image[top:bottom, left:right], (left, top)


@dataclass(frozen=True)
class NetworkInput:
    """What the network was trained to see.

    Attributes:
        height: of its input, in pixels.
        width: likewise.
        resize_mode: how a picture of another size is put in; ``fit-longer-edge`` cuts the input
            down to what the picture covers, for networks that take any size.
        padding_value: grey of the letterbox's bars, 0 to 255.
        color_mode: channel order of the network.
        scaling_factor: values are divided by it; None leaves 0 to 255. With ``antialias`` None
            means 255, and so does any factor together with ``normalization``.
        normalization: means and deviations by channel in ``color_mode`` order, after scaling.
        static_crop: done first, unless the caller disables it.
        grayscale: whether colours are taken out, unless the caller disables it.
        contrast: how brightness is spread, unless the caller disables it; None leaves it.
        antialias: stretched by Pillow's antialiased filter, as RF-DETR was trained, whatever
            ``resize_mode`` says.
        dataset_size: width and height that the pictures of the dataset had; with ``antialias``
            a picture is put into them by ``resize_mode`` first, then stretched.
    """

    height: int
    width: int
    resize_mode: ResizeMode
    padding_value: int = 0
    color_mode: Literal["rgb", "bgr"] = "rgb"
    scaling_factor: float | None = 255.0
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    static_crop: StaticCrop | None = None
    grayscale: bool = False
    contrast: Contrast | None = None
    antialias: bool = False
    dataset_size: tuple[int, int] | None = None


def make_preprocess(network_input: NetworkInput) -> Preprocess:
    """A function that puts pictures of any size into one (B, H, W, 3) uint8 BGR tensor.

    With ``fit-longer-edge`` the tensor is as large as the picture fitted into the network's
    size, and the function raises ValueError for pictures that do not come out alike.
    """
    prepare, place = _make_prepare(network_input), _make_placer(network_input)
    height, width = network_input.height, network_input.width
    cut = network_input.resize_mode == "fit-longer-edge" and not network_input.antialias

    def preprocess(images: Sequence[Image], params: InferParams) -> tuple[Pixels, list[Placement]]:
        canvases = np.empty((len(images), height, width, 3), np.uint8)
        placements = []
        for image, canvas in zip(images, canvases, strict=True):
            original = (image.shape[1], image.shape[0])
            image, (left, top) = prepare(image, params)
            crop = (left, top, image.shape[1], image.shape[0])
            placements.append(Placement(original, crop, *place(image, canvas)))
        return (_cut(canvases, placements) if cut else canvases), placements

    return preprocess


def make_feed(network_input: NetworkInput, spec: TensorSpec) -> Callable[[Pixels], Array]:
    """A function that turns (B, H, W, 3) uint8 BGR pixels into what the engine's input asks for.

    Engines built by us take the pixels as they are (uint8 NHWC, normalisation inside the
    graph); plain ONNX weights take normalised floats (B, 3, H, W).

    Raises:
        ValueError: the input is neither, or has another size than the package says.
    """
    size = (network_input.height, network_input.width)
    if spec.dtype == np.uint8 and _fits(spec, (None, *size, 3)):
        return lambda pixels: pixels
    if spec.dtype.kind != "f" or not _fits(spec, (None, 3, *size)):
        raise ValueError(
            f"its input is {spec}; expected float (batch, 3, {size[0]}, {size[1]}) "
            f"or uint8 (batch, {size[0]}, {size[1]}, 3)"
        )
    scaling, normalization = scaling_of(network_input), network_input.normalization
    order = slice(None, None, -1) if network_input.color_mode == "rgb" else slice(None)
    dtype = spec.dtype
    means, stds = (
        np.array(row, np.float32).reshape(3, 1, 1) for row in normalization or ((0,) * 3, (1,) * 3)
    )

    def feed(pixels: Pixels) -> Array:
        planes = pixels[..., order].transpose(0, 3, 1, 2)
        tensor = np.empty(planes.shape, np.float32)
        # Divided as the reference does: a product with 1/255 differs in the last bit, and scores
        # that are equal there are not here.
        np.divide(planes, scaling, out=tensor, dtype=np.float32)
        if normalization is not None:
            tensor -= means
            tensor /= stds
        return tensor.astype(dtype, copy=False)

    return feed


def _make_prepare(
    network_input: NetworkInput,
) -> Callable[[Image, InferParams], tuple[Image, tuple[int, int]]]:
    """What is done before the resize; the function gives the picture and its corner too."""
    crop, grayscale = network_input.static_crop, network_input.grayscale
    enhance = _CONTRASTS[network_input.contrast] if network_input.contrast else None

    def prepare(image: Image, params: InferParams) -> tuple[Image, tuple[int, int]]:
        corner = (0, 0)
        if crop is not None and not params.disable_static_crop:
            image, corner = crop.apply(image)
        if grayscale and not params.disable_grayscale:
            gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            image = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
        if enhance is not None and not params.disable_contrast:
            image = enhance(image)
        return image, corner

    return prepare


def _cut(canvases: Pixels, placements: Sequence[Placement]) -> Pixels:
    frames = {placement.frame for placement in placements}
    if len(frames) > 1:
        raise ValueError(
            f"pictures of one batch would come out as {sorted(frames)} pixels; a network with "
            "resize_mode fit-longer-edge takes pictures of one shape, send others one by one"
        )
    for width, height in frames:
        canvases = np.ascontiguousarray(canvases[:, :height, :width])
    return canvases


def scaling_of(network_input: NetworkInput) -> np.float32:
    """What values are divided by."""
    scaling = network_input.scaling_factor
    if network_input.antialias and (scaling is None or network_input.normalization is not None):
        scaling = 255.0
    return np.float32(scaling or 1)


def _fits(spec: TensorSpec, shape: tuple[int | None, ...]) -> bool:
    return len(spec.shape) == len(shape) and all(
        want is None or have is None or want == have
        for want, have in zip(shape, spec.shape, strict=True)
    )


Geometry: TypeAlias = tuple[tuple[int, int], tuple[float, float], tuple[int, int, int, int]]
"""The frame, the scale and the pad of a ``Placement``."""


def _make_placer(network_input: NetworkInput) -> Callable[[Image, Pixels], Geometry]:
    padding = np.uint8(network_input.padding_value)
    put = _PLACERS[network_input.resize_mode]
    if not network_input.antialias:
        return lambda image, canvas: put(image, canvas, padding)
    size = network_input.dataset_size
    if size is None or network_input.resize_mode == "stretch":
        return _stretch_antialiased

    def place_twice(image: Image, canvas: Pixels) -> Geometry:
        middle = np.empty((size[1], size[0], 3), np.uint8)
        (width, height), scale, pad = put(image, middle, padding)
        _stretch_antialiased(middle[:height, :width], canvas)
        return (width, height), scale, pad

    return place_twice


def _stretch_antialiased(image: Image, canvas: Pixels) -> Geometry:
    from PIL import Image as pillow  # few models need it: the others start without

    height, width = canvas.shape[:2]
    picture = pillow.fromarray(np.ascontiguousarray(image))
    # Across, then down: Pillow 13 chooses the order by shape, and rounds between the two.
    for size in ((width, picture.height), (width, height)):
        picture = picture.resize(size, pillow.Resampling.BILINEAR)
    canvas[:] = np.asarray(picture)
    return (width, height), (width / image.shape[1], height / image.shape[0]), (0, 0, 0, 0)


def _stretch(image: Image, canvas: Pixels, padding: np.uint8) -> Geometry:
    height, width = canvas.shape[:2]
    cv2.resize(image, (width, height), dst=canvas, interpolation=cv2.INTER_LINEAR)
    return (width, height), (width / image.shape[1], height / image.shape[0]), (0, 0, 0, 0)


def _fit_longer_edge(image: Image, canvas: Pixels, padding: np.uint8) -> Geometry:
    """Fill only the upper left part of the canvas that a picture of these proportions needs."""
    height, width = canvas.shape[:2]
    scale_x, scale_y = width / image.shape[1], height / image.shape[0]
    if scale_x < scale_y:
        height = max(1, round(scale_x * image.shape[0]))
    else:
        width = max(1, round(scale_y * image.shape[1]))
    return _stretch(image, canvas[:height, :width], padding)


def _letterbox(image: Image, canvas: Pixels, padding: np.uint8) -> Geometry:
    height, width = canvas.shape[:2]
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_width = max(1, int(image.shape[1] * scale))
    inner_height = max(1, int(image.shape[0] * scale))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas[:top], canvas[top + inner_height :] = padding, padding
    canvas[:, :left], canvas[:, left + inner_width :] = padding, padding
    inner = canvas[top : top + inner_height, left : left + inner_width]
    cv2.resize(image, (inner_width, inner_height), dst=inner, interpolation=cv2.INTER_LINEAR)
    right, bottom = width - inner_width - left, height - inner_height - top
    return (width, height), (scale, scale), (left, top, right, bottom)


def _center_crop(image: Image, canvas: Pixels, padding: np.uint8) -> Geometry:
    """No scaling: cut what is larger, pad with black what is smaller (the reference's choice)."""
    canvas[:] = 0
    before, after = [], []
    source, target = [], []
    for axis in (1, 0):
        have, want = image.shape[axis], canvas.shape[axis]
        offset = (want - have) // 2 if want > have else -((have - want) // 2)
        before.append(offset)
        after.append(want - have - offset)
        count = min(have, want)
        source.append(slice(max(-offset, 0), max(-offset, 0) + count))
        target.append(slice(max(offset, 0), max(offset, 0) + count))
    canvas[target[1], target[0]] = image[source[1], source[0]]
    frame = (canvas.shape[1], canvas.shape[0])
    return frame, (1.0, 1.0), (before[0], before[1], after[0], after[1])


_PLACERS: dict[ResizeMode, Callable[[Image, Pixels, np.uint8], Geometry]] = {
    "stretch": _stretch,
    "letterbox": _letterbox,
    "center-crop": _center_crop,
    "fit-longer-edge": _fit_longer_edge,
}
_CONTRASTS: dict[Contrast, Callable[[Image], Image]] = {
    "Contrast Stretching": stretch_contrast,
    "Histogram Equalization": equalize,
    "Adaptive Equalization": equalize_adaptive,
}
