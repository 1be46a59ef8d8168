"""A model that moves from the CPU to TensorRT on the doubles: what several test files need."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge_server.models.store import ModelStore
from tests.networks import BY_NAME, SIZE, save_package

MODEL = "parts/1"
CPU = "onnxruntime-cpu"


def picture() -> np.ndarray:
    """Grey, with something red, green and blue in it."""
    image = np.full((SIZE * 2, SIZE * 2, 3), 120, np.uint8)
    for channel, corner in enumerate((8, 48, 88)):
        image[corner : corner + 32, corner : corner + 32] = 0
        image[corner : corner + 32, corner : corner + 32, channel] = 255
    return image


def install(data_dir: Path) -> Path:
    """Install a model with more golden pictures than its engine takes at once; the folder."""
    folder = save_package(data_dir.parent / "package", BY_NAME["yolov8-raw"])
    ModelStore(data_dir / "models").install(MODEL, folder, prove=lambda package: None)
    golden = data_dir / "models" / MODEL / "golden"
    golden.mkdir()
    for turns in range(6):
        cv2.imwrite(str(golden / f"{turns}.png"), np.rot90(picture(), turns))
    return data_dir


def wait_for(condition: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    """Return once ``condition`` holds; ``what`` is said when it never does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain; {what()}")
