"""TensorRT-RTX under the name ``tensorrt``: put this folder and .venv-rtx on PYTHONPATH.

Its libraries are loaded first, so that the bindings find them without LD_LIBRARY_PATH.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
_libraries = Path(next(iter(_spec.submodule_search_locations)))
for _name in ("libcudart.so.13", "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
    ctypes.CDLL(str(next(_libraries.glob(f"{_name}.*"))), ctypes.RTLD_GLOBAL)

import tensorrt_rtx_bindings  # noqa: E402 - needs the libraries above

sys.modules[__name__] = tensorrt_rtx_bindings
