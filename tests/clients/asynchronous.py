"""The same inference through the client's async methods. Arguments: server, v0 or v1, file."""

import asyncio
import json
import sys

from inference_sdk import InferenceHTTPClient

MODEL = "demo-parts/1"


async def main(server: str, mode: str, file: str) -> None:
    client = InferenceHTTPClient(api_url=server, api_key="no-key-needed")
    client.select_api_v0() if mode == "v0" else client.select_api_v1()
    one = await client.infer_async(file, model_id=MODEL)
    many = await client.infer_async([file, file], model_id=MODEL)
    print(json.dumps({"one": one, "many": many}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
