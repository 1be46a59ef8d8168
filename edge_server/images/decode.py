"""Encoded pictures to pixels, never allocating more pixels than the operator allows."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.errors import ImageError, ImageFormatError, ImageTooLargeError
from edge_server.images.headers import FORMATS, UNREADABLE, ImageFormat, Stripped
from edge_server.vision.predictions import Image

# OpenCV would write a line to stderr for every broken picture; the caller gets an error instead.
# Version 5 moved the function.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
_set_log_level(0)

DEFAULT_FORMATS = frozenset({"jpeg", "png", "webp", "bmp"})

# An interleaved JPEG is decoded in one go, a progressive one has about ten scans, and every scan
# is a walk over all of its pixels. So many are accepted of the largest picture, more of smaller.
_MAX_SCANS = 20

# The longest side that a JPEG can have: what is longer could not be answered with a picture, and
# takes a high price for every row.
_MAX_SIDE = 65_535

# EXIF orientation: whether rows become columns, then how ``cv2.flip`` mirrors (Exif 2.32, 4.6.4).
_TURNS = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


def decode_image(
    encoded: bytes | bytearray | memoryview,
    *,
    max_pixels: int,
    formats: Collection[str] = DEFAULT_FORMATS,
    auto_orient: bool = True,
) -> Image:
    """Decode a picture file of an accepted format.

    Alpha is dropped, grey becomes three equal channels, 16 bits become 8; of an animation the
    first frame counts.

    Args:
        encoded: the whole file.
        max_pixels: most pixels (width x height) accepted; checked before anything is decoded.
        formats: names of the accepted formats in lower case.
        auto_orient: turn the picture upright as its EXIF data says.

    Returns:
        (H, W, 3) uint8 BGR, read-only.

    Raises:
        ImageError: the payload is empty, no picture, or damaged.
        ImageFormatError: its format is known but not accepted.
        ImageTooLargeError: it has too many pixels, or would take far longer than they need.
    """
    view = memoryview(encoded)
    format_ = _find_format(view, formats)
    try:
        width, height = format_.size(view)
        check_pixels(width, height, max_pixels)
        stripped = format_.strip(view)
        if stripped.scans * width * height > _MAX_SCANS * max_pixels:
            raise ImageTooLargeError(
                f"The picture of {width} x {height} is stored in {stripped.scans} scans, which "
                "would take too long to decode. Save it as a baseline JPEG."
            )
        decoded = _decode_png(stripped) if format_.name == "PNG" else _decode(stripped)
    except (struct.error, LookupError, ValueError, SyntaxError, OSError, cv2.error) as error:
        raise ImageError(
            f"The picture cannot be decoded: its {format_.name} data is truncated, corrupt or of "
            "a kind that is not supported."
        ) from error
    image = _turned(decoded, stripped.orientation) if auto_orient else decoded
    image.setflags(write=False)
    return image


def is_picture_file(encoded: bytes | bytearray | memoryview) -> bool:
    """Whether ``encoded`` begins like a file of a known format, accepted or not."""
    patterns = (*(format_.magic for format_ in FORMATS), *UNREADABLE.values())
    return any(pattern.match(encoded) for pattern in patterns)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a size that no picture has, or more pixels than the operator allows.

    Raises:
        ValueError: there are no pixels.
        ImageTooLargeError: there are too many.
    """
    if min(width, height) < 1:
        raise ValueError(f"{width} x {height} is no size")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"The picture has too many pixels: {width} x {height} is {width * height}, and this "
            f"server accepts {max_pixels}. Send a smaller one."
        )
    if max(width, height) > _MAX_SIDE:
        raise ImageTooLargeError(
            f"The picture of {width} x {height} pixels has a side of more than {_MAX_SIDE}. Send "
            "it in parts."
        )


def _find_format(view: memoryview, formats: Collection[str]) -> ImageFormat:
    if not view:
        raise ImageError("The picture is empty: the payload has no bytes.")
    accepted = [format_ for format_ in FORMATS if format_.name.lower() in formats]
    advice = f"Send a picture as {', '.join(format_.name for format_ in accepted)}."
    for format_ in FORMATS:
        if format_.magic.match(view):
            if format_ in accepted:
                return format_
            raise ImageFormatError(
                f"The format {format_.name} is switched off on this server. {advice} Or have "
                f"{format_.name.lower()!r} added to the setting image_formats."
            )
    for name, magic in UNREADABLE.items():
        if magic.match(view):
            raise ImageFormatError(
                f"The payload is {name}, which this server cannot read. {advice}"
            )
    raise ImageError(
        f"The payload is no picture of a known format; it starts with {bytes(view[:4])!r}. {advice}"
    )


def _decode(file: Stripped) -> NDArray[np.uint8]:
    # Without the flag OpenCV turns TIFF only, whatever is asked.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(file.data, np.uint8), flags)
    if decoded is None:
        raise ValueError("refused by the decoder")
    return np.asarray(decoded, np.uint8)


def _decode_png(file: Stripped) -> NDArray[np.uint8]:
    """By Pillow, which stops inflating at the last pixel. OpenCV inflates whatever follows it."""
    from PIL import Image as pillow  # loaded when the first PNG comes

    pillow.MAX_IMAGE_PIXELS = None  # checked by us
    with pillow.open(io.BytesIO(file.data), formats=["PNG"]) as picture:
        if picture.mode.startswith("I"):  # grey of 16 bits
            grey = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
        coloured = picture.convert("RGB") if picture.mode not in ("RGB", "RGBA") else picture
        pixels = np.frombuffer(coloured.tobytes("raw", "BGR"), np.uint8)
    return pixels.reshape(picture.height, picture.width, 3)


def _turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    transposed, mirrored = _TURNS.get(orientation, (False, None))
    turned = cv2.transpose(image) if transposed else image
    return np.asarray(turned if mirrored is None else cv2.flip(turned, mirrored), np.uint8)
