"""Which decoder reads the outputs of which family. One line per family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Detections
from edge_server.vision.yolo import AnchorFreeDecoder
from engines.base import Array


class Decoder(Protocol):
    """Made once per model, closed over its classes; never knows which engine ran."""

    def __call__(
        self, outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> list[Detections]:
        """Read the outputs of one run.

        Args:
            outputs: in the order of the network; the batch may be longer than ``placements``.
            placements: of the real pictures, which come first in the batch.
            params: of the request.

        Returns:
            one prediction per placement, in pixels of its picture as received.

        Raises:
            ValueError: the outputs are not of this family; says what was found and expected.
        """


DecoderMaker: TypeAlias = Callable[[Sequence[str], Thresholds], Decoder]

_FAMILIES = {
    "object-detection": "yolov5 yolov8 yolov9 yolov10 yolov11 yolov12 yolo26 "
    "yolonas yololite rfdetr",
    "instance-segmentation": "yolov5 yolov7 yolov8 yolov11 yolo26 rfdetr",
    "keypoint-detection": "yolov8 yolov11 yolo26",
    "classification": "vit resnet dinov3 yolov8 yolov11",
    "multi-label-classification": "vit resnet dinov3",
    "semantic-segmentation": "deeplabv3plus yolo26 rfdetr",
}
DECODERS: dict[tuple[str, str], DecoderMaker] = {
    (task, family): AnchorFreeDecoder
    for task, names in _FAMILIES.items()
    for family in names.split()
}
