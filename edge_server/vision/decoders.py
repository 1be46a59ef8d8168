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

DECODERS: dict[tuple[str, str], DecoderMaker] = {
    ("object-detection", "yolov8"): AnchorFreeDecoder,
    ("object-detection", "yolov9"): AnchorFreeDecoder,
    ("object-detection", "yolov11"): AnchorFreeDecoder,
    ("object-detection", "yolov12"): AnchorFreeDecoder,
}
