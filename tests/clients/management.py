"""Load, list and unload models. Argument: server."""

import json
import sys

from inference_sdk import InferenceHTTPClient

MODEL = "demo-parts/1"


def main(server: str) -> None:
    client = InferenceHTTPClient(api_url=server)
    steps = {"info": vars(client.get_server_info())}

    def loaded() -> list[str]:
        return [model.model_id for model in client.list_loaded_models().models]

    steps["at first"] = loaded()
    client.load_model(MODEL)
    steps["loaded"] = loaded()
    entry = client.list_loaded_models().models[0]
    steps["entry"] = [entry.task_type, entry.input_height, entry.input_width]
    client.unload_model(MODEL)
    steps["unloaded"] = loaded()
    client.unload_model(MODEL)  # a second time: not an error
    client.load_model(MODEL, set_as_default=True)
    steps["default"] = client.selected_model
    client.unload_all_models()
    steps["cleared"] = loaded()
    print(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
