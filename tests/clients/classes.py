"""Scores of a picture become supervision.Classifications. Arguments: server, model, file.

Supervision does not read these answers itself; people write the line below.
"""

import json
import sys

import numpy as np
import supervision as sv
from inference_sdk import InferenceConfiguration, InferenceHTTPClient


def main(server: str, model: str, file: str) -> None:
    client = InferenceHTTPClient(api_url=server)
    client.configure(InferenceConfiguration(confidence_threshold=0.0))
    answer = client.infer(file, model_id=model)
    items = answer["predictions"]
    items = items if isinstance(items, list) else list(items.values())
    classifications = sv.Classifications(
        class_id=np.array([item["class_id"] for item in items]),
        confidence=np.array([item["confidence"] for item in items]),
    )
    class_ids, confidences = classifications.get_top_k(1)
    report = {"answer": answer, "best": [int(class_ids[0]), float(confidences[0])]}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
