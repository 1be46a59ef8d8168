"""Picture files put together byte by byte, among them those that would bring a decoder down.

``BOMBS`` is the table: every file is small or says little, and costs an unwary reader seconds or
gigabytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

# The size of the bombs that stay below the limit of 64 megapixels.
WIDE = 8000
ORIENTATION, DESCRIPTION = 0x0112, 0x010E


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, depth: int = 8, color_type: int = 2) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", fields)


def png_pixels(rows: Iterable[Sequence[int]]) -> bytes:
    """The data of IDAT for rows of packed bytes, none of them filtered."""
    return zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))


def png(
    width: int,
    height: int,
    depth: int,
    color_type: int,
    rows: Iterable[Sequence[int]],
    *,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of any mode, with more chunks ``before`` and ``after`` its pixels."""
    head = png_header(width, height, depth, color_type)
    return b"".join(
        (head, before, png_chunk(b"IDAT", png_pixels(rows)), after, png_chunk(b"IEND", b""))
    )


def jpeg_segment(marker: int, data: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def jpeg_scan(components: Iterable[int], start: int = 0, end: int = 63, bits: int = 0) -> bytes:
    """The header of a scan; without data behind it, it decodes to zeros."""
    chosen = bytes(byte for number in components for byte in (number, 0))
    return jpeg_segment(0xDA, bytes((len(chosen) // 2,)) + chosen + bytes((start, end, bits)))


def jpeg(
    width: int,
    height: int,
    *scans: bytes,
    frame: int = 0xC0,
    components: int = 3,
    before: bytes = b"",
) -> bytes:
    """A JPEG with ``frame`` as its SOF marker and more segments ``before`` that."""
    numbers = range(1, components + 1)
    return b"".join(
        (
            b"\xff\xd8",
            before,
            jpeg_segment(0xDB, b"\0" + bytes([8] * 64)),
            jpeg_segment(
                frame,
                struct.pack(">BHHB", 8, height, width, components)
                + b"".join(bytes((number, 0x11, 0)) for number in numbers),
            ),
            jpeg_segment(0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))),
            jpeg_segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
            *(scans or (jpeg_scan(numbers),)),
            b"\xff\xd9",
        )
    )


def cmyk_jpeg(ink: Sequence[int]) -> bytes:
    """An 8 x 8 JPEG of four components (Adobe's inverted CMYK), one flat value each."""

    def bits_of(value: int) -> str:
        size = abs(value).bit_length()
        low = value if value >= 0 else value + (1 << size) - 1
        return f"{size:04b}" + (f"{low:0{size}b}" if size else "") + "0"

    stream = "".join(bits_of(value - 128) for value in ink)
    stream += "1" * (-len(stream) % 8)
    data = bytes(int(stream[at : at + 8], 2) for at in range(0, len(stream), 8))
    scan = jpeg_scan(range(1, 5)) + data.replace(b"\xff", b"\xff\0")
    adobe = jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
    return jpeg(8, 8, scan, components=4, before=adobe)


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    data = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data


def webp_canvas(width: int, height: int, flags: int = 0) -> bytes:
    sizes = (struct.pack("<I", size - 1)[:3] for size in (width, height))
    return webp_chunk(b"VP8X", struct.pack("<I", flags) + b"".join(sizes))


def webp_frame(picture: bytes, width: int, height: int) -> bytes:
    """A frame of an animation at the top left; ``picture`` is an image chunk or several."""
    sizes = (struct.pack("<I", size - 1)[:3] for size in (width, height))
    return webp_chunk(b"ANMF", bytes(6) + b"".join(sizes) + b"\x64\0\0\0" + picture)


# Lossless, 8 x 8, one colour: five codes of one symbol each, and then no bit per pixel.
FLAT_WEBP = webp_chunk(b"VP8L", bytes.fromhex("2f07c0010007509ef294a7ff8188e87f00"))


def bmp(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    palette = bytes(range(256)) * 4 if bits == 8 else b""
    start = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


def gif(width: int, height: int, *frames: bytes) -> bytes:
    """A black and white GIF; a frame is the LZW code of its 2 x 1 pixels."""
    blocks = (
        b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 1, 0) + b"\2\2" + code + b"\0" for code in frames
    )
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b"".join(blocks) + b"\x3b"


def tiff(*entries: tuple[int, int, int], order: str = "<", following: int = 0) -> bytes:
    """A TIFF header, which EXIF data is too: a directory of (tag, type, value) and a pointer."""
    body = struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, value in entries:
        number = struct.pack(f"{order}{'H' if kind == 3 else 'I'}", value)
        body += struct.pack(f"{order}HHI", tag, kind, 1) + number.ljust(4, b"\0")
    return (b"II*\0" if order == "<" else b"MM\0*") + body + struct.pack(f"{order}I", following)


def exif_of_long_texts(count: int, length: int) -> bytes:
    """So many descriptions, each of them the same ``length`` bytes."""
    entry = struct.pack("<HHII", DESCRIPTION, 2, length, 14 + 12 * count)
    return b"II*\0" + struct.pack("<IH", 8, count) + entry * count + bytes(4) + b"A" * length


EXIF_LOOP = tiff((0x8769, 4, 8), (ORIENTATION, 3, 6), following=8)


class Bomb(NamedTuple):
    """A file and the HTTP status it deserves."""

    name: str
    make: Callable[[], bytes]
    status: int


def small_png(before: bytes = b"", after: bytes = b"") -> bytes:
    return png(8, 8, 8, 2, [bytes(24)] * 8, before=before, after=after)


def _inflating(kind: bytes, head: bytes) -> bytes:
    """8 MB of zeros in 8 KB, a thousand times: what libpng permits."""
    return png_chunk(kind, head + zlib.compress(bytes(7_900_000), 9)) * 1000


def _png_frames(width: int, height: int, count: int) -> bytes:
    control = struct.pack(">II", count, 0)
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0))
    return png_chunk(b"acTL", control) + frame


