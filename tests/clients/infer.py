"""Ask any model about pictures in any form, in any mode and configuration, sync or async."""

from typing import Any

from sdk import call, connect, form, outcome


def main(
    model: str | None,
    pictures: list,
    twin: str = "sync",
    method: str = "infer",
    **connection: Any,
) -> Any:
    """``pictures`` is a pair of a form and a reference, or a list of such pairs."""
    client = connect(**connection)
    many = not pictures or isinstance(pictures[0], list)
    sent = [form(*pair) for pair in pictures] if many else form(*pictures)
    return outcome(lambda: call(client, twin, method, sent, model_id=model))
