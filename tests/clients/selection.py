"""Choose the model and the mode once for several calls, for good or for a block."""

from typing import Any

from inference_sdk import InferenceConfiguration
from sdk import connect, outcome

MODEL = "demo-parts/1"
OTHER = "demo-trays/1"


def main(server: str, picture: str) -> dict:
    client = connect(server)
    few = InferenceConfiguration(max_detections=1)

    def ask() -> Any:
        return outcome(lambda: client.infer(picture))

    answers = {"nothing selected": ask()}
    with client.use_model(OTHER):
        answers["used"] = ask()
    answers["after use"] = ask()
    client.select_model(MODEL)
    answers["selected"] = ask()
    with client.use_model(OTHER):
        answers["used over selected"] = ask()
    with client.use_configuration(few):
        answers["configuration used"] = ask()
    with client.use_api_v0():
        answers["v0"] = ask()
        answers["v0 has no registry"] = outcome(client.list_loaded_models)
    with client.select_api_v0().use_api_v1():
        answers["v1"] = ask()
    client.configure(few)
    answers["configured"] = ask()
    answers["v0 in so many words"] = outcome(lambda: client.infer_from_api_v0(picture))
    client.select_api_v1()
    answers["v1 in so many words"] = outcome(lambda: client.infer_from_api_v1(picture))
    return answers
