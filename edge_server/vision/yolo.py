"""Anchor-free YOLO heads: one output (B, 4 + C, N), as YOLOv8, v9, v11 and v12 export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_server.vision.boxes import nms, xywh_to_xyxy
from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections
from engines.base import Array


class AnchorFreeDecoder:
    """Rows 0 to 3 are cx, cy, w, h in network pixels, the others class scores from 0 to 1."""

    def __init__(self, class_names: Sequence[str], thresholds: Thresholds) -> None:
        self._class_names = tuple(class_names)
        self._thresholds = thresholds

    def __call__(
        self, outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> list[Detections]:
        """See ``decoders.Decoder``."""
        head = next(iter(outputs.values()))
        if head.ndim != 3 or head.shape[1] < 4 + len(self._class_names):
            raise ValueError(
                f"its output is {head.shape}; expected (batch, 4 + {len(self._class_names)} "
                "classes, cells)"
            )
        return [
            self._decode(rows, placement, params)
            for rows, placement in zip(head, placements, strict=False)  # padded pictures follow
        ]

    def _decode(self, rows: Array, placement: Placement, params: InferParams) -> Detections:
        names = self._names_of(len(rows) - 4)
        limits = self._thresholds.resolve(params.confidence, names)
        # Most cells see nothing: drop them on the class rows alone, before anything is copied.
        candidates = np.flatnonzero(rows[4:].max(axis=0) > limits.min())
        found = rows[:, candidates].astype(np.float32, copy=False)
        class_ids = found[4:].argmax(axis=0)
        scores = found[4:].max(axis=0)
        if len(limits) > 1:
            above = scores > limits[class_ids]
            found, class_ids, scores = found[:, above], class_ids[above], scores[above]
        boxes = xywh_to_xyxy(found[:4].T)
        kept = nms(
            boxes,
            scores,
            class_ids,
            iou_threshold=params.iou_threshold,
            class_agnostic=params.class_agnostic_nms,
            max_detections=params.max_detections,
        )
        if params.class_filter:  # after max_detections: the reference filters its answer
            wanted = [index for index, name in enumerate(names) if name in params.class_filter]
            kept = kept[np.isin(class_ids[kept], wanted)]
        return Detections(placement.to_original(boxes[kept]), scores[kept], class_ids[kept])

    def _names_of(self, count: int) -> tuple[str, ...]:
        """Names of all channels; one beyond the package's goes by its number, as in answers."""
        return (*self._class_names, *map(str, range(len(self._class_names), count)))
