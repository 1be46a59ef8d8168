"""``import tensorrt`` in a child process: see ``tests.doubles.install``."""

import sys

from tests.doubles.install import from_environment

for _module in from_environment():
    sys.modules[_module.__name__] = _module
