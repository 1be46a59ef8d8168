"""Send one picture in every form the client takes. Arguments: server, v0 or v1, file, its URL."""

import base64
import json
import sys
from pathlib import Path

import cv2
from inference_sdk import InferenceHTTPClient
from PIL import Image

MODEL = "demo-parts/1"


def main(server: str, mode: str, file: str, file_url: str) -> None:
    # v0 refuses to send without a key; the server does not look at it.
    client = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    client.select_api_v0() if mode == "v0" else client.select_api_v1()
    array = cv2.imread(file)
    small = cv2.resize(array, (640, 480), interpolation=cv2.INTER_AREA)
    forms = {
        "path": file,
        "url": file_url,
        "array": array,
        "pil": Image.open(file),
        "base64": base64.b64encode(Path(file).read_bytes()).decode("ascii"),
    }
    answers = {name: client.infer(form, model_id=MODEL) for name, form in forms.items()}
    answers["list"] = client.infer([file, small, file], model_id=MODEL)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
