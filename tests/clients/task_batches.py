"""Send a list at once, and a picture that the client shrinks. Arguments: server, model, file."""

import json
import sys

import cv2
from inference_sdk import InferenceConfiguration, InferenceHTTPClient


def main(server: str, model: str, file: str) -> None:
    client = InferenceHTTPClient(api_url=server)
    half = cv2.resize(cv2.imread(file), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    double = cv2.resize(cv2.imread(file), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    answers = {"one": client.infer(file, model_id=model)}
    with client.use_configuration(InferenceConfiguration(max_batch_size=4)):
        answers["batch"] = client.infer([file, half, file], model_id=model)
    with client.use_configuration(InferenceConfiguration(client_downsizing_disabled=False)):
        answers["downsized"] = client.infer(double, model_id=model)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
