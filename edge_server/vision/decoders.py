"""Which decoder reads the outputs of which family. One line per family and task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from edge_server.vision.candidates import Candidates, Head, require_finite
from edge_server.vision.classification import multi_label, single_label
from edge_server.vision.detr import queries
from edge_server.vision.head import Decoder, DecoderMaker, HeadSpec
from edge_server.vision.masks import (
    MaskRule,
    instance_masks,
    prototype_patches,
    whole_patches,
)
from edge_server.vision.params import DEFAULT_CONFIDENCE, InferParams
from edge_server.vision.placement import Placement
from edge_server.vision.predictions import KeyPoints, Prediction
from edge_server.vision.semantic import class_map
from edge_server.vision.yolo import (
    HeadMaker,
    anchor_free,
    boxes_and_scores,
    boxes_objectness_and_logits,
    objectness,
    one_to_one,
)
from engines.base import Array

_LOW = 0.25  # what YOLO26 and YOLOLite were tuned for

Finish: TypeAlias = Callable[[Candidates, Sequence[Array], Placement, InferParams], Prediction]


def detector(make_head: HeadMaker, default: float = DEFAULT_CONFIDENCE) -> DecoderMaker:
    """Boxes of a YOLO head."""
    return lambda spec: _decoder(make_head(spec, 0, default), _boxes)


def segmenter(
    make_head: HeadMaker, rule: MaskRule, default: float = DEFAULT_CONFIDENCE
) -> DecoderMaker:
    """Boxes of a YOLO head with masks made of prototypes, the output of four dimensions."""

    def make(spec: HeadSpec) -> Decoder:
        shapes = spec.output_shapes
        ranks = [len(shape) for shape in shapes]
        if 4 not in ranks:
            raise ValueError(
                f"its outputs are {spec.found}; expected prototypes "
                "(batch, channels, rows, columns) among them"
            )
        protos = ranks.index(4)
        return _decoder(make_head(spec, shapes[protos][1], default), _masks(rule, protos))

    return make


def pose(
    make_head: HeadMaker, keypoint_default: float, default: float = DEFAULT_CONFIDENCE
) -> DecoderMaker:
    """Boxes of a YOLO head with keypoints."""

    def make(spec: HeadSpec) -> Decoder:
        counts = np.array(spec.keypoint_counts)
        if len(counts) != len(spec.class_names):
            raise ValueError(
                f"its package describes the keypoints of {len(counts)} classes; expected those "
                f"of {len(spec.class_names)}"
            )
        head = make_head(spec, 3 * int(counts.max()), default)

        def finish(
            found: Candidates, outputs: Sequence[Array], placement: Placement, params: InferParams
        ) -> KeyPoints:
            triples = found.extras.reshape(len(found.extras), found.extras.shape[1] // 3, 3)
            limit = params.keypoint_confidence
            lowest = np.float32(keypoint_default if limit is None else limit)
            confidences = triples[..., 2]
            shown = confidences >= lowest
            # An end-to-end head may give a class that the package does not have.
            known = (found.class_ids >= 0) & (found.class_ids < len(counts))
            mine = np.where(known, counts.take(found.class_ids, mode="clip"), 0)
            shown &= np.arange(triples.shape[1]) < mine[:, None]
            points = np.rint(placement.to_original(triples[..., :2]))
            require_finite(points)
            return KeyPoints(
                found.detections(placement), points, np.where(shown, confidences, np.float32(0))
            )

        return _decoder(head, finish)

    return make


def rfdetr_detector(spec: HeadSpec) -> Decoder:
    """RF-DETR."""
    return _decoder(queries(spec, DEFAULT_CONFIDENCE, masks=False), _boxes)


def rfdetr_segmenter(spec: HeadSpec) -> Decoder:
    """RF-DETR-Seg."""
    rule = MaskRule(whole_patches, threshold=0.0)
    return _decoder(queries(spec, DEFAULT_CONFIDENCE, masks=True), _masks(rule, 2))


def _boxes(
    found: Candidates, outputs: Sequence[Array], placement: Placement, params: InferParams
) -> Prediction:
    return found.detections(placement)


def _masks(rule: MaskRule, grids: int) -> Finish:
    def finish(
        found: Candidates, outputs: Sequence[Array], placement: Placement, params: InferParams
    ) -> Prediction:
        return instance_masks(found, outputs[grids], placement, params, rule)

    return finish


def _decoder(head: Head, finish: Finish) -> Decoder:
    def decode(
        outputs: Mapping[str, Array], placements: Sequence[Placement], params: InferParams
    ) -> list[Prediction]:
        answers = []
        for index, placement in enumerate(placements):
            mine = [output[index] for output in outputs.values()]
            answers.append(finish(head(mine, placement, params), mine, placement, params))
        return answers

    return decode


# The reference enlarges probabilities for these two, logits for the others: the outlines differ.
_PROBABILITIES = MaskRule(prototype_patches(activate=True), threshold=0.5)
_LOGITS = MaskRule(prototype_patches(activate=False), threshold=0.0)

DECODERS: dict[tuple[str, str], DecoderMaker] = {
    ("object-detection", "yolov5"): detector(objectness),
    ("object-detection", "yolov8"): detector(anchor_free),
    ("object-detection", "yolov9"): detector(anchor_free),
    ("object-detection", "yolov10"): detector(one_to_one),
    ("object-detection", "yolov11"): detector(anchor_free),
    ("object-detection", "yolov12"): detector(anchor_free),
    ("object-detection", "yolo26"): detector(anchor_free, _LOW),
    ("object-detection", "yolonas"): detector(boxes_and_scores),
    ("object-detection", "yololite"): detector(boxes_objectness_and_logits, _LOW),
    ("object-detection", "rfdetr"): rfdetr_detector,
    ("instance-segmentation", "yolov5"): segmenter(objectness, _LOGITS),
    ("instance-segmentation", "yolov7"): segmenter(objectness, _LOGITS),
    ("instance-segmentation", "yolov8"): segmenter(anchor_free, _PROBABILITIES),
    ("instance-segmentation", "yolov11"): segmenter(anchor_free, _PROBABILITIES),
    ("instance-segmentation", "yolo26"): segmenter(anchor_free, _LOGITS, _LOW),
    ("instance-segmentation", "rfdetr"): rfdetr_segmenter,
    ("keypoint-detection", "yolov8"): pose(anchor_free, 0.0),
    ("keypoint-detection", "yolov11"): pose(anchor_free, 0.0),
    ("keypoint-detection", "yolo26"): pose(anchor_free, 0.3, _LOW),
    ("classification", "vit"): single_label,
    ("classification", "resnet"): single_label,
    ("classification", "dinov3"): single_label,
    ("classification", "yolov8"): single_label,
    ("classification", "yolov11"): single_label,
    ("multi-label-classification", "vit"): multi_label,
    ("multi-label-classification", "resnet"): multi_label,
    ("multi-label-classification", "dinov3"): multi_label,
    ("semantic-segmentation", "deeplabv3plus"): partial(class_map, default=0.5),
    ("semantic-segmentation", "yolo26"): partial(class_map, default=0.25),
    ("semantic-segmentation", "rfdetr"): partial(class_map, default=0.4, competing=False),
}
