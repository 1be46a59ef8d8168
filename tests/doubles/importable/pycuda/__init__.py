"""``import pycuda.driver`` in a child process: the one that belongs to the double of TensorRT."""

import tensorrt  # noqa: F401 - it installs both
