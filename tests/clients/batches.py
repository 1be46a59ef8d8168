"""Send lists in batches, and a picture that the client shrinks. Arguments: server, files."""

import json
import sys

from inference_sdk import InferenceConfiguration, InferenceHTTPClient

MODEL = "demo-parts/1"


def main(server: str, *files: str) -> None:
    client = InferenceHTTPClient(api_url=server)  # v1 needs no key
    answers = {}
    for size in (1, 2, 4):
        with client.use_configuration(InferenceConfiguration(max_batch_size=size)):
            answers[f"batches of {size}"] = client.infer(list(files), model_id=MODEL)
    answers["empty list"] = client.infer([], model_id=MODEL)
    with client.use_configuration(InferenceConfiguration(client_downsizing_disabled=False)):
        answers["downsized"] = client.infer(files[0], model_id=MODEL)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
