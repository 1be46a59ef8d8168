"""Pixels that need no decoding: raw frames, and arrays in NumPy's file format. Neither is copied.

Arrays come as ``.npy``, never as pickles: loading a pickle can run code of the sender's choice.
"""

from __future__ import annotations

import re
import struct

import cv2
import numpy as np

from edge_server.errors import ImageError
from edge_server.images.decode import check_pixels
from edge_server.vision.predictions import Image

# Channels of each colour order, and what makes BGR of it.
_COLOURS = {
    "BGR": (3, None),
    "RGB": (3, cv2.COLOR_RGB2BGR),
    "GRAY": (1, cv2.COLOR_GRAY2BGR),
    "BGRA": (4, cv2.COLOR_BGRA2BGR),
    "RGBA": (4, cv2.COLOR_RGBA2BGR),
}

_NPY_MAGIC = b"\x93NUMPY"
# Header length and first byte of the header for each major version; all say the same of uint8.
_NPY_VERSIONS = {1: ("<H", 10), 2: ("<I", 12), 3: ("<I", 12)}
_NPY_MAX_HEADER = 1024
_NPY_TYPE = re.compile(rb"'descr':\s*'([^']*)'")
_NPY_SHAPE = re.compile(rb"'shape':\s*\(([\d\s,]*)\)")
_NPY_ORDER = re.compile(rb"'fortran_order':\s*False")


def decode_pixels(
    body: bytes | bytearray | memoryview, *, height: int, width: int, colour: str, max_pixels: int
) -> Image:
    """A raw frame, row by row from the top, without gaps.

    Args:
        body: the pixels, one byte per channel.
        height: rows.
        width: pixels of a row.
        colour: the order of the channels: ``BGR``, ``RGB``, ``GRAY``, ``BGRA`` or ``RGBA``.
        max_pixels: most pixels accepted.

    Returns:
        (H, W, 3) uint8 BGR, read-only; of ``BGR`` a view of ``body``.

    Raises:
        ImageError: the colour order is unknown, or size and bytes do not agree.
        ImageTooLargeError: there are too many pixels.
    """
    if colour not in _COLOURS:
        raise ImageError(f"The colour order {colour[:40]!r} is not one of {', '.join(_COLOURS)}.")
    try:
        check_pixels(width, height, max_pixels)
    except ValueError as error:
        raise ImageError(f"A frame cannot have {height} rows of {width} pixels.") from error
    channels, conversion = _COLOURS[colour]
    pixels = np.frombuffer(body, np.uint8)
    if pixels.size != height * width * channels:
        raise ImageError(
            f"{height} rows of {width} pixels in {colour} are {height * width * channels} bytes, "
            f"but {pixels.size} were sent."
        )
    image = pixels.reshape(height, width, channels)
    if conversion is not None:
        image = np.asarray(cv2.cvtColor(image, conversion), np.uint8)
    image.setflags(write=False)
    return image


def is_npy(body: bytes | bytearray | memoryview) -> bool:
    """Whether ``body`` begins like an array in NumPy's file format."""
    return bytes(body[: len(_NPY_MAGIC)]) == _NPY_MAGIC


def decode_npy(body: bytes | bytearray | memoryview, *, max_pixels: int) -> Image:
    """A picture as ``numpy.save`` writes it: uint8 of (H, W, 3) in BGR, (H, W, 1) or (H, W).

    The header is read by us rather than by NumPy, which evaluates it as a Python expression. Its
    layout: numpy.lib.format, versions 1.0 to 3.0.

    Args:
        body: the whole file.
        max_pixels: most pixels accepted.

    Returns:
        (H, W, 3) uint8 BGR, read-only; of three channels a view of ``body``.

    Raises:
        ImageError: it is no such array, or not complete.
        ImageTooLargeError: there are too many pixels.
    """
    view = memoryview(body)
    if not is_npy(view):
        raise ImageError(
            "An array must be sent in the .npy format, as numpy.save writes it, and in base64 "
            f"within JSON; this one starts with {bytes(view[:6])!r}. A pickle is refused, because "
            "loading it can run code."
        )
    try:
        length_format, start = _NPY_VERSIONS[view[6]]
        (length,) = struct.unpack_from(length_format, view, 8)
    except (LookupError, struct.error) as error:
        raise ImageError("The .npy header is truncated or of an unknown version.") from error
    header = bytes(view[start : start + min(length, _NPY_MAX_HEADER)])
    kind, shape = _NPY_TYPE.search(header), _NPY_SHAPE.search(header)
    dimensions = [int(size) for size in re.findall(rb"\d+", shape[1])] if shape else []
    channels = dimensions[2:] or [1]
    if (
        kind is None
        or kind[1].lstrip(b"|<>") != b"u1"
        or not _NPY_ORDER.search(header)
        or len(dimensions) not in (2, 3)
        or channels[0] not in (1, 3)
    ):
        raise ImageError(
            "The array must be uint8 in C order with the shape (H, W, 3) in BGR, (H, W, 1) or "
            f"(H, W); its header is {header.strip()[:200].decode('latin-1')!r}."
        )
    return decode_pixels(
        view[start + length :],
        height=dimensions[0],
        width=dimensions[1],
        colour="GRAY" if channels == [1] else "BGR",
        max_pixels=max_pixels,
    )
