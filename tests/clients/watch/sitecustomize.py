"""On PYTHONPATH: notes whom a command connects to or looks up, in the file CONNECTIONS names."""

import os
import sys
from pathlib import Path


def _note(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else address
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    with Path(os.environ["CONNECTIONS"]).open("a") as log:
        log.write(f"{host}\n")


sys.addaudithook(_note)
