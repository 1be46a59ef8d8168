"""Ask who the server is, load, describe, list and unload models."""

import logging
import re
from typing import Any

from sdk import call, connect, outcome

MODEL = "demo-parts/1"
OTHER = "demo-trays/1"


def main(twin: str, picture: str, **connection: Any) -> dict:
    client = connect(**connection)

    def ask(method: str, *arguments: Any, **named: Any) -> Any:
        return call(client, twin, method, *arguments, **named)

    def ids(method: str, *arguments: Any, **named: Any) -> list[str]:
        return [model.model_id for model in ask(method, *arguments, **named).models]

    def describe(model: str, **named: Any) -> dict:
        return outcome(lambda: vars(ask("get_model_description", model, **named)))

    return {
        "info": vars(client.get_server_info()),
        "at first": ids("list_loaded_models"),
        "described, no loading": describe(MODEL, allow_loading=False),
        "described": describe(MODEL),
        "then listed": ids("list_loaded_models"),
        "described again": describe(MODEL, allow_loading=False),
        "loaded again": ids("load_model", MODEL),
        "loaded another": ids("load_model", OTHER, set_as_default=True),
        "default": client.selected_model,
        "asked the default": ask("infer", picture)["predicted_classes"],
        "unloaded": ids("unload_model", OTHER),
        "no default": [client.selected_model, outcome(lambda: ask("infer", picture))],
        "unloaded again": ids("unload_model", OTHER),
        "unloaded what never was": ids("unload_model", "no-such-model/7"),
        "cleared": ids("unload_all_models"),
        "cleared again": ids("unload_all_models"),
        "at last": ids("list_loaded_models"),
        "requests of two calls": _requests(lambda: [ask("infer", picture, MODEL) for _ in "12"]),
    }


def _requests(action: Any) -> list[str]:
    """What requests sends meanwhile; the async methods use another library."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("urllib3.connectionpool")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    action()
    log.removeHandler(handler)
    return [found[1] for line in lines if (found := re.search(r'"(\w+ [^ ?]+)', line))]
