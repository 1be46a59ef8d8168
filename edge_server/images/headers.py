"""Picture files before they are decoded: how large they are, and which of their bytes make pixels.

A few kilobytes can announce gigabytes of pixels, or keep a decoder busy for minutes with metadata.
So the size is read from the header, and the decoder is given nothing but what the pixels are made
of. A parser below need not be more tolerant than the decoder, but it must never see a smaller
picture than the decoder does.

All functions raise ``struct.error``, ``LookupError`` or ``ValueError`` for what cannot be read.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from edge_server.errors import ImageTooLargeError

Size = tuple[int, int]
Buffer = bytes | memoryview


class Stripped(NamedTuple):
    """A picture file without its metadata.

    Attributes:
        data: what the decoder needs.
        orientation: how the picture lies by its EXIF data, 1 to 8; 1 is upright.
        scans: how often the decoder goes over the whole picture.
    """

    data: Buffer
    orientation: int = 1
    scans: int = 1


class ImageFormat(NamedTuple):
    """A file format: its name, its first bytes, and how it is read before it is decoded.

    Attributes:
        name: as people write it; the setting ``image_formats`` has it in lower case.
        magic: matches the first bytes. No base64 text of a picture begins like one.
        size: width and height as the header tells them.
        strip: the file without its metadata.
    """

    name: str
    magic: re.Pattern[bytes]
    size: Callable[[memoryview], Size]
    strip: Callable[[memoryview], Stripped] = Stripped


_EXIF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_EXIF_ORIENTATION = 0x0112
_EXIF_MAX_ENTRIES = 512


def exif_orientation(exif: memoryview) -> int:
    """The orientation in EXIF data, 1 where there is none.

    Only the first directory is read and no pointer to another followed, so there are no loops.
    Layout: TIFF 6.0, section 2; value: Exif 2.32, section 4.6.4.
    """
    try:
        order = _EXIF_ORDERS[bytes(exif[:4])]
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(min(count, _EXIF_MAX_ENTRIES)):
            tag, value = struct.unpack_from(f"{order}H6xH", exif, directory + 2 + 12 * entry)
            if tag == _EXIF_ORIENTATION:
                return int(value)
    except (KeyError, struct.error):
        pass  # a picture with damaged EXIF data is a picture all the same
    return 1


# Restart markers and what stands between segments are passed over, as the decoder does.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
# Tables and extensions share the number range of the frame headers (SOF).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END, _JPEG_SCAN, _JPEG_APP1 = 0xD9, 0xDA, 0xE1
# Comments and application segments, but for JFIF's and Adobe's: those say what the colours mean.
_JPEG_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE)) - {0xE0, 0xEE}
# A long colour profile takes some hundred segments; a hostile file could hold millions.
_JPEG_MAX_SEGMENTS = 2048


def _jpeg_segments(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment, to the end of the picture (ITU T.81, annex B)."""
    position = 2
    for _ in range(_JPEG_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(view, position)
        if found is None:
            raise ValueError("no end marker")
        marker, position = found[1][0], found.end()
        if marker != _JPEG_END:
            position += struct.unpack_from(">H", view, position)[0]
        yield marker, found.start(), position
        if marker == _JPEG_END:
            return
    raise ImageTooLargeError(
        f"The JPEG has more than {_JPEG_MAX_SEGMENTS} segments. Save it again without metadata."
    )


def _jpeg_size(view: memoryview) -> Size:
    for marker, start, _ in _jpeg_segments(view):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", view, start + 5)
            return width, height
        if marker == _JPEG_SCAN:
            break
    raise ValueError("no frame header")


def _strip_jpeg(view: memoryview) -> Stripped:
    parts, kept_from, end, scans = [], 0, 0, 0
    exif = view[:0]
    for marker, start, end in _jpeg_segments(view):
        scans += marker == _JPEG_SCAN
        if marker in _JPEG_METADATA:
            parts.append(view[kept_from:start])
            kept_from = end
        if marker == _JPEG_APP1 and not exif and bytes(view[start + 4 : start + 10]) == b"Exif\0\0":
            exif = view[start + 10 : end]
    parts.append(view[kept_from:end])
    return Stripped(b"".join(parts), exif_orientation(exif), scans)


_PNG_CHUNK = struct.Struct(">I4s")
_PNG_HEADER_END = 33
# Encoders write 8 KiB or more at a time.
_PNG_MAX_CHUNKS = 8192


def _png_size(view: memoryview) -> Size:
    if bytes(view[8:16]) != b"\0\0\0\x0dIHDR":
        raise ValueError("IHDR is not the first chunk")
    width, height = struct.unpack_from(">II", view, 16)
    return width, height


def _strip_png(view: memoryview) -> Stripped:
    """Header, palette and pixels: chunks are length, kind, data and checksum (PNG, section 5)."""
    parts, position, exif = [view[:_PNG_HEADER_END]], _PNG_HEADER_END, view[:0]
    for _ in range(_PNG_MAX_CHUNKS):
        length, kind = _PNG_CHUNK.unpack_from(view, position)
        start, position = position, position + length + 12
        if kind == b"eXIf":
            exif = view[start + 8 : position - 4]
        elif kind in (b"PLTE", b"IDAT", b"IEND"):
            parts.append(view[start:position])
        if kind == b"IEND":
            _check_checksums(parts[1:])
            return Stripped(b"".join(parts), exif_orientation(exif))
    raise ImageTooLargeError(
        f"The PNG has more than {_PNG_MAX_CHUNKS} chunks. Save it again without metadata."
    )


def _check_checksums(chunks: list[memoryview]) -> None:
    for chunk in chunks:
        if zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
            raise ValueError("wrong checksum")


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


_WEBP_CHUNK = struct.Struct("<4sI")
_WEBP_PIXELS = frozenset((b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"))
_WEBP_MAX_CHUNKS = 2048


def _webp_chunks(view: memoryview, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every chunk (RFC 9649, section 2.3)."""
    for _ in range(_WEBP_MAX_CHUNKS):
        if position >= len(view):
            return
        kind, length = _WEBP_CHUNK.unpack_from(view, position)
        start, position = position, position + 8 + length + length % 2
        yield kind, start, position
    raise ImageTooLargeError(
        f"The WebP has more than {_WEBP_MAX_CHUNKS} chunks. Save it again without metadata."
    )


def _strip_webp(view: memoryview) -> Stripped:
    """Canvas and pixels; of an animation the first frame."""
    (riff_bytes,) = struct.unpack_from("<I", view, 4)
    view = view[: 8 + riff_bytes]
    extended = bytes(view[12:16]) == b"VP8X"
    parts, exif = [], view[:0]
    for kind, start, end in _webp_chunks(view, 12):
        if kind == b"EXIF":
            exif = view[start + 8 : end]
        elif kind in _WEBP_PIXELS:
            parts.append(view[start:end])
        if kind == b"ANMF":
            for _ in _webp_chunks(view[:end], start + 24):
                pass  # counted: a frame has chunks of its own
        if kind == b"ANMF" or not extended:
            break
    data = b"".join(parts)
    header = struct.pack("<4sI4s", b"RIFF", 4 + len(data), b"WEBP")
    return Stripped(header + data, exif_orientation(exif))


def _bmp_size(view: memoryview) -> Size:
    (header_bytes,) = struct.unpack_from("<I", view, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", view, 18)
    return width, abs(height)  # a negative height means that rows go from top to bottom


def _gif_size(view: memoryview) -> Size:
    width, height = struct.unpack_from("<HH", view, 6)
    return width, height


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


def _magic(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


FORMATS = (
    ImageFormat("JPEG", _magic(rb"\xff\xd8\xff"), _jpeg_size, _strip_jpeg),
    ImageFormat("PNG", _magic(rb"\x89PNG\r\n\x1a\n"), _png_size, _strip_png),
    ImageFormat("WebP", _magic(rb"RIFF.{4}WEBP"), _webp_size, _strip_webp),
    # "BM" alone could be base64 text; the size of the header behind it could not.
    ImageFormat("BMP", _magic(rb"BM.{12}[\x0c\x28-\x80]\0\0\0"), _bmp_size),
    ImageFormat("GIF", _magic(rb"GIF8[79]a"), _gif_size),
    ImageFormat("TIFF", _magic(rb"II\*\0|MM\0\*"), _tiff_size),
)

# What people send and no server of ours reads. Recognised so that the answer can say so.
UNREADABLE = {
    "AVIF": _magic(rb"\0.{3}ftypavi[fs]"),
    "HEIC": _magic(rb"\0.{3}ftyp(hei|hev|mif1|msf1)"),
    "MP4 or MOV video": _magic(rb"\0.{3}ftyp"),
    "JPEG 2000": _magic(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "JPEG XL": _magic(rb"\0\0\0\x0cJXL |\xff\x0a"),
    "PNM": _magic(rb"P[1-7]\s"),
    "PDF": _magic(rb"%PDF-"),
    "SVG": _magic(rb"\s{0,9}(<\?xml[^>]{0,99}>\s{0,9})?<svg"),
}
