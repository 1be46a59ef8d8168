"""What the client says when a call goes wrong. Arguments: server, a good picture."""

import json
import sys
from collections.abc import Callable

from inference_sdk import InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError, HTTPClientError


def main(server: str, file: str) -> None:
    v1 = InferenceHTTPClient(api_url=server)
    v0 = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    v0.select_api_v0()
    nobody = InferenceHTTPClient(api_url="http://127.0.0.1:9")
    calls = {
        "v1 unknown model": lambda: v1.infer(file, model_id="no-such-model/7"),
        "v0 unknown model": lambda: v0.infer(file, model_id="no-such-model/7"),
        "load unknown model": lambda: v1.load_model("no-such-model/7"),
        "v1 wrong path": lambda: v1.infer("no-such-file.jpg", model_id="demo-parts/1"),
        "v0 wrong path": lambda: v0.infer("no-such-file.jpg", model_id="demo-parts/1"),
        "no server": nobody.get_server_info,
    }
    print(json.dumps({name: outcome(call) for name, call in calls.items()}))


def outcome(call: Callable[[], object]) -> dict[str, object]:
    try:
        call()
    except HTTPCallErrorError as error:
        return {"status": error.status_code, "message": error.api_message}
    except HTTPClientError as error:
        return {"raised": type(error).__name__}
    return {"raised": None}


if __name__ == "__main__":
    main(*sys.argv[1:])
