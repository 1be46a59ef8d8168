"""Find parts on a picture three ways, and draw them: by file address, as an array, as base64.

Install what it uses beside your own program, then run it against a server on this machine:

    pip install inference-sdk supervision
    python examples/client.py

The value of API_URL alone decides who answers: this server, or the hosted API (which also wants
API_KEY, and a MODEL_ID that your account may use):

    API_URL=http://edge-box.local:9001 python examples/client.py
    API_URL=https://detect.roboflow.com API_KEY=... MODEL_ID=coco/3 python examples/client.py

PICTURE_URL names a picture on the web to use for the first way; without it a file on this disk
is used. The annotated picture is written to the file that OUT names, annotated.jpg by default.
"""

import base64
import os
from pathlib import Path

import cv2
import numpy as np
import supervision as sv
from inference_sdk import InferenceConfiguration, InferenceHTTPClient

API_URL = os.environ.get("API_URL", "http://127.0.0.1:9001")
API_KEY = os.environ.get("API_KEY")
MODEL_ID = os.environ.get("MODEL_ID", "demo-parts/1")
OUT = os.environ.get("OUT", "annotated.jpg")

EXAMPLES = Path(__file__).parent.parent / "edge_server/bundled/demo-parts/1/examples"
PICTURE = EXAMPLES / "inspection-1.jpg"
PICTURE_URL = os.environ.get("PICTURE_URL", str(PICTURE))


def main() -> None:
    """Ask three times about a picture, say what was found, draw the second answer."""
    client = InferenceHTTPClient(api_url=API_URL, api_key=API_KEY)
    client.configure(InferenceConfiguration(confidence_threshold=0.4, iou_threshold=0.3))

    # 1. An address: the client downloads it and sends the bytes.
    report("URL", client.infer(PICTURE_URL, model_id=MODEL_ID))

    # 2. A NumPy array in BGR order, such as a camera frame read by OpenCV.
    frame = cv2.imread(str(PICTURE))
    answer = client.infer(frame, model_id=MODEL_ID)
    report("NumPy array", answer)
    cv2.imwrite(OUT, draw(frame, sv.Detections.from_inference(answer)))
    print(f"The annotated picture is {OUT}")

    # 3. Base64 text, such as another service passes on.
    text = base64.b64encode(PICTURE.read_bytes()).decode("ascii")
    report("base64", client.infer(text, model_id=MODEL_ID))


def report(way: str, answer: dict) -> None:
    """Print one line: how the picture was sent and what was found on it."""
    found = [f"{item['class']} {item['confidence']:.0%}" for item in answer["predictions"]]
    print(f"{way:<12} {len(found)} found: {', '.join(found)}")


def draw(frame: np.ndarray, detections: sv.Detections) -> np.ndarray:
    """A copy of ``frame`` with a box and a label on each detection."""
    names = detections.data.get("class_name", [])
    labels = [
        f"{name} {confidence:.0%}"
        for name, confidence in zip(names, detections.confidence, strict=True)
    ]
    boxed = sv.BoxAnnotator(thickness=3).annotate(frame.copy(), detections)
    return sv.LabelAnnotator().annotate(boxed, detections, labels=labels)


if __name__ == "__main__":
    main()
