"""Scores of a picture become supervision.Classifications.

Supervision does not read these answers itself; people write the line below.
"""

import numpy as np
import supervision as sv
from sdk import connect


def main(server: str, model: str, file: str) -> dict:
    client = connect(server, configuration={"confidence_threshold": 0.0})
    answer = client.infer(file, model_id=model)
    items = answer["predictions"]
    items = items if isinstance(items, list) else list(items.values())
    classifications = sv.Classifications(
        class_id=np.array([item["class_id"] for item in items]),
        confidence=np.array([item["confidence"] for item in items]),
    )
    class_ids, confidences = classifications.get_top_k(1)
    return {"answer": answer, "best": [int(class_ids[0]), float(confidences[0])]}
