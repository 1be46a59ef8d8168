"""Predictions drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_server.errors import ImageError
from edge_server.vision.predictions import Detections, Image

Color = tuple[int, int, int]

# One colour per class id, cyclic; RGB as web pages write it.
_PALETTE = (
    "A351FB FF4040 FFA1A0 FF7633 FFB633 D1D435 4CFB12 94CF1A 40DE8A 1B9640 00D6C1 "
    "2E9CAA 00C4FF 364797 6675FF 0019EF 863AFF 530087 CD3AFF FF97CA FF39C9"
).split()
_FONT, _FONT_SCALE, _WHITE = cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255)
_LABEL_MARGIN = 10
_JPEG_MAX_SIDE = 65500  # libjpeg writes no more


def draw_detections(
    image: Image,
    detections: Detections,
    class_names: Sequence[str],
    *,
    labels: bool = False,
    stroke: int = 1,
) -> Image:
    """Draw a rectangle, and on request a label, for every detection.

    Args:
        image: (H, W, 3) uint8 BGR; not changed.
        detections: boxes in pixels of ``image``; corners are truncated to whole pixels.
        class_names: names by class id; an id without a name is written as a number.
        labels: write class and score into the top left corner of each box.
        stroke: width of lines in pixels; less than 1 counts as 1.

    Returns:
        A new (H, W, 3) uint8 BGR array.
    """
    canvas = np.array(image)
    rows = zip(
        detections.boxes.astype(int).tolist(),
        detections.scores.tolist(),
        detections.class_ids.tolist(),
        strict=True,
    )
    for (left, top, right, bottom), score, class_id in rows:
        color = _class_color(class_id)
        cv2.rectangle(canvas, (left, top), (right, bottom), color, max(stroke, 1))
        if labels:
            name = class_names[class_id] if class_id < len(class_names) else str(class_id)
            _draw_label(canvas, f"{name} {score:.2f}", left, top, color)
    return canvas


def encode_jpeg(image: Image, quality: int = 90) -> bytes:
    """Encode (H, W, 3) uint8 BGR as JPEG of ``quality`` 0 to 100.

    Raises:
        ImageError: JPEG cannot hold the picture, which is wider or higher than 65500 pixels.
    """
    height, width = image.shape[:2]
    if max(width, height) > _JPEG_MAX_SIDE:
        raise ImageError(f"A picture of {width} x {height} pixels does not fit a JPEG.")
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _class_color(class_id: int) -> Color:
    red, green, blue = bytes.fromhex(_PALETTE[class_id % len(_PALETTE)])
    return blue, green, red


def _draw_label(canvas: Image, text: str, left: int, top: int, color: Color) -> None:
    """Write ``text`` on a filled button at the given corner, moved inwards to stay readable."""
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    width, height = text_width + 2 * _LABEL_MARGIN, text_height + 2 * _LABEL_MARGIN
    left = max(0, min(left, canvas.shape[1] - width))
    top = max(0, min(top, canvas.shape[0] - height))
    canvas[top : top + height, left : left + width] = color
    origin = (left + _LABEL_MARGIN, top + _LABEL_MARGIN + text_height)
    cv2.putText(canvas, text, origin, _FONT, _FONT_SCALE, _WHITE, 1)
