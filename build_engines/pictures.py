"""The user's own pictures, to calibrate INT8 with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from engines.base import Array

_MOST = 512
_SUFFIXES = frozenset({".npy", ".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def read_pictures(folder: Path, size_wh: tuple[int, int]) -> Iterator[Array]:
    """Pictures as uint8 BGR (H, W, 3), one after the other: hundreds do not fit into memory.

    A ``.npy`` file holds pixels that were put into the network's size as the network is served:
    whoever knows how writes those. Other pictures are stretched.

    Raises:
        ValueError: there are none, or a file is damaged or has another size.
    """
    expected = (*size_wh[::-1], 3)
    for path in _files(folder):
        if path.suffix.lower() == ".npy":
            pixels = np.load(path, allow_pickle=False)
        else:
            picture = cv2.imread(str(path))
            if picture is None:
                raise ValueError(f"{path} is no picture, or damaged.")
            pixels = cv2.resize(picture, size_wh, interpolation=cv2.INTER_LINEAR)
        if pixels.dtype != np.uint8 or pixels.shape != expected:
            raise ValueError(f"{path} is {pixels.dtype} {pixels.shape}; expected uint8 {expected}.")
        yield pixels


def hash_pictures(folder: Path) -> str:
    """What a calibration depends on, in hexadecimal: contents, not names or times.

    Raises:
        ValueError: there are no pictures.
    """
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in _files(folder))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _files(folder: Path) -> list[Path]:
    """By name; of very many an even choice."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise ValueError(f"{folder} has no pictures ({', '.join(sorted(_SUFFIXES))}).")
    step = max(1, len(files) / _MOST)
    return [files[int(index * step)] for index in range(min(len(files), _MOST))]
