"""Run the scripts beside this one, one after another: importing the clients takes seconds.

A question is a line of JSON: the name of a script and the keyword arguments of its ``main``. So
is the answer: what that returned, or its traceback.
"""

import contextlib
import faulthandler
import importlib
import json
import sys
import traceback

HANG_S = 180


def main() -> None:
    for line in sys.stdin:
        script, arguments = json.loads(line)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        answer = {}
        with contextlib.redirect_stdout(sys.stderr):  # where scripts and clients may print
            try:
                answer["returned"] = importlib.import_module(script).main(**arguments)
            except Exception:  # noqa: BLE001 - the test reports it, whatever it is
                answer["raised"] = traceback.format_exc()
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
