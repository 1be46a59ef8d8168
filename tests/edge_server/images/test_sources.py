"""The forms in which a picture may be sent."""

import base64
import dataclasses

import cv2
import numpy as np
import pytest

from edge_server.errors import ImageError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()
TEXT = base64.b64encode(PNG).decode("ascii")


class OnePicture(UrlFetcher):
    """Answers every URL with the same file, and keeps the URLs."""

    def __init__(self):
        super().__init__(UrlPolicy(), max_bytes=1, timeout_s=1)
        self.urls = []

    def fetch(self, url):
        self.urls.append(url)
        return PNG


@pytest.fixture
def reader():
    return ImageReader(max_pixels=20, fetcher=OnePicture())


@pytest.fixture
def orientations(monkeypatch):
    """The ``auto_orient`` of every picture decoded."""
    seen = []

    def decode(encoded, *, max_pixels, auto_orient):
        assert max_pixels == 20
        seen.append(auto_orient)
        return PIXELS

    monkeypatch.setattr("edge_server.images.sources.decode_image", decode)
    return seen


def test_a_raw_file_is_read(reader):
    assert np.array_equal(reader.from_bytes(PNG, auto_orient=True), PIXELS)


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


@pytest.mark.parametrize(
    ("raw", "name"),
    [(PNG, "PNG"), (memoryview(PNG), "PNG"), (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG")],
)
def test_a_raw_file_in_place_of_base64_is_refused_with_a_hint(reader, raw, name):
    with pytest.raises(ImageError, match=f"raw {name} file where base64 text is expected"):
        reader.from_base64(raw, auto_orient=True)


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


@pytest.mark.parametrize("value", ["gASVAAAA", None, ""])
@pytest.mark.parametrize("kind", ["numpy", "NumPy"])
def test_pickled_arrays_are_refused_with_the_way_out(reader, kind, value):
    with pytest.raises(ImageError, match=r"pickled array can run code.*'base64'"):
        reader.from_object({"type": kind, "value": value}, auto_orient=True)


@pytest.mark.parametrize("kind", ["file", "multipart", "pil", "numpy_object", "", None, 7])
def test_other_types_are_refused_naming_the_accepted_ones(reader, kind):
    with pytest.raises(ImageError, match="is not accepted; use 'base64' or 'url'"):
        reader.from_object({"type": kind, "value": "/etc/passwd"}, auto_orient=True)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"type": "base64", "value": None}, "null"),
        ({"type": "base64"}, "null"),
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
    with pytest.raises(ImageError, match="accepts 19"):
        small.from_base64(TEXT, auto_orient=True)


def test_a_reader_cannot_be_changed(reader):
    with pytest.raises(dataclasses.FrozenInstanceError):
        reader.max_pixels = 10**12
