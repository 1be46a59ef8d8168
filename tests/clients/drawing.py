"""Answers become supervision.Detections and are drawn."""

import cv2
import numpy as np
import supervision as sv
from inference_sdk import InferenceConfiguration
from sdk import connect

MODEL = "demo-parts/1"


def main(server: str, file: str) -> dict:
    client = connect(server)
    picture = cv2.imread(file)
    answer = client.infer(picture, model_id=MODEL)
    detections = sv.Detections.from_inference(answer)
    boxed = sv.BoxAnnotator().annotate(picture.copy(), detections)
    labelled = sv.LabelAnnotator().annotate(boxed.copy(), detections)
    client.configure(InferenceConfiguration(confidence_threshold=0.999))
    nothing = sv.Detections.from_inference(client.infer(picture, model_id=MODEL))
    report = {
        "answer": answer,
        "xyxy": detections.xyxy.tolist(),
        "class names": detections.data["class_name"].tolist(),
        "changed by boxes": _changed(picture, boxed),
        "changed by labels": _changed(boxed, labelled),
        "empty": len(nothing),
    }
    client.configure(
        InferenceConfiguration(visualize_predictions=True, output_visualisation_format="numpy")
    )
    drawn = client.infer(picture, model_id=MODEL)["visualization"]
    report["drawn by the server"] = [list(drawn.shape), _changed(picture, drawn)]
    return report


def _changed(before: np.ndarray, after: np.ndarray) -> int:
    """Pixels that differ by more than the JPEG format alone explains."""
    difference = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=2)
    return int((difference > 60).sum())
