"""Ask for the list of models as often as it comes, while another thread has pictures to ask."""

import threading
from typing import Any

from sdk import connect, form


def main(server: str, model: str, pictures: list) -> dict:
    answers: list[Any] = []
    sent = [form(*pair) for pair in pictures]
    worker = connect(server, configuration={"max_batch_size": len(sent)})
    thread = threading.Thread(target=lambda: answers.extend(worker.infer(sent, model_id=model)))
    client = connect(server)
    thread.start()
    registries = 0
    while thread.is_alive():
        client.list_loaded_models()
        registries += thread.is_alive()
    return {"answers": len(answers), "registries meanwhile": registries}
