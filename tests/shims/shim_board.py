"""One board for both fakes in a process."""

import ctypes
import os

from tests.fake_cuda import FakeCuda

BOARD = FakeCuda()
BOARD.runtime_error = int(os.environ.get("EDGESEG_FAKE_RUNTIME_ERROR", "0"))
_load = ctypes.CDLL


def _library(name, *args, **settings):  # type: ignore[no-untyped-def]
    return BOARD.libcuda if name == "libcuda.so.1" else _load(name, *args, **settings)


ctypes.CDLL = _library  # type: ignore[misc, assignment]
