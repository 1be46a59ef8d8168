"""Encoded pictures to pixels: formats, modes, orientation, limits, damage."""

import base64
import io
import json
import random
import struct
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageOps

from benchmarks.pictures import (
    ORIENTATION,
    cmyk_jpeg,
    gif,
    jpeg_segment,
    png,
    png_chunk,
    tiff,
    webp,
    webp_canvas,
    webp_chunk,
)
from edge_server.errors import ImageError, ImageFormatError
from edge_server.images import decode
from edge_server.images.decode import DEFAULT_FORMATS, is_picture_file
from edge_server.images.headers import FORMATS as FILE_FORMATS

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "reference" / "load_exif_and_modes.json").read_text()
)
PLENTY = 10**6
SWITCHED_ON = DEFAULT_FORMATS | {"gif", "tiff"}
HAS_GIF = cv2.haveImageWriter("picture.gif")

FORMATS = {
    "jpeg": (".jpg", []),
    "progressive jpeg": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "png": (".png", []),
    "bmp": (".bmp", []),
    "lossless webp": (".webp", []),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 60]),
    "compressed tiff": (".tiff", []),
    "plain tiff": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
} | ({"gif": (".gif", [])} if HAS_GIF else {})
LOSSLESS = ["png", "bmp", "lossless webp", "compressed tiff", "plain tiff"]


