"""Answers become supervision.KeyPoints and are drawn."""

from typing import Any

import cv2
import supervision as sv
from inference_sdk import InferenceConfiguration
from sdk import connect


def main(file: str, model: str, **connection: Any) -> dict:
    client = connect(**connection)
    picture = cv2.imread(file)
    answer = client.infer(file, model_id=model)
    keypoints = sv.KeyPoints.from_inference(answer)
    drawn = sv.VertexAnnotator(radius=3).annotate(picture.copy(), keypoints)
    detections = sv.Detections.from_inference(answer)
    client.configure(InferenceConfiguration(confidence_threshold=0.999))
    nothing = sv.KeyPoints.from_inference(client.infer(file, model_id=model))
    return {
        "answer": answer,
        "xy": keypoints.xy.tolist(),
        "class ids": keypoints.class_id.tolist(),
        "class names": keypoints.data["class_name"].tolist(),
        "boxes": detections.xyxy.tolist(),
        "drawn": int((picture != drawn).any(axis=2).sum()),
        "empty": len(nothing),
    }
