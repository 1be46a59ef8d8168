"""The client's own table of aliases."""

from inference_sdk.http.utils.aliases import REGISTERED_ALIASES


def main() -> dict:
    return REGISTERED_ALIASES