def gradient(width=26, height=18):
    """A smooth picture that survives lossy formats: blue to the right, green downwards."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return image


decode_image = partial(decode.decode_image, max_pixels=PLENTY, formats=SWITCHED_ON)


def encoded_as(name, image=None):
    extension, options = FORMATS[name]
    return cv2.imencode(extension, gradient() if image is None else image, options)[1].tobytes()


def reference(name):
    return base64.b64decode(REFERENCE["inputs"][name])


@pytest.fixture
def no_decoding(monkeypatch):
    """Fails the test that decodes a pixel."""

    def decoded(*args):
        pytest.fail("the decoder was called")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    monkeypatch.setattr(pillow, "open", decoded)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_bgr(name):
    image = decode_image(encoded_as(name))
    assert image.shape == (18, 26, 3)
    assert image.dtype == np.uint8
    off = np.abs(image.astype(int) - gradient())
    assert off.max() == 0 if name in LOSSLESS else off.mean() < 20


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_decoded(kind):
    assert decode_image(kind(encoded_as("png"))).shape == (18, 26, 3)


def test_pixels_are_read_only():
    image = decode_image(encoded_as("png"))
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


@pytest.mark.parametrize(
    "case",
    REFERENCE["expected"]["jpeg"],
    ids=lambda case: f"disabled={case['disable_preproc_auto_orient']}",
)
def test_exif_orientation_is_applied_unless_switched_off(case):
    upright = not case["disable_preproc_auto_orient"]
    image = decode_image(reference("jpeg_base64"), auto_orient=upright)
    assert list(image.shape[:2]) == case["shape_hw"]
    tolerance = REFERENCE["tolerance"]["abs"]
    assert np.abs(image[1, 1].astype(int) - case["bgr_at_y1_x1"]).max() <= tolerance
    assert np.abs(image[-1, -1].astype(int) - case["bgr_at_last"]).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "expected"), [("rgba_png_base64", "rgba_bgr"), ("grey16_png_base64", "grey16_bgr")]
)
def test_modes_are_converted_as_the_reference_does(name, expected):
    image = decode_image(reference(name))
    assert np.abs(image.astype(int) - REFERENCE["expected"][expected]).max() <= 4


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param(png(2, 1, 8, 0, [[7, 250]]), [[7] * 3, [250] * 3], id="grey"),
        pytest.param(png(2, 1, 1, 0, [[0b01000000]]), [[0] * 3, [255] * 3], id="1 bit"),
        pytest.param(png(2, 1, 16, 0, [[18, 52, 255, 255]]), [[18] * 3, [255] * 3], id="16 bit"),
        pytest.param(png(1, 1, 16, 2, [[1, 9, 2, 9, 3, 9]]), [[3, 2, 1]], id="16 bit color"),
        pytest.param(png(2, 1, 8, 4, [[7, 0, 9, 9]]), [[7] * 3, [9] * 3], id="grey and alpha"),
        pytest.param(png(1, 1, 8, 2, [[1, 2, 3]]), [[3, 2, 1]], id="color"),
        pytest.param(png(1, 1, 8, 6, [[1, 2, 3, 0]]), [[3, 2, 1]], id="transparent color"),
        pytest.param(
            png(2, 1, 8, 3, [[1, 0]], before=png_chunk(b"PLTE", bytes((9, 8, 7, 1, 2, 3)))),
            [[3, 2, 1], [7, 8, 9]],
            id="palette",
        ),
        pytest.param(cmyk_jpeg((255, 255, 255, 255)), [[255] * 3] * 8, id="CMYK without ink"),
        pytest.param(cmyk_jpeg((0, 255, 255, 255)), [[255, 255, 0]] * 8, id="CMYK with cyan"),
        pytest.param(cmyk_jpeg((255, 255, 255, 40)), [[40] * 3] * 8, id="CMYK with black"),
    ],
)
def test_every_mode_becomes_three_channels_of_eight_bits(encoded, expected):
    image = decode_image(encoded)
    assert np.abs(image[0].astype(int) - expected).max() <= 1


def test_a_grey_jpeg_becomes_three_equal_channels():
    grey = cv2.imencode(".jpg", np.full((8, 8), 90, np.uint8))[1].tobytes()
    image = decode_image(grey)
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - 90).max() <= 2


@pytest.mark.skipif(not HAS_GIF, reason="this OpenCV reads no GIF")
def test_of_an_animation_the_first_frame_counts():
    image = decode_image(gif(2, 1, b"\x44\x0a", b"\x0c\x0a"))
    assert image.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_a_bitmap_stored_from_top_to_bottom_is_accepted():
    flipped = bytearray(encoded_as("bmp"))
    struct.pack_into("<i", flipped, 22, -18)
    image = decode_image(flipped, max_pixels=26 * 18)
    assert np.array_equal(image, gradient()[::-1])


def test_a_big_endian_tiff_is_accepted():
    entries = [(256, 3, 2), (257, 4, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    header = tiff(*entries, (273, 4, 122), (277, 3, 1), (278, 3, 1), (279, 4, 2), order=">")
    image = decode_image(header + b"\x05\xfa", max_pixels=2)
    assert image.tolist() == [[[5] * 3, [250] * 3]]


def test_stray_bytes_between_jpeg_segments_are_skipped_as_the_decoder_does():
    plain = encoded_as("jpeg")
    segment_end = 4 + struct.unpack_from(">H", plain, 4)[0]
    stray = plain[:segment_end] + b"\x01\x02\xff\x00\xff\xff" + plain[segment_end:]
    assert decode_image(stray, max_pixels=26 * 18).shape == (18, 26, 3)


def test_data_behind_the_end_of_a_jpeg_is_ignored():
    followed = encoded_as("jpeg") + b"\0\0\0\x18ftypmp42" * 100
    assert decode_image(followed).shape == (18, 26, 3)


def test_the_thumbnail_of_a_truncated_jpeg_is_not_taken_for_its_end():
    plain = encoded_as("jpeg")
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(plain) + 2) + plain
    whole = plain[:2] + thumbnail + plain[2:]
    assert decode_image(whole).shape == (18, 26, 3)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(whole[:-100])


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("name", FORMATS)
def test_one_pixel_too_many_is_refused_before_decoding(name):
    with pytest.raises(ImageError, match="26 x 18 is 468, and this server accepts 467"):
        decode_image(encoded_as(name), max_pixels=467)


@pytest.mark.parametrize("name", FORMATS)
def test_exactly_the_permitted_pixels_are_decoded(name):
    assert decode_image(encoded_as(name), max_pixels=468).size == 468 * 3


HUGE_JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04\0\0\xff\xc2\x00\x11\x08\xea\x60\xea\x60\x03"
    + b"\0" * 9
    + b"\xff\xd9"
)
BOMBS = {
    "jpeg": HUGE_JPEG,
    "jpeg with padding and restart markers": HUGE_JPEG[:8] + b"\xff\xff\xd0" + HUGE_JPEG[8:],
    "png": png(60000, 60000, 8, 2, [b""]),
    "bmp": b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 60000, 60000) + b"\0" * 28,
    "bmp from top to bottom": b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 60000, -60000),
    "old bmp": b"BM" + b"\0" * 12 + struct.pack("<IHH", 12, 60000, 60000),
    "gif": b"GIF89a" + struct.pack("<HH", 60000, 60000),
    "extended webp": b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x5f\xea\0\x5f\xea\0",
    "lossless webp": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\xff\xff\xff\x0f",
    "lossy webp": b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 7 + b"\x9d\x01\x2a\xff\x3f\xff\x3f",
    "tiff": tiff((256, 4, 60000), (257, 4, 60000)),
    "big-endian tiff": tiff((256, 3, 60000), (257, 3, 60000), order=">"),
    "tiff with huge tiles": tiff((256, 3, 9), (257, 3, 9), (322, 3, 60000), (323, 3, 60000)),
    "tiff that says its size twice": tiff((256, 3, 9), (256, 3, 60000), (257, 3, 60000)),
}


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("encoded", BOMBS.values(), ids=BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(encoded):
    with pytest.raises(ImageError, match="too many pixels"):
        decode_image(encoded, max_pixels=64 * 10**6)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_refused_with_a_sentence(name, share):
    encoded = encoded_as(name, gradient(130, 90))
    with pytest.raises(ImageError, match=r"cannot be decoded: its \w+ data is truncated, corrupt"):
        decode_image(encoded[: max(12, int(len(encoded) * share))])


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(HUGE_JPEG[:8] + b"\xff\xda\0\x0c", id="JPEG scan before its frame"),
        pytest.param(b"\xff\xd8" + b"\xff\xe0\0\x02" * 1000, id="JPEG of segments only"),
        pytest.param(b"\xff\xd8\xff" + b"\xff" * 100_000 + b"\0", id="JPEG of padding only"),
        pytest.param(png(0, 5, 8, 2, []), id="PNG of width zero"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIDAT" + b"\1" * 17, id="PNG without IHDR"),
        pytest.param(b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, -5, 5), id="BMP below zero"),
        pytest.param(b"RIFF\0\0\0\0WEBPALPH" + b"\1" * 20, id="WebP without a size"),
        pytest.param(tiff((257, 3, 5)), id="TIFF without a width"),
        pytest.param(tiff((256, 2, 5), (257, 3, 5)), id="TIFF with a text as width"),
        pytest.param(b"II*\0\xff\xff\xff\xff", id="TIFF directory beyond the end"),
    ],
)
def test_a_file_whose_header_has_no_size_is_refused_before_decoding(encoded):
    with pytest.raises(ImageError, match="truncated, corrupt"):
        decode_image(encoded)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_empty_payload_is_refused(kind):
    with pytest.raises(ImageError, match="empty"):
        decode_image(kind(b""))


@pytest.mark.parametrize("start", [b"<html>", b"RIFF\0\0\0\0WAVEfmt ", b"GIF90a", b"\x89PNG\n"])
def test_an_unknown_format_is_named_by_its_first_bytes(start):
    with pytest.raises(
        ImageError, match=r"Send a picture as JPEG, PNG, WebP, BMP, GIF, TIFF\."
    ) as caught:
        decode_image(start)
    assert type(caught.value) is ImageError
    assert f"starts with {start[:4]!r}" in str(caught.value)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(
    ("encoded", "name"),
    [(b"GIF89a", "gif"), (tiff(), "tiff"), (tiff(order=">"), "tiff")],
    ids=["GIF", "TIFF", "big-endian TIFF"],
)
def test_a_format_that_is_off_is_refused_with_the_setting_that_switches_it_on(encoded, name):
    advice = f"as JPEG, PNG, WebP, BMP. Or have '{name}' added to the setting image_formats"
    with pytest.raises(ImageFormatError, match=advice):
        decode_image(encoded, formats=DEFAULT_FORMATS)


def test_every_format_can_be_switched_off():
    with pytest.raises(ImageFormatError, match="The format PNG is switched off.*as JPEG"):
        decode_image(encoded_as("png"), formats={"jpeg"})
    assert decode_image(encoded_as("jpeg"), formats={"jpeg"}).shape == (18, 26, 3)


UNREADABLE = [
    pytest.param(b"\0\0\0\x20ftypavif", "AVIF", id="AVIF"),
    pytest.param(b"\0\0\0\x18ftypheic", "HEIC", id="HEIC"),
    pytest.param(b"\0\0\0\x18ftypmif1", "HEIC", id="HEIF"),
    pytest.param(b"\0\0\0\x18ftypisom", "MP4 or MOV video", id="MP4"),
    pytest.param(b"\0\0\0\x14ftypqt  ", "MP4 or MOV video", id="MOV"),
    pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", id="JPEG 2000"),
    pytest.param(b"\xff\x4f\xff\x51", "JPEG 2000", id="JPEG 2000 codestream"),
    pytest.param(b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", id="JPEG XL"),
    pytest.param(b"\xff\x0a\xfa", "JPEG XL", id="JPEG XL codestream"),
    pytest.param(b"P6\n8 8\n255\n", "PNM", id="PNM"),
    pytest.param(b"%PDF-1.7", "PDF", id="PDF"),
    pytest.param(b'<?xml version="1.0"?>\n<svg xmlns=', "SVG", id="SVG"),
]


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(("start", "name"), UNREADABLE)
def test_a_format_that_people_send_is_named_with_the_way_out(start, name):
    with pytest.raises(ImageFormatError, match=f"is {name}, which .* Send a picture as JPEG"):
        decode_image(start + bytes(40))


def test_no_base64_text_of_a_picture_begins_like_a_picture_file():
    for start in (*map(encoded_as, FORMATS), *(case.values[0] for case in UNREADABLE)):
        assert is_picture_file(start)
        assert not is_picture_file(base64.b64encode(start))
    assert not is_picture_file(b"BM" * 40)
    assert not is_picture_file(b"")


@pytest.mark.parametrize(
    ("decoder", "name", "failure"),
    [
        ((cv2, "imdecode"), "jpeg", cv2.error("inside")),
        ((pillow, "open"), "png", SyntaxError("inside")),
        ((pillow, "open"), "png", OSError("inside")),
    ],
    ids=["OpenCV", "Pillow while opening", "Pillow while reading"],
)
def test_an_error_of_a_decoder_is_an_image_error(monkeypatch, decoder, name, failure):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(*decoder, fail)
    with pytest.raises(ImageError, match="cannot be decoded") as caught:
        decode_image(encoded_as(name))
    assert "inside" not in str(caught.value)


@pytest.mark.parametrize("name", ["gif", "plain tiff"] if HAS_GIF else ["plain tiff"])
def test_a_damaged_file_leaves_no_line_on_stderr(name, capfd):
    with pytest.raises(ImageError):
        decode_image(encoded_as(name)[:-40])
    assert capfd.readouterr().err == ""


def test_no_damage_makes_the_decoder_see_more_pixels_than_were_checked():
    chance = random.Random(7)  # noqa: S311 - reproducible damage
    originals = [encoded_as(name) for name in FORMATS]
    limit, decoded = 26 * 18, 0
    for _ in range(600):
        damaged = bytearray(chance.choice(originals))
        # Sizes are at the beginning; a TIFF may have its directory at the end.
        places = [*range(2, 60), *range(-min(180, len(damaged)), 0)]
        damaged[chance.choice(places)] = chance.randrange(256)
        try:
            image = decode_image(damaged, max_pixels=limit)
        except ImageError:
            continue
        decoded += 1
        assert image.shape[0] * image.shape[1] <= limit
    assert decoded > 100


def with_exif(name, exif):
    """The gradient as a file with EXIF data."""
    encoded = encoded_as(name)
    if "jpeg" in name:
        return encoded[:2] + jpeg_segment(0xE1, b"Exif\0\0" + exif) + encoded[2:]
    if name == "png":
        return encoded[:-12] + png_chunk(b"eXIf", exif) + encoded[-12:]
    return webp(webp_canvas(26, 18, 8), encoded[12:], webp_chunk(b"EXIF", exif))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "png", "lossless webp", "lossy webp"])
def test_a_picture_is_turned_upright_as_pillow_does(name, orientation):
    order = "<>"[orientation % 2]
    encoded = with_exif(name, tiff((271, 4, 0), (ORIENTATION, 3, orientation), order=order))
    image = decode_image(encoded)
    as_stored = decode_image(encoded, auto_orient=False)
    assert as_stored.shape == (18, 26, 3)
    with pillow.open(io.BytesIO(encoded)) as picture:
        layer = pillow.fromarray(np.ascontiguousarray(as_stored[..., 0]))
        layer.getexif()[ORIENTATION] = picture.getexif()[ORIENTATION]
        assert np.array_equal(image[..., 0], ImageOps.exif_transpose(layer))
    assert not image.flags.writeable


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"II*\0", id="cut off"),
        pytest.param(b"XX*\0" + bytes(40), id="no byte order"),
        pytest.param(tiff((ORIENTATION, 3, 9)), id="orientation beyond 8"),
        pytest.param(tiff((ORIENTATION, 3, 0)), id="orientation 0"),
        pytest.param(tiff((ORIENTATION, 3, 6))[:15], id="cut off within an entry"),
        pytest.param(b"II*\0" + struct.pack("<IH", 8, 65535), id="entries that are not there"),
        pytest.param(b"II*\0\xff\xff\xff\xff", id="directory beyond the end"),
    ],
)
@pytest.mark.parametrize("name", ["jpeg", "png", "lossless webp"])
def test_damaged_exif_data_leaves_the_picture_as_it_lies(name, exif):
    expected = decode_image(encoded_as(name))
    assert np.array_equal(decode_image(with_exif(name, exif)), expected)


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "png", "lossless webp", "lossy webp"])
def test_metadata_does_not_reach_the_decoder(name):
    encoded = memoryview(with_exif(name, b"private data"))
    format_ = next(format_ for format_ in FILE_FORMATS if format_.magic.match(encoded))
    assert b"private" in bytes(encoded)
    assert b"private" not in bytes(format_.strip(encoded).data)
    assert np.array_equal(decode_image(encoded), decode_image(encoded_as(name)))


def test_checksums_of_what_makes_the_pixels_are_checked():
    text = png_chunk(b"tEXt", b"Title\0x")
    plain = encoded_as("png")
    assert decode_image(plain[:33] + text[:-1] + b"?" + plain[33:]).shape == (18, 26, 3)
    damaged = bytearray(plain)
    damaged[-20] ^= 1  # the last bytes of IDAT
    with pytest.raises(ImageError, match="corrupt"):
        decode_image(damaged)
