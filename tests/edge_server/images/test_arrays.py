"""Raw frames and .npy arrays."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from edge_server.errors import ImageError, ImageTooLargeError
from edge_server.images.arrays import decode_npy, decode_pixels, is_npy

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
GREY = PIXELS[..., 0]


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def npy_with_header(header, data=b"\0" * 60):
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def frame(body, colour="BGR", height=4, width=5, max_pixels=20):
    return decode_pixels(body, height=height, width=width, colour=colour, max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("colour", "sent"),
    [
        ("BGR", PIXELS),
        ("RGB", PIXELS[..., ::-1]),
        ("BGRA", np.dstack((PIXELS, GREY))),
        ("RGBA", np.dstack((PIXELS[..., ::-1], GREY))),
    ],
)
def test_a_frame_becomes_bgr(colour, sent):
    image = frame(sent.tobytes(), colour)
    assert np.array_equal(image, PIXELS)
    assert not image.flags.writeable


def test_a_grey_frame_becomes_three_equal_channels():
    assert np.array_equal(frame(GREY.tobytes(), "GRAY"), np.dstack([GREY] * 3))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_pixels_that_are_bgr_already_are_not_copied(kind):
    body = kind(PIXELS.tobytes())
    assert np.shares_memory(frame(body), np.frombuffer(body, np.uint8))
    file = kind(npy(PIXELS))
    image = decode_npy(file, max_pixels=20)
    assert np.shares_memory(image, np.frombuffer(file, np.uint8))
    assert not image.flags.writeable


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"body": bytes(59)}, "are 60 bytes, but 59 were sent", id="too short"),
        pytest.param({"body": bytes(61)}, "are 60 bytes, but 61 were sent", id="too long"),
        pytest.param({"body": b""}, "are 60 bytes, but 0 were sent", id="empty"),
        pytest.param({"colour": "GRAY"}, "in GRAY are 20 bytes, but 60", id="other colours"),
        pytest.param({"colour": "YUV"}, "'YUV' is not one of BGR, RGB, GRAY", id="unknown colours"),
        pytest.param({"colour": "bgr"}, "'bgr' is not one of BGR", id="small letters"),
        pytest.param({"height": 0}, "cannot have 0 rows", id="no rows"),
        pytest.param({"height": -4, "width": -5}, "cannot have -4 rows of -5", id="below zero"),
    ],
)
def test_a_frame_whose_size_and_bytes_disagree_is_refused(options, reason):
    with pytest.raises(ImageError, match=reason):
        frame(**{"body": PIXELS.tobytes(), **options})


def test_a_frame_with_too_many_pixels_is_refused():
    with pytest.raises(ImageTooLargeError, match="5 x 4 is 20, and this server accepts 19"):
        frame(PIXELS.tobytes(), max_pixels=19)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(PIXELS, PIXELS, id="BGR"),
        pytest.param(GREY, np.dstack([GREY] * 3), id="two dimensions"),
        pytest.param(GREY[..., None], np.dstack([GREY] * 3), id="one channel"),
        pytest.param(PIXELS[:, ::2], PIXELS[:, ::2], id="a slice"),
    ],
)
def test_an_array_as_numpy_saves_it_is_read(sent, expected, version):
    file = npy(sent, version)
    assert is_npy(file)
    assert np.array_equal(decode_npy(file, max_pixels=20), expected)


def test_the_header_of_other_writers_is_read():
    header = b"{'shape':(4,5,3),'fortran_order':False,'descr':'<u1'}"
    image = decode_npy(npy_with_header(header, PIXELS.tobytes()), max_pixels=20)
    assert np.array_equal(image, PIXELS)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(PIXELS.astype(np.float32), id="float"),
        pytest.param(PIXELS.astype(np.uint16), id="16 bits"),
        pytest.param(PIXELS.view(np.int8), id="signed"),
        pytest.param(PIXELS > 7, id="bool"),
        pytest.param(np.dstack((PIXELS, GREY)), id="four channels"),
        pytest.param(PIXELS[..., :2], id="two channels"),
        pytest.param(PIXELS.ravel(), id="one dimension"),
        pytest.param(PIXELS[None], id="four dimensions"),
        pytest.param(np.uint8(7), id="a number"),
        pytest.param(np.asfortranarray(PIXELS), id="Fortran order"),
        pytest.param(np.zeros(3, [("a", "u1"), ("b", "u1")]), id="fields"),
    ],
)
def test_an_array_of_another_kind_is_refused_with_its_header(array):
    with pytest.raises(ImageError, match=r"must be uint8 in C order .*'descr': "):
        decode_npy(npy(np.asarray(array)), max_pixels=100)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        pytest.param(npy(PIXELS)[:-1], "are 60 bytes, but 59", id="a byte missing"),
        pytest.param(npy(PIXELS) + b"\0", "are 60 bytes, but 61", id="a byte too many"),
        pytest.param(npy(PIXELS)[:50], "must be uint8", id="cut off within the header"),
        pytest.param(npy(PIXELS)[:100], "are 60 bytes, but 0", id="cut off in the padding"),
        pytest.param(npy(PIXELS)[:8], "header is truncated", id="cut off before the header"),
        pytest.param(b"\x93NUMPY", "header is truncated", id="magic only"),
        pytest.param(b"\x93NUMPY\x04\0" + bytes(60), "of an unknown version", id="version 4"),
        pytest.param(npy(PIXELS[:0]), "cannot have 0 rows", id="no pixels"),
        pytest.param(b"", "starts with b''", id="empty"),
        pytest.param(b"PK\3\4" + bytes(40), r"starts with b'PK", id="npz"),
    ],
)
def test_a_damaged_array_is_refused(file, reason):
    with pytest.raises(ImageError, match=reason):
        decode_npy(file, max_pixels=20)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"('descr': 'u1', " * 30, id="open brackets"),
        pytest.param(b"__import__('os').system('true')", id="a call"),
        pytest.param(b"{'descr': '|u1', 'shape': (4, 5, -3), 'fortran_order': False}", id="minus"),
        pytest.param(b"{'descr': '|u1', 'shape': (4, 5, 3)}", id="order missing"),
        pytest.param(b"\xff" * 60, id="no text"),
    ],
)
def test_a_malformed_header_is_refused(header):
    with pytest.raises(ImageError, match="must be uint8"):
        decode_npy(npy_with_header(header), max_pixels=20)


@pytest.mark.parametrize("size", [b"60000", b"9" * 300])
def test_a_size_beyond_the_limit_is_refused_before_memory_is_taken(size):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s, %s, 3)}" % (size, size)
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError):
            decode_npy(npy_with_header(header), max_pixels=64 * 10**6)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


class Attack:
    """What, when loaded, runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_of_a_pickle_nothing_runs(tmp_path, protocol):
    file = tmp_path / "was-here"
    payload = pickle.dumps(Attack(file), protocol)
    with pytest.raises(ImageError, match=r"\.npy format, as numpy\.save .*can run code"):
        decode_npy(payload, max_pixels=20)
    assert not file.exists()


def test_of_an_array_of_objects_nothing_runs(tmp_path):
    file = tmp_path / "was-here"
    array = npy(np.array([[Attack(file)]], object))
    with pytest.raises(ImageError, match=r"must be uint8.*'\|O'"):
        decode_npy(array, max_pixels=20)
    assert not file.exists()
