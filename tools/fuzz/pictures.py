"""Small picture files of every kind, and what may become of them: the same for the same number."""

from __future__ import annotations

import contextlib
import io
import random
import re
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pictures import (
    FLAT_WEBP,
    ORIENTATION,
    bmp,
    cmyk_jpeg,
    jpeg_segment,
    png,
    png_chunk,
    tiff,
    webp,
    webp_canvas,
    webp_chunk,
    webp_frame,
)

Mutation = Callable[[random.Random, bytearray], None]

# Where the parts of a file begin: markers of a JPEG, chunks of a PNG or WebP, fields of a BMP.
_PARTS = re.compile(
    rb"\xff[\xc0-\xfe]|(?<=....)(?:IHDR|PLTE|tRNS|IDAT|IEND|eXIf|tEXt|acTL|fcTL|fdAT)"
    rb"|VP8[ XL]|ANIM|ANMF|ALPH|EXIF|\x28\0\0\0",
    re.DOTALL,
)
_NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000)
_NUMBERS += (0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_CHANGES = (1, 1, 1, 2, 2, 3, 6)


def mutated_picture(chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of ``seeds`` with one to six changes, mostly few: most of many would hit no pixel."""
    file = bytearray(chance.choice(seeds))
    if chance.random() < 0.05:
        other = chance.choice(seeds)
        file = file[: chance.randrange(len(file))] + other[chance.randrange(len(other)) :]
    for _ in range(chance.choice(_CHANGES)):
        if file:
            chance.choice(_MUTATIONS)(chance, file)
    if chance.random() < 0.7:  # else next to no PNG would get as far as its pixels
        _repair_checksums(file)
    return bytes(file)


def picture_seeds() -> tuple[bytes, ...]:
    """Every kind of file that is accepted, each of a few hundred bytes, and ``.npy``."""
    width, height = 40, 24
    image = np.full((height, width, 3), 90, np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[4:12, 6:20] = (20, 30, 240)
    return (*_jpegs(image), *_pngs(image), *_webps(image), *_bitmaps(image), _npy(image))


def _jpegs(image: NDArray[np.uint8]) -> list[bytes]:
    plain = _encoded(image, ".jpg")
    exif = jpeg_segment(0xE1, b"Exif\0\0" + tiff((271, 4, 1), (ORIENTATION, 3, 6), following=8))
    return [
        plain,
        _encoded(image, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        _encoded(image, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        _encoded(image, ".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111),
        _encoded(image[..., 0], ".jpg"),
        plain[:2] + exif + plain[2:],
        cmyk_jpeg((10, 200, 90, 255)),
    ]


def _pngs(image: NDArray[np.uint8]) -> list[bytes]:
    plain = _encoded(image, ".png")
    colours = {depth: png_chunk(b"PLTE", bytes(range(3 << depth))) for depth in (1, 2, 4)}
    packed = {depth: [[0x1B] * (depth // 2 or 1)] * 4 for depth in (1, 2, 4)}
    tiny = [[1, 3]] * 4
    return [
        plain,
        *(png(4, 4, depth, 0, rows) for depth, rows in packed.items()),
        *(png(4, 4, depth, 3, rows, before=colours[depth]) for depth, rows in packed.items()),
        png(2, 4, 8, 3, tiny, before=colours[2] + png_chunk(b"tRNS", b"\0\x80")),
        _encoded(image[..., 0], ".png"),
        _encoded(image[..., 0].astype(np.uint16) * 257, ".png"),
        _encoded(image.astype(np.uint16) * 257, ".png"),
        _encoded(np.dstack((image, image[..., 0])), ".png"),
        png(1, 4, 8, 4, tiny),
        png(4, 4, 16, 2, [[9] * 24] * 4),
        # Interlaced: eight rows are the seven passes over 4 x 4 pixels that are not empty.
        _interlaced(),
        plain[:-12] + png_chunk(b"eXIf", tiff((ORIENTATION, 3, 8))) + plain[-12:],
        plain[:33] + png_chunk(b"tEXt", b"Title\0a picture") + plain[33:],
        _saved(image, "PNG", save_all=True, append_images=[Image.fromarray(image[::-1])]),
    ]


def _interlaced() -> bytes:
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2)]  # width and height of those that hold pixels
    rows = [bytes(3 * width) for width, height in passes for _ in range(height)]
    file = bytearray(png(4, 4, 8, 2, rows))
    file[28] = 1
    _repair_checksums(file)
    return bytes(file)


def _webps(image: NDArray[np.uint8]) -> list[bytes]:
    lossy = _encoded(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, 40)
    clear = np.dstack((image, image[..., 0]))
    exif = webp_chunk(b"EXIF", tiff((ORIENTATION, 3, 3)))
    return [
        lossy,
        _encoded(image, ".webp"),
        _encoded(clear, ".webp"),
        _encoded(clear, ".webp", cv2.IMWRITE_WEBP_QUALITY, 40),
        webp(webp_canvas(40, 24, 8), lossy[12:], exif),
        webp(webp_canvas(9, 9, 2), webp_chunk(b"ANIM", bytes(6)), webp_frame(FLAT_WEBP, 8, 8)),
        _saved(image, "WEBP", save_all=True, append_images=[Image.fromarray(image[::-1])]),
    ]


def _bitmaps(image: NDArray[np.uint8]) -> list[bytes]:
    runs = b"\4\1\0\0\2\7\2\3\0\0\0\3\5\6\7\0\0\0\0\2\1\1\2\2\0\1"
    small = Image.fromarray(image[:8, :8])
    old = b"BM" + struct.pack("<IHHIIHHHH", 74, 0, 0, 26, 12, 4, 4, 1, 24) + bytes(48)
    return [
        _encoded(image[:8], ".bmp"),
        _encoded(np.dstack((image, image[..., 0]))[:8], ".bmp"),
        _saved(image[:8, :8, 0], "BMP"),
        *(_saved(np.asarray(small.convert(mode)), "BMP") for mode in ("1", "L")),
        bmp(4, 4, 8, 1, runs),
        bmp(4, 4, 16, 0, bytes(range(32))),
        bmp(4, -4, 32, 0, bytes(range(64))),
        old,
    ]


def _npy(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.save(file, image[:4, :4])
    return file.getvalue()


def _encoded(image: NDArray[np.uint8], extension: str, *options: int) -> bytes:
    return bytes(cv2.imencode(extension, image, list(options))[1])


def _saved(image: NDArray[np.uint8], name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, name, **options)
    return file.getvalue()


def _change_what_png_compresses(chance: random.Random, file: bytearray) -> None:
    """Filter types and pixels, which a checksum and a compressed stream would guard."""
    start = file.find(b"IDAT")
    if start < 4:
        return
    (length,) = struct.unpack_from(">I", file, start - 4)
    with contextlib.suppress(zlib.error):
        pixels = bytearray(zlib.decompress(file[start + 4 : start + 4 + length]))
        for _ in range(chance.choice((1, 3, 30)) if pixels else 0):
            chance.choice((_flip_a_bit, _set_a_byte, _copy_a_block))(chance, pixels)
        file[start - 4 : start + 8 + length] = png_chunk(b"IDAT", zlib.compress(pixels))


def _flip_a_bit(chance: random.Random, file: bytearray) -> None:
    file[_place(chance, file)] ^= 1 << chance.randrange(8)


def _set_a_byte(chance: random.Random, file: bytearray) -> None:
    file[_place(chance, file)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _set_a_number(chance: random.Random, file: bytearray) -> None:
    _write_number(chance, file, _place(chance, file))


def _set_a_field(chance: random.Random, file: bytearray) -> None:
    """A length or size: those stand close to where a part of the file begins."""
    parts = [found.start() for found in _PARTS.finditer(file)]
    if parts:
        _write_number(chance, file, max(0, chance.choice(parts) + chance.randint(-4, 16)))


def _move_a_part(chance: random.Random, file: bytearray) -> None:
    """Leave out, double or move what stands between the beginnings of two parts."""
    parts = [found.start() for found in _PARTS.finditer(file)]
    if len(parts) > 1:
        start, end = sorted(chance.sample(parts, 2))
        part = file[start:end]
        if chance.random() < 0.6:
            del file[start:end]
        if chance.random() < 0.6:
            place = min(chance.choice(parts), len(file))
            file[place:place] = part * chance.choice((1, 1, 1, 2, 50))


def _copy_a_block(chance: random.Random, file: bytearray) -> None:
    start, place = _place(chance, file), _place(chance, file)
    block = file[start : start + chance.randint(1, 32)]
    file[place : place + len(block)] = block


def _insert_a_block(chance: random.Random, file: bytearray) -> None:
    place = _place(chance, file)
    block = chance.choice((chance.randbytes(8), b"\0" * 16, b"\xff" * 16, bytes(file[:32])))
    file[place:place] = block


def _leave_out_a_block(chance: random.Random, file: bytearray) -> None:
    start = _place(chance, file)
    del file[start : start + chance.randint(1, 16)]


def _cut_off(chance: random.Random, file: bytearray) -> None:
    if chance.random() < 0.2:
        del file[chance.randrange(len(file)) :]


_MUTATIONS: tuple[Mutation, ...] = (
    _change_what_png_compresses,
    _flip_a_bit,
    _flip_a_bit,
    _set_a_byte,
    _set_a_number,
    _set_a_field,
    _set_a_field,
    _move_a_part,
    _copy_a_block,
    _insert_a_block,
    _leave_out_a_block,
    _cut_off,
)


def _place(chance: random.Random, file: bytearray) -> int:
    """Anywhere; every other time among the first bytes, where headers are."""
    first = min(4, len(file) - 1)  # a file without its first bytes gets nowhere
    return chance.randrange(first, max(first + 1, min(len(file), chance.choice((64, len(file))))))


def _write_number(chance: random.Random, file: bytearray, place: int) -> None:
    size, order = chance.choice((2, 3, 4)), chance.choice(("big", "little"))
    number = chance.choice((*_NUMBERS, chance.randrange(200)))
    field = (number % (1 << 8 * size)).to_bytes(size, order)
    file[place : place + size] = field


def _repair_checksums(file: bytearray) -> None:
    if not file.startswith(b"\x89PNG"):
        return
    position = 8
    while position + 12 <= len(file):
        (length,) = struct.unpack_from(">I", file, position)
        end = position + 8 + length
        if end + 4 > len(file):
            return
        struct.pack_into(">I", file, end, zlib.crc32(file[position + 4 : end]))
        position = end + 4
