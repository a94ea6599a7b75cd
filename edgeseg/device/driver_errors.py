"""Explain a failure of NVIDIA's driver, or of a Python binding that needs it, on one line that says what to do.

The bindings raise many types, without a common base. TensorRT's say least: without a driver its constructors raise
``TypeError: pybind11::init(): factory function returned nullptr``, and the reason goes to the logger.
"""

from __future__ import annotations

import glob
import os
import re
import traceback
from contextlib import contextmanager
from typing import Iterator

from edgeseg.errors import EdgesegError, EngineError, MissingDependencyError, first_line

__all__ = ["broken", "explained", "remedy", "translated"]

DEVICES = ("/dev/nvhost*", "/dev/nvmap", "/dev/nvgpu/*/*", "/dev/nvidia*", "/dev/dri/render*")
"""What CUDA opens. Of a file that it may not open it says only that there is no device."""

_DRIVER = (
    "on a Jetson it comes with JetPack (a container needs docker run --runtime nvidia), elsewhere with NVIDIA's driver "
    "package"
)
_PYCUDA = "build pycuda again: pip install --no-cache-dir --force-reinstall --no-deps pycuda"
_GROUPS = 'sudo usermod -aG video,render "$USER", then log in again (a container needs docker run --runtime nvidia)'
_START = r"does not start|initiali[sz]|cuInit|no CUDA-capable|NO_DEVICE|unknown error|not supported"
_REMEDIES = (
    # A library that does not load names itself; the rest is what CUDA says, in words or as a number.
    (r"libcuda\.so.*(cannot open|not found|no such file)", f"the NVIDIA driver is not there: {_DRIVER}"),
    (r"libcuda\.so.*undefined symbol", f"the NVIDIA driver is too old, update it: {_DRIVER}"),
    (
        r"undefined symbol: cu[A-Z]",
        f"pycuda was built for a newer CUDA than the driver's: update the driver, or {_PYCUDA}",
    ),
    (
        r"lib(cudart|curand|cublas\w*|cufft)\.so.*cannot open",
        "echo /usr/local/cuda/lib64 | sudo tee /etc/ld.so.conf.d/cuda.conf; sudo ldconfig",
    ),
    (
        r"lib(nv\w+|cud\w+)\.so.*cannot open",
        "install it: sudo apt install nvidia-jetpack (a container needs docker run --runtime nvidia)",
    ),
    (r"numpy\.core|multiarray|_ARRAY_API|numpy\.dtype size", _PYCUDA),
    (r"permission denied|not permitted|NvRm|/dev/nv", f"this user may not use the GPU: {_GROUPS}"),
    (
        r"driver version is insufficient|insufficient driver|\berror:? 35\b",
        f"the NVIDIA driver is missing or older than this CUDA, update it: {_DRIVER}",
    ),
    (r"no CUDA-capable device|NO_DEVICE|\berror:? (38|100)\b", f"no GPU is visible; the driver: {_DRIVER}"),
    (r"\berror:? 80[34]\b|driver.*mismatch|unsupported.*driver", "restart the machine; if it stays, update the driver"),
    (r"out of memory|MemoryError|bad_alloc|\berror:? 2\b", "close other programs or add swap"),
)


def remedy(text: str, otherwise: str = "'edgeseg doctor' says more") -> str:
    """Return what to do about a failure, by its text; ``otherwise`` where the failure is not known."""
    for pattern, advice in _REMEDIES:
        if re.search(pattern, text, re.IGNORECASE):
            return advice
    return otherwise


def explained(error: BaseException, log: str = "") -> str:
    """Put a foreign exception and what to do about it on one line.

    Args:
        error: what was raised.
        log: what the library wrote to its log, on one line; empty where it has none.
    """
    text = " ".join(first_line(error).split())[:300]
    text = "CUDA does not start" if "returned nullptr" in text else text
    said = f"{text}; it said: {log}" if log else text
    denied = [path for pattern in DEVICES for path in sorted(glob.glob(pattern)) if not os.access(path, os.W_OK)]
    if denied and re.search(_START, said, re.IGNORECASE):
        return f"{said}; this user may not open {denied[0]}: {_GROUPS}"
    return f"{said}; {remedy(said)}"


def broken(package: str, error: BaseException) -> EngineError:
    """Return the error for a package that is installed but does not import.

    Args:
        package: name of the package.
        error: what the import, or ``require``, raised.
    """
    cause = (isinstance(error, MissingDependencyError) and error.__cause__) or error
    kind = "" if isinstance(cause, (ImportError, EdgesegError)) else f"{type(cause).__name__}: "
    return EngineError(f"{package} is installed but broken: {kind}{explained(cause)}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what bindings raise in the body of a ``with`` into an EngineError that begins with ``what``.

    Raises:
        EngineError: the body raised anything that is no EdgesegError.
    """
    try:
        yield
    except EdgesegError:
        raise
    except Exception as error:  # pycuda's own, OSError and AttributeError of ctypes, TypeError of Boost.Python
        # pycuda's Python functions would hold the stream and the module that they were called with until the error is
        # forgotten, and then there may be no context any more to destroy them in.
        traceback.clear_frames(error.__traceback__)
        raise EngineError(f"{what}: {explained(error)}") from error
