"""The Python module ``tensorrt`` without a GPU, for any version from 8.5 to 11.

Written from the sources of the bindings (``pyCore.cpp``, ``pyInt8.cpp``) and of the ONNX parser, and messages in issue
threads. Names, parameters and numbers are those of the compiled bindings (``tests.tensorrt_surface``). What a version
does not have does not exist: AttributeError. Whatever returns None or False in TensorRT does so here, after an ERROR
through the logger. Engines run in ONNX Runtime, on the lazy streams of ``tests.fake_cuda``.
"""

from tests.fake_tensorrt.module import CLASSES, fake_tensorrt
from tests.fake_tensorrt.operators import DLA_OPS, IMPORTERS

__all__ = ["CLASSES", "DLA_OPS", "IMPORTERS", "fake_tensorrt"]
