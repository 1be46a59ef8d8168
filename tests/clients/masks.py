"""Masks become supervision.Detections and are drawn."""

from typing import Any

import cv2
import numpy as np
import supervision as sv
from inference_sdk import InferenceConfiguration
from sdk import connect


def main(file: str, model: str, **connection: Any) -> dict:
    client = connect(**connection)
    picture = cv2.imread(file)
    report, masks = {}, {}
    for form in ("polygon", "rle"):
        with client.use_configuration(InferenceConfiguration(response_mask_format=form)):
            answer = client.infer(file, model_id=model)
        detections = sv.Detections.from_inference(answer)
        drawn = sv.MaskAnnotator().annotate(picture.copy(), detections)
        outlined = sv.PolygonAnnotator().annotate(picture.copy(), detections)
        masks[form] = detections.mask
        report[form] = {
            "answer": answer,
            "class names": detections.data["class_name"].tolist(),
            "shape": list(detections.mask.shape),
            "areas": detections.mask.sum(axis=(1, 2)).tolist(),
            "inside boxes": _inside(detections),
            "drawn": _changed(picture, drawn),
            "outlined": _changed(picture, outlined),
        }
    pairs = zip(masks["polygon"], masks["rle"], strict=True)
    covered = [float((polygon & rle).sum() / rle.sum()) for polygon, rle in pairs]
    return {**report, "covered": covered}


def _inside(detections: sv.Detections) -> list[float]:
    """The share of every mask that lies in its box, give or take two pixels."""
    shares = []
    for mask, (left, top, right, bottom) in zip(detections.mask, detections.xyxy, strict=True):
        rows, columns = np.nonzero(mask)
        inside = (columns >= left - 2) & (columns <= right + 2)
        inside &= (rows >= top - 2) & (rows <= bottom + 2)
        shares.append(float(inside.mean()))
    return shares


def _changed(before: np.ndarray, after: np.ndarray) -> int:
    return int((before != after).any(axis=2).sum())
