"""Answers become supervision.KeyPoints and are drawn. Arguments: server, v0 or v1, model, file."""

import json
import sys

import cv2
import supervision as sv
from inference_sdk import InferenceConfiguration, InferenceHTTPClient


def main(server: str, mode: str, model: str, file: str) -> None:
    client = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    client.select_api_v0() if mode == "v0" else client.select_api_v1()
    picture = cv2.imread(file)
    answer = client.infer(file, model_id=model)
    keypoints = sv.KeyPoints.from_inference(answer)
    drawn = sv.VertexAnnotator(radius=3).annotate(picture.copy(), keypoints)
    detections = sv.Detections.from_inference(answer)
    client.configure(InferenceConfiguration(confidence_threshold=0.999))
    nothing = sv.KeyPoints.from_inference(client.infer(file, model_id=model))
    report = {
        "answer": answer,
        "xy": keypoints.xy.tolist(),
        "class ids": keypoints.class_id.tolist(),
        "class names": keypoints.data["class_name"].tolist(),
        "boxes": detections.xyxy.tolist(),
        "drawn": int((picture != drawn).any(axis=2).sum()),
        "empty": len(nothing),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
