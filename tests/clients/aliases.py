"""Print the client's own table of aliases. No arguments."""

import json

from inference_sdk.http.utils.aliases import REGISTERED_ALIASES

if __name__ == "__main__":
    print(json.dumps(REGISTERED_ALIASES))
