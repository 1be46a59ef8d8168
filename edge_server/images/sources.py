"""The forms in which callers send a picture: file, base64 text, URL, array, raw frame, object."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_server.errors import ImageError
from edge_server.images.arrays import decode_npy, decode_pixels, is_npy
from edge_server.images.decode import DEFAULT_FORMATS, decode_image, is_picture_file
from edge_server.images.fetch import UrlFetcher
from edge_server.vision.predictions import Image

Buffer = bytes | bytearray | memoryview

_NPY_IN_BASE64 = b"k05VTVBZ"
_DATA_URI = re.compile(rb"\s*data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Thread-safe: holds limits and policy, no state.

    Every method returns (H, W, 3) uint8 BGR, turned upright by EXIF when ``auto_orient``, and
    raises ``ImageError`` with a sentence for the caller: ``ImageTooLargeError`` when there are
    too many pixels, ``ImageFormatError`` when the format is known but not accepted.

    Attributes:
        max_pixels: most pixels of one picture.
        fetcher: what fetches pictures by URL.
        formats: names of the accepted file formats in lower case.
    """

    max_pixels: int
    fetcher: UrlFetcher
    formats: frozenset[str] = DEFAULT_FORMATS

    def from_body(self, body: Buffer, *, auto_orient: bool) -> Image:
        """Whatever a request body holds: a picture file, ``.npy``, or either as base64 text.

        No text of base64 that encodes a picture begins like a picture file.

        Raises:
            ImageError: it is none of them, damaged or too large.
        """
        is_file = is_picture_file(body) or is_npy(body)
        read = self.from_bytes if is_file else self.from_base64
        return read(body, auto_orient=auto_orient)

    def from_bytes(self, encoded: Buffer, *, auto_orient: bool) -> Image:
        """A picture file as it is on disk, of any accepted format, or ``.npy``.

        Raises:
            ImageError: it is empty, no picture, damaged or too large.
        """
        if is_npy(encoded):
            return self.from_numpy(encoded)
        return decode_image(
            encoded, max_pixels=self.max_pixels, formats=self.formats, auto_orient=auto_orient
        )

    def from_base64(self, text: str | Buffer, *, auto_orient: bool) -> Image:
        """A picture file or ``.npy`` as base64 text, with or without a data-URI prefix.

        Raises:
            ImageError: the text is not base64, or what it encodes is not accepted.
        """
        return self.from_bytes(_decode_base64(text), auto_orient=auto_orient)

    def from_url(self, url: str, *, auto_orient: bool, deadline: float | None = None) -> Image:
        """A picture file that this server fetches, until ``deadline``; see ``UrlFetcher.fetch``.

        Raises:
            ImageError: the URL is not permitted, the fetch fails, or the file is not accepted.
        """
        return self.from_bytes(self.fetcher.fetch(url, deadline), auto_orient=auto_orient)

    def from_numpy(self, body: Buffer) -> Image:
        """A uint8 array as ``numpy.save`` writes it: (H, W, 3) in BGR, (H, W, 1) or (H, W).

        Base64 text of it is read as well.

        Raises:
            ImageError: it is something else (a pickle, say), or not complete or too large.
        """
        if bytes(body[: len(_NPY_IN_BASE64)]) == _NPY_IN_BASE64:
            body = _decode_base64(body)
        return decode_npy(body, max_pixels=self.max_pixels)

    def from_pixels(self, body: Buffer, *, height: int, width: int, colour: str) -> Image:
        """A raw frame: see ``arrays.decode_pixels``.

        Raises:
            ImageError: size, colour order and bytes do not agree, or it is too large.
        """
        return decode_pixels(
            body, height=height, width=width, colour=colour, max_pixels=self.max_pixels
        )

    def from_object(
        self, image: Mapping[str, object], *, auto_orient: bool, deadline: float | None = None
    ) -> Image:
        """A picture as JSON bodies carry it: ``{"type": …, "value": text}``.

        The type is ``base64``, ``url``, or ``numpy`` for ``.npy`` as base64 text. ``deadline`` is
        for URLs.

        Raises:
            ImageError: type or value is not accepted, or the picture is not.
        """
        kind, value = str(image.get("type")).lower(), image.get("value")
        if kind not in ("base64", "url", "numpy"):
            raise ImageError(
                f"Picture type {kind[:40]!r} is not accepted; use 'base64', 'url' or 'numpy'."
            )
        if not isinstance(value, str):
            found = "null" if value is None else type(value).__name__
            raise ImageError(f"A picture of type {kind!r} needs a text as 'value', not {found}.")
        if kind == "numpy":
            return self.from_numpy(_decode_base64(value))
        if kind == "url":
            return self.from_url(value, auto_orient=auto_orient, deadline=deadline)
        return self.from_base64(value, auto_orient=auto_orient)


def _decode_base64(text: str | Buffer) -> bytes:
    # Characters outside the alphabet are skipped, as line breaks must be; some are not ASCII.
    encoded = text.encode("ascii", "ignore") if isinstance(text, str) else text
    prefix = _DATA_URI.match(encoded)
    try:
        return binascii.a2b_base64(memoryview(encoded)[prefix.end() if prefix else 0 :])
    except binascii.Error as error:
        raise ImageError(f"The picture is not complete base64 text: {error}.") from error
