"""Encoded pictures to pixels, never allocating more pixels than the operator allows.

OpenCV decodes. Before it may, the size is read from the file's own header: a few kilobytes can
announce gigabytes of pixels. A parser below need not be more tolerant than the decoder, but it
must never see a smaller picture than the decoder does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from edge_server.errors import ImageError
from edge_server.vision.predictions import Image

# OpenCV would write a line to stderr for every broken picture; the caller gets an error instead.
# Version 5 moved the function.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
_set_log_level(0)

Size = tuple[int, int]


class ImageFormat(NamedTuple):
    """A file format: its name, its first bytes and how its header tells width and height."""

    name: str
    magic: re.Pattern[bytes]
    size: Callable[[memoryview], Size]


def decode_image(
    encoded: bytes | bytearray | memoryview, *, max_pixels: int, auto_orient: bool = True
) -> Image:
    """Decode a picture file of any accepted format.

    Alpha is dropped, grey becomes three equal channels, 16 bits become 8; of an animation the
    first frame counts.

    Args:
        encoded: the whole file; it is not copied.
        max_pixels: most pixels (width x height) accepted; checked before anything is decoded.
        auto_orient: turn the picture upright as its EXIF data says.

    Returns:
        (H, W, 3) uint8 BGR, read-only.

    Raises:
        ImageError: the payload is empty, of no accepted format, damaged, or has too many pixels.
    """
    view = memoryview(encoded)
    name, (width, height) = _read_header(view)
    if width * height > max_pixels:
        raise ImageError(
            f"The picture has too many pixels: {width} x {height} is {width * height}, and this "
            f"server accepts {max_pixels}. Send a smaller one."
        )
    flags = cv2.IMREAD_COLOR if auto_orient else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(view, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(_damaged(name)) from error
    if decoded is None:
        raise ImageError(_damaged(name))
    image = np.asarray(decoded, np.uint8)
    image.setflags(write=False)
    return image


def find_format(encoded: bytes | bytearray | memoryview) -> ImageFormat | None:
    """The accepted format that ``encoded`` begins like, None when it is none of them."""
    return next((format_ for format_ in _FORMATS if format_.magic.match(encoded)), None)


def _read_header(view: memoryview) -> tuple[str, Size]:
    if not view:
        raise ImageError("The picture is empty: the payload has no bytes.")
    found = find_format(view)
    if found is None:
        names = ", ".join(format_.name for format_ in _FORMATS)
        raise ImageError(
            f"The payload is no picture of an accepted format ({names}); "
            f"it starts with {bytes(view[:4])!r}."
        )
    try:
        size = found.size(view)
    except (struct.error, LookupError, ValueError) as error:
        raise ImageError(_damaged(found.name)) from error
    if min(size) < 1:
        raise ImageError(_damaged(found.name))
    return found.name, size


def _damaged(name: str) -> str:
    return (
        f"The picture cannot be decoded: its {name} data is truncated, corrupt or of a kind that "
        "is not supported."
    )


_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
# Tables and extensions share the number range of the frame headers (SOF).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))
_JPEG_SCAN = 0xDA
_JPEG_END = b"\xff\xd9"
# A long colour profile takes some hundred segments; a hostile file could hold millions.
_JPEG_MAX_SEGMENTS = 4096


def _jpeg_size(view: memoryview) -> Size:
    position = 2
    for _ in range(_JPEG_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(view, position)
        if found is None or found[1][0] == _JPEG_SCAN:
            break
        marker, position = found[1][0], found.end()
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", view, position + 3)
            _check_jpeg_end(view, position)
            return width, height
        if marker not in _JPEG_BARE_MARKERS:
            position += struct.unpack_from(">H", view, position)[0]
    raise ValueError("no frame header")


def _check_jpeg_end(view: memoryview, start: int) -> None:
    """Refuse a truncated JPEG: OpenCV 4.10 fills what is missing with grey."""
    if _JPEG_END not in bytes(view[-64:]) and not re.compile(_JPEG_END).search(view, start):
        raise ValueError("no end marker")


def _png_size(view: memoryview) -> Size:
    if bytes(view[12:16]) != b"IHDR":
        raise ValueError("IHDR is not the first chunk")
    width, height = struct.unpack_from(">II", view, 16)
    return width, height


def _bmp_size(view: memoryview) -> Size:
    (header_bytes,) = struct.unpack_from("<I", view, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", view, 18)
    return width, abs(height)  # a negative height means that rows go from top to bottom


def _gif_size(view: memoryview) -> Size:
    width, height = struct.unpack_from("<HH", view, 6)
    return width, height


def _webp_size(view: memoryview) -> Size:
    chunk = bytes(view[12:16])
    if chunk == b"VP8X":  # the canvas; three bytes each, minus one
        width, height = struct.unpack_from("<I", view, 24)[0], struct.unpack_from("<I", view, 26)[0]
        return (width & 0xFFFFFF) + 1, (height >> 8) + 1
    if chunk == b"VP8L":  # lossless; 14 bits each, minus one
        (bits,) = struct.unpack_from("<I", view, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":  # lossy; 14 bits each, above them a scale for display
        width, height = struct.unpack_from("<HH", view, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no image chunk")


_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 322, 323
_TIFF_NUMBERS = {3: "H", 4: "I"}


def _tiff_size(view: memoryview) -> Size:
    order = "<" if view[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(f"{order}I", view, 4)
    (entries,) = struct.unpack_from(f"{order}H", view, directory)
    sizes = dict.fromkeys((_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT), 0)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", view, entry)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT):
            (value,) = struct.unpack_from(f"{order}{_TIFF_NUMBERS[kind]}", view, entry + 8)
            sizes[tag] = max(value, sizes.get(tag, 0))
    # The decoder allocates whole tiles, which may be larger than the picture.
    width = max(sizes[_TIFF_WIDTH], sizes[_TIFF_TILE_WIDTH])
    return width, max(sizes[_TIFF_HEIGHT], sizes[_TIFF_TILE_HEIGHT])


_FORMATS = (
    ImageFormat("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg_size),
    ImageFormat("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size),
    ImageFormat("BMP", re.compile(rb"BM"), _bmp_size),
    ImageFormat("GIF", re.compile(rb"GIF8[79]a"), _gif_size),
    ImageFormat("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp_size),
    ImageFormat("TIFF", re.compile(rb"II\*\0|MM\0\*"), _tiff_size),
)
