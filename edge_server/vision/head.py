"""The contract of decoders: what one is made from, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from edge_server.vision.params import InferParams, Thresholds
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import Prediction
from engines.base import Array


@dataclass(frozen=True)
class HeadSpec:
    """What a decoder is made from: the package's facts, and the shapes that the network gave.

    Attributes:
        class_names: by class id, as answers name them.
        output_shapes: of one real run, in the order of the network, the batch first.
        thresholds: the confidences that the package recommends.
        fused: the graph itself ends in NMS, softmax or sigmoid.
        removed_columns: class columns of the network that are no class of the package, such as
            the background of RF-DETR.
        keypoint_counts: by class id, how many keypoints the class has; empty for other tasks.
    """

    class_names: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    fused: bool = False
    removed_columns: tuple[int, ...] = ()
    keypoint_counts: tuple[int, ...] = ()

    @property
    def found(self) -> str:
        """The output shapes, for messages."""
        return ", ".join(map(str, self.output_shapes))


class Decoder(Protocol):
    """Made once per model, closed over its classes; never knows which engine ran."""

    def __call__(
        self, outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> Sequence[Prediction]:
        """Read the outputs of one run.

        Args:
            outputs: in the order of the network; the batch may be longer than ``placements``.
            placements: of the real pictures, which come first in the batch.
            params: of the request.

        Returns:
            one prediction per placement, in pixels of its picture as received.
        """


DecoderMaker: TypeAlias = Callable[[HeadSpec], Decoder]
"""Raises ValueError when the outputs are not of its family; says what was found and expected."""
