"""Ask about every picture of a folder, or every frame of a video."""

from typing import Any

from sdk import connect


def main(source: str, **connection: Any) -> list:
    """Reference, size and answer of each."""
    client = connect(**connection)
    return [
        [str(reference), list(frame.shape), answer]
        for reference, frame, answer in client.infer_on_stream(source, model_id="demo-parts/1")
    ]
