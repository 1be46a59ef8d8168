"""A child that does what its arguments say instead of building: see ``test_run.py``.

Each argument is a line to print, or one of the words below.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.stdin.readline()
for argument in sys.argv[1:]:
    if argument == "hang":
        time.sleep(600)
    elif argument == "wait for the parent":
        sys.stdin.read()
    elif argument == "note the end":
        sys.stdin.read()
        Path(os.environ["NOTE"]).write_text("ended")
    elif argument.startswith("sleep "):
        time.sleep(float(argument.split()[1]))
    elif argument.startswith("take "):  # MiB
        held = b"x" * (int(argument.split()[1]) << 20)
    elif argument.startswith("die by "):
        os.kill(os.getpid(), signal.Signals[argument.split()[2]])
    elif argument.startswith("exit "):
        sys.exit(int(argument.split()[1]))
    else:
        print(argument, flush=True)
