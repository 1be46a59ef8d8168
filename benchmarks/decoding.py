"""What decoding costs beside the least that it could: one maximum over the scores, and NMS.

    python benchmarks/decoding.py

One thread, the median of many runs; the ratio is taken within one run of the program.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the server sets it

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edge_server.vision.decoders import DECODERS  # noqa: E402
from edge_server.vision.head import HeadSpec  # noqa: E402
from edge_server.vision.params import InferParams  # noqa: E402
from edge_server.vision.placement import Placement  # noqa: E402

CLASSES, CELLS = 80, 8400
NAMES = tuple(map(str, range(CLASSES)))
PICTURE = Placement((1280, 720), (0, 0, 1280, 720), (640, 640), (0.5, 0.5), (0, 140, 0, 140))
RUNS = 300


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    ours, least = detection(rng)
    print(f"{'decode (1, 84, 8400), 100 boxes above the threshold':<54}{ours * 1e3:7.2f} ms")
    print(f"{'  one maximum and cv2.dnn.NMSBoxesBatched':<54}{least * 1e3:7.2f} ms")
    print(f"{'  ratio':<54}{ours / least:7.2f}     target 1.5")
    spent = masks(rng)
    print(f"{'masks of 20 instances at 1280x720':<54}{spent * 1e3:7.2f} ms  target 15 ms")


def detection(rng: np.random.Generator) -> tuple[float, float]:
    """Seconds of our decoder, and of the least that any could do on the same output."""
    output = head(rng, 100)
    decode = DECODERS["object-detection", "yolov8"](HeadSpec(NAMES, (output.shape,)))
    params = InferParams()
    above = output[0, 4:].max(axis=0) > 0.4
    boxes, scores = output[0, :4, above], output[0, 4:, above].max(axis=1)
    class_ids = output[0, 4:, above].argmax(axis=1).astype(np.int32)

    def least() -> None:
        output[0, 4:].max(axis=0)
        cv2.dnn.NMSBoxesBatched(boxes, scores, class_ids, 0.4, 0.3)

    (found,) = decode({"output0": output}, [PICTURE], params)
    assert len(found) > 90
    return seconds(
        lambda: decode({"output0": output}, [PICTURE], params),
        least,
    )


def masks(rng: np.random.Generator) -> float:
    """Seconds of a whole segmentation decode with boxes of 60 to 250 network pixels."""
    output = head(rng, 20, extras=32, sizes=(60, 250))
    output[0, 4 + CLASSES :] = rng.normal(0, 1, (32, CELLS))
    noise = rng.normal(0, 1, (160, 160, 32)).astype(np.float32)
    protos = cv2.GaussianBlur(noise, (0, 0), 6).transpose(2, 0, 1)[None] * 8
    spec = HeadSpec(NAMES, (output.shape, protos.shape))
    decode = DECODERS["instance-segmentation", "yolov8"](spec)
    outputs, params = {"output0": output, "output1": protos}, InferParams(iou_threshold=1.0)
    (found,) = decode(outputs, [PICTURE], params)
    assert len(found.polygons) == 20
    return seconds(lambda: decode(outputs, [PICTURE], params))[0]


def head(
    rng: np.random.Generator, count: int, extras: int = 0, sizes: tuple[int, int] = (30, 120)
) -> np.ndarray:
    """A YOLOv8 output with ``count`` cells above the threshold and faint scores elsewhere."""
    output = np.zeros((1, 4 + CLASSES + extras, CELLS), np.float32)
    output[0, :2] = rng.uniform(100, 540, (2, CELLS))
    output[0, 2:4] = rng.uniform(*sizes, (2, CELLS))
    output[0, 4 : 4 + CLASSES] = rng.uniform(0, 0.1, (CLASSES, CELLS))
    seen = rng.choice(CELLS, count, replace=False)
    output[0, 4 + rng.integers(0, CLASSES, count), seen] = rng.uniform(0.5, 0.95, count)
    return output


def seconds(*programs: Callable[[], object]) -> list[float]:
    """The median of each, run in turn."""
    spent: list[list[float]] = [[] for _ in programs]
    for _ in range(RUNS):
        for program, times in zip(programs, spent, strict=True):
            began = time.perf_counter()
            program()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in spent]


if __name__ == "__main__":
    main()
