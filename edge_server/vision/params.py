"""What a caller may choose per request, and the thresholds that a model package recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Confidence: TypeAlias = float | Literal["best", "default"]

# The reference's own, for the YOLO families served here.
DEFAULT_CONFIDENCE = 0.4
DEFAULT_IOU_THRESHOLD = 0.3
DEFAULT_MAX_DETECTIONS = 300


@dataclass(frozen=True)
class InferParams:
    """The caller's wishes for one request.

    Attributes:
        confidence: scores must exceed it; ``best`` takes what the package recommends,
            ``default`` what the family uses.
        iou_threshold: of two boxes that overlap more, the lower-scored one is removed.
        class_agnostic_nms: boxes of different classes remove each other too.
        class_filter: names of the classes to keep; empty keeps all.
        max_detections: per picture, the best are kept.
        keypoint_confidence: keypoints below it are left out; None takes what the family uses.
        rle_masks: masks as run lengths too, not only as polygons.
        mask_resolution: from 0, the network's own mask grid, to 1, the picture's; None is the
            picture's with boxes on whole pixels, what callers get who do not ask.
        disable_static_crop: skip the crop stored with the model.
        disable_contrast: skip the contrast step stored with the model.
        disable_grayscale: skip the greyscale step stored with the model.
    """

    confidence: Confidence = DEFAULT_CONFIDENCE
    iou_threshold: float = DEFAULT_IOU_THRESHOLD
    class_agnostic_nms: bool = False
    class_filter: tuple[str, ...] = ()
    max_detections: int = DEFAULT_MAX_DETECTIONS
    keypoint_confidence: float | None = None
    rle_masks: bool = False
    mask_resolution: float | None = None
    disable_static_crop: bool = False
    disable_contrast: bool = False
    disable_grayscale: bool = False


@dataclass(frozen=True)
class Thresholds:
    """The confidences that a package recommends, from the evaluation of the model.

    Attributes:
        confidence: for classes without one of their own; None when there is no recommendation.
        per_class: by class name; counts only together with ``confidence``.
    """

    confidence: float | None = None
    per_class: Mapping[str, float] = field(default_factory=dict)

    def resolve(
        self, confidence: Confidence, class_names: Sequence[str], default: float
    ) -> NDArray[np.float32]:
        """The threshold to apply: one for all classes (1,), or one per class (C,).

        Args:
            confidence: what the caller asks for.
            class_names: by class id.
            default: what the family uses when neither caller nor package says a number.
        """
        if confidence == "best" and self.confidence is not None:
            per_class = [self.per_class.get(name, self.confidence) for name in class_names]
            return np.array(per_class if self.per_class else [self.confidence], np.float32)
        if isinstance(confidence, str):
            confidence = default
        return np.array([confidence], np.float32)
