"""Predictions to the bodies of answers. Pure functions.

Needs no Falcon: the ``edge-server`` command answers with the same bodies without a server.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_server.api.answers import (
    AnyAnswer,
    Box,
    ClassificationAnswer,
    ClassMap,
    ClassMapAnswer,
    ClassScore,
    DetectionAnswer,
    Instance,
    Keypoint,
    LabelsAnswer,
    LabelScore,
    LoadedModel,
    MaskGrid,
    Point,
    Pose,
    PoseAnswer,
    Registry,
    RunLengths,
    SegmentationAnswer,
    Size,
)
from edge_server.images.draw import class_name, draw, encode_jpeg
from edge_server.models.package import ModelPackage
from edge_server.serving.pool import ModelState
from edge_server.vision.predictions import (
    ClassScores,
    Detections,
    Image,
    InstanceMasks,
    KeyPoints,
    Prediction,
    SemanticMap,
)


@dataclass(frozen=True)
class Drawing:
    """How predictions are drawn: with labels or not, and the width of lines in pixels."""

    labels: bool
    stroke: int


def answer(
    package: ModelPackage, image: Image, prediction: Prediction, drawing: Drawing | None
) -> tuple[AnyAnswer, bytes | None]:
    """The body of an answer, without id and time, and the annotated JPEG that was asked for."""
    names = package.class_names
    body = prediction_response(image, prediction, names, package.keypoints)
    if drawing is None:
        return body, None
    canvas = draw(prediction, image, names, labels=drawing.labels, stroke=drawing.stroke)
    jpeg = encode_jpeg(canvas)
    body.visualization = as_base64(jpeg)
    return body, jpeg


def prediction_response(
    image: Image,
    prediction: Prediction,
    class_names: Sequence[str],
    keypoint_names: Sequence[Sequence[str]] = (),
) -> AnyAnswer:
    """The body of an answer, without id and time.

    Args:
        image: the picture as received and decoded.
        prediction: what the model says about it.
        class_names: names by class id; an id without a name is written as a decimal text.
        keypoint_names: by class id, the names of its keypoints in the order of the network; a
            keypoint without a name is none of that class and is left out.

    Returns:
        Coordinates are pixels of ``image``, or of the coarser grid that the body then names;
        boxes are given by their centre and size.
    """
    height, width = image.shape[:2]
    size = Size(width, height)
    match prediction:
        case Detections():
            boxes = [Box(**box) for box in _boxes(prediction, class_names)]
            return DetectionAnswer(image=size, predictions=boxes)
        case InstanceMasks():
            return _masks(size, prediction, class_names)
        case KeyPoints():
            poses = _poses(prediction, class_names, keypoint_names)
            return PoseAnswer(image=size, predictions=poses)
        case ClassScores(multi_label=True):
            return _labels(size, prediction, class_names)
        case ClassScores():
            return _ranking(size, prediction, class_names)
        case SemanticMap():
            classes = _class_map(prediction, class_names)
            return ClassMapAnswer(image=size, predictions=classes)


def as_base64(data: bytes) -> str:
    """Standard base64 text without a data-URI prefix."""
    return base64.b64encode(data).decode("ascii")


def registry_response(states: Sequence[ModelState]) -> Registry:
    """The body of every ``/model/*`` answer: the loaded models. Here null fields are written."""
    return Registry(
        models=[
            LoadedModel(
                model_id=state.model_id,
                task_type=_TASK_TYPES.get(state.model.package.task, state.model.package.task),
                batch_size=state.model.static_batch,
                input_height=state.model.package.network_input.height,
                input_width=state.model.package.network_input.width,
                request_aliases=list(state.aliases),
                request_paths=list(state.paths),
            )
            for state in states
            if state.model is not None
        ]
    )


# Packages tell two kinds of classifiers apart; clients know one, and refuse to ask the other.
_TASK_TYPES = {"multi-label-classification": "classification"}


def _boxes(detections: Detections, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The fields of ``Box``, for boxes that may get more of them."""
    corners = detections.boxes.astype(float)
    sizes = corners[:, 2:] - corners[:, :2]
    centres = (corners[:, 2:] + corners[:, :2]) / 2
    rows = zip(
        centres.tolist(),
        sizes.tolist(),
        detections.scores.tolist(),
        detections.class_ids.tolist(),
        strict=True,
    )
    return [
        {
            "x": x,
            "y": y,
            "width": box_width,
            "height": box_height,
            "confidence": score,
            "class_": class_name(class_names, class_id),
            "class_id": class_id,
            "detection_id": str(uuid.uuid4()),
        }
        for (x, y), (box_width, box_height), score, class_id in rows
    ]


def _masks(size: Size, found: InstanceMasks, class_names: Sequence[str]) -> SegmentationAnswer:
    boxes = _boxes(found.detections, class_names)
    width, height = found.size
    if found.rles is not None:
        instances = [
            Instance(**box, rle=RunLengths((height, width), counts), mask_format="rle")
            for box, counts in zip(boxes, found.rles, strict=True)
        ]
    else:
        instances = [
            Instance(
                **box,
                points=[Point(x, y) for x, y in polygon.astype(float).tolist()],
                mask_format="polygon",
            )
            for box, polygon in zip(boxes, found.polygons, strict=True)
        ]
    grid = Size(width, height)
    body = SegmentationAnswer(image=grid, predictions=instances)
    if grid != size:
        body.original_image = size
        body.mask_metadata = MaskGrid(
            width=width,
            height=height,
            scale_x=size.width / width,
            scale_y=size.height / height,
        )
    return body


def _poses(
    found: KeyPoints, class_names: Sequence[str], keypoint_names: Sequence[Sequence[str]]
) -> list[Pose]:
    poses = []
    boxes = _boxes(found.detections, class_names)
    each = zip(boxes, found.points.tolist(), found.confidences.tolist(), strict=True)
    for box, points, confidences in each:
        class_id = box["class_id"]
        names = keypoint_names[class_id] if class_id < len(keypoint_names) else ()
        keypoints = [
            Keypoint(x=x, y=y, confidence=confidence, class_id=slot, class_=name)
            for slot, (name, (x, y), confidence) in enumerate(
                zip(names, points, confidences, strict=False)  # a class may have fewer keypoints
            )
            if confidence > 0
        ]
        poses.append(Pose(**box, keypoints=keypoints))
    return poses


def _ranking(size: Size, found: ClassScores, class_names: Sequence[str]) -> ClassificationAnswer:
    scores = found.scores.tolist()
    rows = [
        ClassScore(
            class_=class_name(class_names, class_id),
            class_id=class_id,
            confidence=round(scores[class_id], 4),
        )
        for class_id in np.flatnonzero(found.above).tolist()
    ]
    rows.sort(key=lambda row: -row.confidence)
    return ClassificationAnswer(
        image=size,
        predictions=rows,
        top=rows[0].class_ if rows else "",
        confidence=rows[0].confidence if rows else 0.0,
    )


def _labels(size: Size, found: ClassScores, class_names: Sequence[str]) -> LabelsAnswer:
    names = [class_name(class_names, class_id) for class_id in range(len(found.scores))]
    scores = zip(names, found.scores.tolist(), strict=True)
    return LabelsAnswer(
        image=size,
        predictions={
            name: LabelScore(confidence=score, class_id=class_id)
            for class_id, (name, score) in enumerate(scores)
        },
        predicted_classes=[names[class_id] for class_id in np.flatnonzero(found.above)],
    )


def _class_map(found: SemanticMap, class_names: Sequence[str]) -> ClassMap:
    present = np.flatnonzero(found.pixel_counts()).tolist()
    known = sorted({*range(len(class_names)), *present})
    return ClassMap(
        segmentation_mask=as_base64(_png(found.class_ids)),
        confidence_mask=as_base64(_png(found.confidences)),
        class_map={str(class_id): class_name(class_names, class_id) for class_id in known},
        present_class_ids=present,
    )


def _png(values: Image) -> bytes:
    """One channel of 8 bits, lossless."""
    return cv2.imencode(".png", values)[1].tobytes()
