"""edgeseg: semantic segmentation from training to an NVIDIA Jetson. See README.md for the commands."""

from __future__ import annotations

import importlib
from typing import Any

from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.errors import EdgesegError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.spec import ModelSpec, Preprocess

__all__ = [
    "Bundle",
    "CompileOptions",
    "ConfusionMatrix",
    "EdgesegError",
    "ModelSpec",
    "Preprocess",
    "__version__",
    "compile",
    "read_bundle",
    "write_bundle",
]
__version__ = "0.2.0.dev0"

_COMPILER = {"compile": "compiled", "CompileOptions": "CompileOptions"}


def __getattr__(name: str) -> Any:
    """The compiler is loaded when it is asked for: a device runs without it."""
    if name not in _COMPILER:
        raise AttributeError(f"module 'edgeseg' has no attribute {name!r}")
    return getattr(importlib.import_module("edgeseg.compiler.pipeline"), _COMPILER[name])
