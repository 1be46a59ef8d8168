"""Ask about one picture under several configurations. Arguments: server, v0 or v1, file."""

import json
import sys

from inference_sdk import InferenceConfiguration, InferenceHTTPClient

MODEL = "demo-parts/1"
CONFIGURATIONS = {
    "default": {},
    "low confidence": {"confidence_threshold": 0.05},
    "high confidence": {"confidence_threshold": 0.6},
    "impossible confidence": {"confidence_threshold": 0.999},
    # Boxes of one part overlap almost wholly: at 0.99 hardly any of them is merged.
    "strict overlap": {"confidence_threshold": 0.05, "iou_threshold": 0.1},
    "loose overlap": {"confidence_threshold": 0.05, "iou_threshold": 0.99},
    "at most two": {"confidence_threshold": 0.05, "max_detections": 2},
    "gears only": {"class_filter": ["gear"]},
    "all classes at once": {
        "confidence_threshold": 0.05,
        "iou_threshold": 0.1,
        "class_agnostic_nms": True,
    },
}


def main(server: str, mode: str, file: str) -> None:
    client = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    client.select_api_v0() if mode == "v0" else client.select_api_v1()
    answers = {}
    for name, fields in CONFIGURATIONS.items():
        with client.use_configuration(InferenceConfiguration(**fields)):
            answers[name] = client.infer(file, model_id=MODEL)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
