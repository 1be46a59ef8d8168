"""Predictions drawn on pictures. A class has the same colour in every picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_server.errors import ImageError
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    Image,
    InstanceMasks,
    KeyPoints,
    Polygon,
    Prediction,
    SemanticMap,
)
from edge_server.vision.semantic import BACKGROUND

Color = tuple[int, int, int]

# One colour per class id, cyclic; RGB as web pages write it.
_PALETTE = (
    "A351FB FF4040 FFA1A0 FF7633 FFB633 D1D435 4CFB12 94CF1A 40DE8A 1B9640 00D6C1 "
    "2E9CAA 00C4FF 364797 6675FF 0019EF 863AFF 530087 CD3AFF FF97CA FF39C9"
).split()
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_LABEL_MARGIN = 10
_BRIGHT = 140  # on a button above this grey value, white text cannot be read
_WIDEST_STROKE = 1000  # far more, and OpenCV refuses
_JPEG_MAX_SIDE = 65500  # libjpeg writes no more


def draw(
    prediction: Prediction,
    image: Image,
    class_names: Sequence[str],
    *,
    labels: bool = False,
    stroke: int = 1,
) -> Image:
    """Draw what a model says about a picture.

    Args:
        prediction: about ``image``; masks may refer to a coarser grid, as they say themselves.
        image: (H, W, 3) uint8 BGR; not changed.
        class_names: names by class id; an id without a name is written as a number.
        labels: write class and score into the top left corner of each box, and a legend on a
            map of classes. The classes of a whole picture are written in any case.
        stroke: width of lines and radius of keypoints in pixels; less than 1 counts as 1.

    Returns:
        A new (H, W, 3) uint8 BGR array.
    """
    canvas = np.array(image, order="C")
    stroke = min(max(stroke, 1), _WIDEST_STROKE)
    match prediction:
        case Detections():
            _draw_boxes(canvas, prediction, stroke)
            found = prediction
        case InstanceMasks():
            scale = np.array(canvas.shape[1::-1]) / prediction.size
            found = _scaled(prediction.detections, scale)
            _draw_boxes(canvas, found, stroke)
            _draw_outlines(canvas, prediction.polygons, found.class_ids, scale, stroke)
        case KeyPoints():
            found = prediction.detections
            _draw_boxes(canvas, found, stroke)
            _draw_points(canvas, prediction, stroke)
        case ClassScores():
            _draw_scores(canvas, prediction, class_names, stroke)
            return canvas
        case SemanticMap():
            _draw_map(canvas, prediction, class_names, legend=labels)
            return canvas
    if labels:
        _draw_box_labels(canvas, found, class_names)
    return canvas


def class_name(class_names: Sequence[str], class_id: int) -> str:
    """The name of a class; its id as text when the package names fewer classes."""
    return class_names[class_id] if class_id < len(class_names) else str(class_id)


def encode_jpeg(image: Image, quality: int = 90) -> bytes:
    """Encode (H, W, 3) uint8 BGR as JPEG of ``quality`` 0 to 100.

    Raises:
        ImageError: JPEG cannot hold the picture, which is wider or higher than 65500 pixels.
    """
    height, width = image.shape[:2]
    if max(width, height) > _JPEG_MAX_SIDE:
        raise ImageError(f"A picture of {width} x {height} pixels does not fit a JPEG.")
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _scaled(detections: Detections, scale: NDArray[np.float64]) -> Detections:
    boxes = (detections.boxes * np.tile(scale, 2)).astype(np.float32)
    return Detections(boxes, detections.scores, detections.class_ids)


def _draw_boxes(canvas: Image, detections: Detections, stroke: int) -> None:
    """Draw a rectangle each; corners are truncated to whole pixels."""
    rows = zip(detections.boxes.astype(int).tolist(), detections.class_ids.tolist(), strict=True)
    for (left, top, right, bottom), class_id in rows:
        cv2.rectangle(canvas, (left, top), (right, bottom), _class_color(class_id), stroke)


def _draw_outlines(
    canvas: Image,
    polygons: Sequence[Polygon],
    class_ids: NDArray[np.int64],
    scale: NDArray[np.float64],
    stroke: int,
) -> None:
    for polygon, class_id in zip(polygons, class_ids.tolist(), strict=True):
        if len(polygon) > 2:
            corners = (polygon * scale).astype(np.int32)
            cv2.polylines(canvas, [corners], True, _class_color(class_id), stroke)


def _draw_points(canvas: Image, found: KeyPoints, radius: int) -> None:
    # Keypoints are not clipped to the picture; far outside, OpenCV cannot count their pixels.
    near = (found.points > -radius) & (found.points < np.array(canvas.shape[1::-1]) + radius)
    shown = near.all(axis=2) & (found.confidences > 0)
    centres = np.rint(found.points[shown]).astype(int).tolist()
    class_ids = found.detections.class_ids[np.nonzero(shown)[0]].tolist()
    for centre, class_id in zip(centres, class_ids, strict=True):
        color = _class_color(class_id)
        # A rim, because a dot of two or three pixels is lost on a picture of its own colour.
        cv2.circle(canvas, centre, radius + 1, _text_color(color), cv2.FILLED)
        cv2.circle(canvas, centre, radius, color, cv2.FILLED)


def _draw_scores(
    canvas: Image, found: ClassScores, class_names: Sequence[str], stroke: int
) -> None:
    """Draw a border in the colour of the best class, and a button for each class that is told."""
    by_score = np.argsort(-found.scores, kind="stable")
    above = by_score[found.above[by_score]].tolist()
    if not above:
        return
    color = _class_color(above[0])
    canvas[:stroke] = canvas[-stroke:] = color
    canvas[:, :stroke] = canvas[:, -stroke:] = color
    told = sorted(above) if found.multi_label else above[:1]
    scores = found.scores.tolist()
    texts = [
        f"{told_id} - {class_name(class_names, told_id)} {scores[told_id]:.2f}" for told_id in told
    ]
    _draw_buttons(canvas, texts, told)


def _draw_map(
    canvas: Image, found: SemanticMap, class_names: Sequence[str], *, legend: bool
) -> None:
    """Tint every pixel half with the colour of its class; the background stays as it is."""
    pixels = cv2.calcHist([found.class_ids], [0], None, [256], [0, 256]).ravel()
    pixels[[index for index, name in enumerate(class_names) if name.lower() == BACKGROUND]] = 0
    present = np.flatnonzero(pixels).tolist()
    colors = np.zeros((1, 256, 3), np.uint8)
    for class_id in present:
        colors[0, class_id] = _class_color(class_id)
    tint = cv2.LUT(cv2.cvtColor(found.class_ids, cv2.COLOR_GRAY2BGR), colors)
    shown = cv2.LUT(found.class_ids, (pixels > 0).astype(np.uint8))
    cv2.copyTo(cv2.addWeighted(canvas, 0.5, tint, 0.5, 0), shown, canvas)
    if legend:
        shares = (pixels / found.class_ids.size).tolist()
        texts = [f"{class_name(class_names, index)} {shares[index]:.1%}" for index in present]
        _draw_buttons(canvas, texts, present)


def _draw_box_labels(canvas: Image, detections: Detections, class_names: Sequence[str]) -> None:
    rows = zip(
        detections.boxes.astype(int).tolist(),
        detections.scores.tolist(),
        detections.class_ids.tolist(),
        strict=True,
    )
    for (left, top, _, _), score, class_id in reversed(list(rows)):  # the best lies on top
        text = f"{class_name(class_names, class_id)} {score:.2f}"
        _draw_label(canvas, text, left, top, _class_color(class_id))


def _draw_buttons(canvas: Image, texts: Sequence[str], class_ids: Sequence[int]) -> None:
    """Stack buttons in the top left corner, as many as fit below one another."""
    top = 0
    for text, class_id in zip(texts, class_ids, strict=True):
        height = _label_size(text)[1]
        if top and top + height > len(canvas):
            break
        _draw_label(canvas, text, 0, top, _class_color(class_id))
        top += height


def _draw_label(canvas: Image, text: str, left: int, top: int, color: Color) -> None:
    """Write ``text`` on a filled button at the given corner, moved inwards to stay readable."""
    width, height = _label_size(text)
    left = max(0, min(left, canvas.shape[1] - width))
    top = max(0, min(top, canvas.shape[0] - height))
    canvas[top : top + height, left : left + width] = color
    origin = (left + _LABEL_MARGIN, top + height - _LABEL_MARGIN)
    cv2.putText(canvas, text, origin, _FONT, _FONT_SCALE, _text_color(color), 1)


def _label_size(text: str) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    return width + 2 * _LABEL_MARGIN, height + 2 * _LABEL_MARGIN


def _class_color(class_id: int) -> Color:
    red, green, blue = bytes.fromhex(_PALETTE[class_id % len(_PALETTE)])
    return blue, green, red


def _text_color(color: Color) -> Color:
    blue, green, red = color
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > _BRIGHT else _WHITE
