"""The forms in which a picture may be sent."""

import base64
import dataclasses
import io

import cv2
import numpy as np
import pytest

from edge_server.errors import ImageError, ImageFormatError, ImageTooLargeError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()
TEXT = base64.b64encode(PNG).decode("ascii")
BMP = cv2.imencode(".bmp", PIXELS)[1].tobytes()
NPY_FILE = io.BytesIO()
np.save(NPY_FILE, PIXELS)
NPY = NPY_FILE.getvalue()
EVERY_FORM = [
    pytest.param(PNG, id="PNG"),
    pytest.param(BMP, id="BMP"),
    pytest.param(NPY, id="array"),
    pytest.param(TEXT.encode(), id="base64 of PNG"),
    pytest.param(base64.b64encode(BMP), id="base64 of BMP"),
    pytest.param(base64.encodebytes(NPY), id="base64 of an array, in lines"),
    pytest.param(b"data:image/png;base64," + TEXT.encode(), id="data URI"),
]


class OnePicture(UrlFetcher):
    """Answers every URL with the same file, and keeps the URLs."""

    def __init__(self):
        super().__init__(UrlPolicy(), max_bytes=1, timeout_s=1)
        self.urls = []

    def fetch(self, url, deadline):
        self.urls.append(url)
        return PNG


@pytest.fixture
def reader():
    return ImageReader(max_pixels=20, fetcher=OnePicture())


@pytest.fixture
def orientations(monkeypatch):
    """The ``auto_orient`` of every picture decoded."""
    seen = []

    def decode(encoded, *, max_pixels, formats, auto_orient):
        assert max_pixels == 20
        assert formats == {"jpeg", "png", "webp", "bmp"}
        seen.append(auto_orient)
        return PIXELS

    monkeypatch.setattr("edge_server.images.sources.decode_image", decode)
    return seen


@pytest.mark.parametrize("file", [PNG, BMP, NPY], ids=["PNG", "BMP", "array"])
def test_a_file_is_read(reader, file):
    assert np.array_equal(reader.from_bytes(file, auto_orient=True), PIXELS)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="str"),
        pytest.param(TEXT.encode(), id="bytes"),
        pytest.param(memoryview(TEXT.encode()), id="memoryview"),
        pytest.param(f"data:image/png;base64,{TEXT}", id="data URI"),
        pytest.param(f"data:image/png;base64,{TEXT}".encode(), id="data URI as bytes"),
        pytest.param(f"\n data:image/svg+xml;charset=utf-8;base64,{TEXT}", id="any media type"),
        pytest.param(base64.encodebytes(PNG), id="wrapped lines"),
        pytest.param(f'"{TEXT}"', id="quotes"),
        pytest.param("\u00a0\ufeff" + TEXT, id="characters beyond ASCII"),
    ],
)
def test_base64_text_is_read(reader, text):
    assert np.array_equal(reader.from_base64(text, auto_orient=True), PIXELS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(TEXT.rstrip("="), "not complete base64", id="missing padding"),
        pytest.param("/9j/4", "not complete base64", id="one letter too many"),
        pytest.param("", "empty", id="empty"),
        pytest.param("data:image/png;base64,", "empty", id="data URI without data"),
        pytest.param("%%%", "empty", id="no letter of the alphabet"),
        pytest.param("aGVsbG8gd29ybGQ=", "starts with b'hell'", id="text that is no picture"),
        pytest.param("_9j_", "not complete base64", id="URL-safe alphabet"),
    ],
)
def test_what_is_not_base64_of_a_picture_is_refused(reader, text, reason):
    with pytest.raises(ImageError, match=reason):
        reader.from_base64(text, auto_orient=True)


