"""Predictions and pictures for tests, made of short lists."""

from __future__ import annotations

import numpy as np

from edge_server.vision.predictions import Detections


def grey_image(width=60, height=40):
    return np.full((height, width, 3), 200, np.uint8)


def detections(*rows):
    """Rows of x1, y1, x2, y2, score, class id."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        boxes=table[:, :4].astype(np.float32),
        scores=table[:, 4].astype(np.float32),
        class_ids=table[:, 5].astype(np.int64),
    )
