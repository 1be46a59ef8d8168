"""Ask any model under several configurations. Arguments: server, v0 or v1, model, file, JSON.

The JSON maps names to the fields of an InferenceConfiguration.
"""

import json
import sys

import numpy as np
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError, HTTPClientError


def main(server: str, mode: str, model: str, file: str, configurations: str) -> None:
    client = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    client.select_api_v0() if mode == "v0" else client.select_api_v1()
    answers = {}
    for name, fields in json.loads(configurations).items():
        with client.use_configuration(InferenceConfiguration(**fields)):
            answers[name] = _outcome(client, model, file)
    print(json.dumps(answers))


def _outcome(client: InferenceHTTPClient, model: str, file: str) -> dict:
    try:
        answer = client.infer(file, model_id=model)
    except HTTPCallErrorError as error:
        return {"status": error.status_code, "message": error.api_message}
    except HTTPClientError as error:
        return {"raised": type(error).__name__}
    if isinstance(answer.get("visualization"), np.ndarray):
        answer["visualization"] = list(answer["visualization"].shape)
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