@pytest.mark.parametrize("body", EVERY_FORM)
def test_a_body_may_hold_any_form(reader, body):
    for kind in (bytes, bytearray, memoryview):
        assert np.array_equal(reader.from_body(kind(body), auto_orient=True), PIXELS)


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        pytest.param(b"", ImageError, "empty", id="empty"),
        pytest.param(b"\xff\xd8\xff\xe0\0\x10JFIF", ImageError, "JPEG data is trunc", id="cut"),
        pytest.param(b"\0\0\0\x18ftypheic", ImageFormatError, "is HEIC", id="HEIC"),
        pytest.param(b"GIF89a", ImageFormatError, "GIF is switched off", id="GIF"),
        pytest.param(base64.b64encode(b"GIF89a" * 9), ImageFormatError, "GIF", id="GIF in base64"),
        pytest.param(b"BMxx", ImageError, "starts with b'.x04", id="text that begins with BM"),
        pytest.param(b"{}", ImageError, "empty", id="JSON"),
    ],
)
def test_a_body_without_a_picture_is_refused(reader, body, error, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        reader.from_body(body, auto_orient=True)
    assert type(caught.value) is error


def test_a_url_is_handed_to_the_fetcher(reader):
    url = "http://camera.example/picture.png"
    assert np.array_equal(reader.from_url(url, auto_orient=True), PIXELS)
    assert reader.fetcher.urls == [url]


@pytest.mark.parametrize("kind", ["base64", "BASE64", "Base64"])
def test_an_object_holds_base64(reader, kind):
    image = reader.from_object({"type": kind, "value": TEXT}, auto_orient=True)
    assert np.array_equal(image, PIXELS)


@pytest.mark.parametrize("kind", ["url", "URL"])
def test_an_object_holds_a_url(reader, kind):
    reader.from_object({"type": kind, "value": "http://a.example/"}, auto_orient=True)
    assert reader.fetcher.urls == ["http://a.example/"]


@pytest.mark.parametrize("kind", ["numpy", "NumPy"])
def test_an_object_holds_an_array(reader, kind):
    value = base64.b64encode(NPY).decode()
    assert np.array_equal(
        reader.from_object({"type": kind, "value": value}, auto_orient=True), PIXELS
    )


@pytest.mark.parametrize("value", ["gASVAAAA", "KGRwMAou", TEXT, ""])
def test_an_object_that_says_array_holds_nothing_else(reader, value):
    with pytest.raises(ImageError, match=r"\.npy format, as numpy\.save writes it"):
        reader.from_object({"type": "numpy", "value": value}, auto_orient=True)


def test_a_raw_frame_is_read(reader):
    sent = PIXELS[..., ::-1].tobytes()
    image = reader.from_pixels(sent, height=4, width=5, colour="RGB")
    assert np.array_equal(image, PIXELS)


@pytest.mark.parametrize("kind", ["file", "multipart", "pil", "numpy_object", "", None, 7])
def test_other_types_are_refused_naming_the_accepted_ones(reader, kind):
    with pytest.raises(ImageError, match="is not accepted; use 'base64', 'url' or 'numpy'"):
        reader.from_object({"type": kind, "value": "/etc/passwd"}, auto_orient=True)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"type": "base64", "value": None}, "null"),
        ({"type": "base64"}, "null"),
        ({"type": "numpy"}, "null"),
        ({"type": "url", "value": 7}, "int"),
        ({"type": "url", "value": ["http://a.example/"]}, "list"),
    ],
)
def test_a_value_that_is_no_text_is_refused(reader, image, found):
    with pytest.raises(ImageError, match=f"needs a text as 'value', not {found}"):
        reader.from_object(image, auto_orient=True)


@pytest.mark.parametrize("wish", [True, False])
def test_orientation_and_pixel_limit_reach_the_decoder_from_every_source(
    reader, orientations, wish
):
    reader.from_bytes(PNG, auto_orient=wish)
    reader.from_base64(TEXT, auto_orient=wish)
    reader.from_url("http://a.example/", auto_orient=wish)
    reader.from_object({"type": "base64", "value": TEXT}, auto_orient=wish)
    assert orientations == [wish] * 4


def test_the_pixel_limit_holds(reader):
    small = dataclasses.replace(reader, max_pixels=19)
    for read in (
        lambda: small.from_base64(TEXT, auto_orient=True),
        lambda: small.from_numpy(NPY),
        lambda: small.from_pixels(PIXELS.tobytes(), height=4, width=5, colour="BGR"),
    ):
        with pytest.raises(ImageTooLargeError, match="accepts 19"):
            read()


def test_formats_can_be_switched_on_and_off(reader):
    bitmaps_only = dataclasses.replace(reader, formats=frozenset({"bmp"}))
    assert np.array_equal(bitmaps_only.from_bytes(BMP, auto_orient=True), PIXELS)
    with pytest.raises(ImageFormatError, match="PNG is switched off"):
        bitmaps_only.from_bytes(PNG, auto_orient=True)


def test_a_reader_cannot_be_changed(reader):
    with pytest.raises(dataclasses.FrozenInstanceError):
        reader.max_pixels = 10**12