def _late_png(size: int) -> bytes:
    """One pixel, and behind it ``size`` more bytes in the same compressed stream."""
    data = png_chunk(b"IDAT", zlib.compress(bytes(4 + size), 9))
    return png_header(1, 1) + data + png_chunk(b"IEND", b"")


def _marked(file: bytes) -> bytes:
    return file[:4] + b"ftypavif" + file[12:]


def _bmp_lines() -> bytes:
    return bmp(8, 8, 8, 1, b"\0\0" * 10_000_000 + b"\0\1")


_TOO_WIDE = [
    Bomb("PNG 16000 x 16000", lambda: png(16000, 16000, 1, 0, [bytes(2000)] * 16000), 413),
    Bomb("PNG 16000 x 16000, interlaced", lambda: png_header(16000, 16000)[:-5] + b"\1" * 5, 413),
    Bomb("PNG 16000 x 16000, 16 bits", lambda: png(16000, 16000, 16, 6, []), 413),
    Bomb("PNG 2^31 - 1 wide", lambda: png(2**31 - 1, 2**31 - 1, 8, 2, []), 413),
    Bomb("JPEG 65500 x 65500", lambda: jpeg(65500, 65500), 413),
    Bomb("JPEG 65500 x 65500, progressive", lambda: jpeg(65500, 65500, frame=0xC2), 413),
    Bomb("JPEG 65500 x 65500, CMYK", lambda: jpeg(65500, 65500, components=4), 413),
    Bomb("WebP 16383 x 16383, lossy", lambda: webp(_lossy(16383)), 413),
    Bomb("WebP 16384 x 16384, lossless", lambda: webp(_lossless(16384)), 413),
    Bomb("WebP 2^24 x 2^24 canvas", lambda: webp(webp_canvas(2**24, 2**24), FLAT_WEBP), 413),
    Bomb("BMP 2^31 - 1 wide", lambda: bmp(2**31 - 1, 2**31 - 1, 24, 0, b""), 413),
    Bomb("BMP 60000 x 60000, run lengths", lambda: bmp(60000, 60000, 8, 1, b"\0\1"), 413),
]
_OTHER_FORMATS = [
    Bomb("GIF 65535 x 65535", lambda: gif(65535, 65535, b"\x44\x0a"), 415),
    Bomb("TIFF 60000 x 60000", lambda: tiff((256, 4, 60000), (257, 4, 60000)), 415),
    Bomb("HEIC", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415),
    Bomb("PNG with a JPEG's first bytes", lambda: b"\xff\xd8\xff" + png_header(9, 9), 400),
    Bomb("JPEG with a PNG's first bytes", lambda: png_header(9, 9)[:8] + jpeg(9, 9), 400),
    Bomb("BMP with the marks of an AVIF", lambda: _marked(bmp(9, 9, 24, 0, bytes(300))), 400),
]
_METADATA = [
    Bomb("PNG, 1000 zTXt of 8 MB", lambda: small_png(_inflating(b"zTXt", b"k\0\0")), 200),
    Bomb(
        "PNG, 1000 iTXt of 8 MB behind the pixels",
        lambda: small_png(after=_inflating(b"iTXt", b"k\0\1\0\0\0")),
        200,
    ),
    Bomb("PNG, 1000 iCCP of 8 MB", lambda: small_png(_inflating(b"iCCP", b"k\0\0")), 200),
    Bomb("PNG, a chunk of 2 GB announced", lambda: small_png(b"\x7f\xff\xff\xffabCd"), 400),
    Bomb("PNG, 2 million chunks", lambda: small_png(png_chunk(b"gAMA", bytes(4)) * 2_000_000), 413),
    Bomb("PNG, 2 million empty IDAT", lambda: small_png(png_chunk(b"IDAT", b"") * 2_000_000), 413),
    Bomb("PNG, 400 MB behind its one pixel", lambda: _late_png(400_000_000), 200),
    Bomb("PNG, a second header", lambda: small_png(png_header(60000, 60000)[8:]), 200),
    Bomb("PNG, 2^31 - 1 frames", lambda: small_png(_png_frames(8, 8, 2**31 - 1)), 200),
    Bomb("PNG, a frame of 60000 x 60000", lambda: small_png(_png_frames(60000, 60000, 2)), 200),
    Bomb(
        "PNG, EXIF of 65535 long texts",
        lambda: small_png(png_chunk(b"eXIf", exif_of_long_texts(65535, 3_000_000))),
        200,
    ),
    Bomb("PNG, EXIF in a loop", lambda: small_png(png_chunk(b"eXIf", EXIF_LOOP)), 200),
    Bomb(
        "WebP, EXIF of 65535 long texts",
        lambda: webp(
            webp_canvas(8, 8, 8),
            FLAT_WEBP,
            webp_chunk(b"EXIF", exif_of_long_texts(65535, 3_000_000)),
        ),
        200,
    ),
    Bomb(
        "WebP, 3 million chunks",
        lambda: webp(webp_canvas(8, 8), webp_chunk(b"abcd", b"") * 3_000_000),
        413,
    ),
    Bomb(
        "WebP, 3 million chunks in a frame",
        lambda: webp(
            webp_canvas(8, 8, 2),
            webp_chunk(b"ANIM", bytes(6)),
            webp_frame(FLAT_WEBP + webp_chunk(b"abcd", b"") * 3_000_000, 8, 8),
        ),
        413,
    ),
    Bomb(
        "WebP, 200,000 frames",
        lambda: webp(
            webp_canvas(8, 8, 2),
            webp_chunk(b"ANIM", bytes(6)),
            webp_frame(FLAT_WEBP, 8, 8) * 200_000,
        ),
        200,
    ),
    Bomb(
        "JPEG, 480 EXIF segments",
        lambda: jpeg(
            8, 8, before=jpeg_segment(0xE1, b"Exif\0\0" + exif_of_long_texts(2900, 30_000)) * 480
        ),
        200,
    ),
    Bomb(
        "JPEG, EXIF in a loop",
        lambda: jpeg(8, 8, before=jpeg_segment(0xE1, b"Exif\0\0" + EXIF_LOOP)),
        200,
    ),
    Bomb(
        "JPEG, 7 million segments", lambda: jpeg(8, 8, before=jpeg_segment(0xE1) * 7_000_000), 413
    ),
    Bomb(
        "JPEG, 7 million segments behind the pixels",
        lambda: jpeg(8, 8, jpeg_scan((1, 2, 3)) + jpeg_segment(0xE1) * 7_000_000),
        413,
    ),
]
_WORK = [
    Bomb(
        "JPEG 8000 x 8000, 1000 progressive scans",
        lambda: jpeg(
            WIDE, WIDE, jpeg_scan((1, 2, 3), 0, 0), *([jpeg_scan((1,), 1, 63)] * 1000), frame=0xC2
        ),
        413,
    ),
    Bomb(
        "JPEG 8000 x 8000, 100 scans of one colour",
        lambda: jpeg(WIDE, WIDE, *([jpeg_scan((1,))] * 100)),
        413,
    ),
    Bomb(
        "JPEG 8 x 8, a million progressive scans",
        lambda: jpeg(
            8, 8, jpeg_scan((1, 2, 3), 0, 0), jpeg_scan((1,), 1, 63) * 1_000_000, frame=0xC2
        ),
        413,
    ),
    Bomb("BMP, 10 million ends of line", _bmp_lines, 200),
    Bomb("BMP 8000 x 8000 without pixels", lambda: bmp(WIDE, WIDE, 24, 0, b""), 400),
    Bomb("BMP 64,000,000 x 1", lambda: bmp(64_000_000, 1, 8, 1, b"\0\1"), 413),
    Bomb("PNG 1 x 64,000,000", lambda: png(1, 64_000_000, 8, 0, [b"\0"] * 100), 413),
    Bomb("PNG 8000 x 8000 without pixels", lambda: png(WIDE, WIDE, 8, 2, []), 400),
]


def _lossy(size: int) -> bytes:
    sizes = struct.pack("<HH", size, size)
    return webp_chunk(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + sizes)


def _lossless(size: int) -> bytes:
    bits = (size - 1) | (size - 1) << 14
    return webp_chunk(b"VP8L", b"\x2f" + struct.pack("<I", bits))


BOMBS = (*_TOO_WIDE, *_OTHER_FORMATS, *_METADATA, *_WORK)
