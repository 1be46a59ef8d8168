"""The forms in which callers send a picture: raw file, base64 text, URL, or a JSON object."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_server.errors import ImageError
from edge_server.images.decode import decode_image, find_format
from edge_server.images.fetch import UrlFetcher
from edge_server.vision.predictions import Image

_DATA_URI = re.compile(rb"\s*data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Thread-safe: holds limits and policy, no state.

    Every method returns (H, W, 3) uint8 BGR, turned upright by EXIF when ``auto_orient``, and
    raises ``ImageError`` with a sentence for the caller.

    Attributes:
        max_pixels: most pixels of one picture.
        fetcher: what fetches pictures by URL.
    """

    max_pixels: int
    fetcher: UrlFetcher

    def from_bytes(self, encoded: bytes | bytearray | memoryview, *, auto_orient: bool) -> Image:
        """A picture file as it is on disk, of any accepted format.

        Raises:
            ImageError: it is empty, no picture, damaged or too large.
        """
        return decode_image(encoded, max_pixels=self.max_pixels, auto_orient=auto_orient)

    def from_base64(self, text: str | bytes | memoryview, *, auto_orient: bool) -> Image:
        """A picture file as base64 text, with or without a data-URI prefix.

        Raises:
            ImageError: the text is not base64, or what it encodes is not accepted.
        """
        return self.from_bytes(_decode_base64(text), auto_orient=auto_orient)

    def from_url(self, url: str, *, auto_orient: bool) -> Image:
        """A picture file that this server fetches.

        Raises:
            ImageError: the URL is not permitted, the fetch fails, or the file is not accepted.
        """
        return self.from_bytes(self.fetcher.fetch(url), auto_orient=auto_orient)

    def from_object(self, image: Mapping[str, object], *, auto_orient: bool) -> Image:
        """A picture as JSON bodies carry it: ``{"type": "base64" | "url", "value": text}``.

        Raises:
            ImageError: type or value is not accepted, or the picture is not.
        """
        kind, value = str(image.get("type")).lower(), image.get("value")
        if kind == "numpy":
            raise ImageError(
                "Pictures of type 'numpy' are refused: a pickled array can run code on this "
                "server. Send the picture as JPEG or PNG with type 'base64'."
            )
        if kind not in ("base64", "url"):
            raise ImageError(f"Picture type {kind[:40]!r} is not accepted; use 'base64' or 'url'.")
        if not isinstance(value, str):
            found = "null" if value is None else type(value).__name__
            raise ImageError(f"A picture of type {kind!r} needs a text as 'value', not {found}.")
        read = self.from_base64 if kind == "base64" else self.from_url
        return read(value, auto_orient=auto_orient)


def _decode_base64(text: str | bytes | memoryview) -> bytes:
    # Characters outside the alphabet are skipped, as line breaks must be; some are not ASCII.
    encoded = text.encode("ascii", "ignore") if isinstance(text, str) else text
    raw = find_format(encoded)
    if raw is not None:
        raise ImageError(
            f"The payload is a raw {raw.name} file where base64 text is expected. Encode it as "
            "base64, or upload it as multipart/form-data."
        )
    prefix = _DATA_URI.match(encoded)
    try:
        return binascii.a2b_base64(memoryview(encoded)[prefix.end() if prefix else 0 :])
    except binascii.Error as error:
        raise ImageError(f"The picture is not complete base64 text: {error}.") from error
