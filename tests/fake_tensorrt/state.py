"""What one fake module knows, by its version."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.fake_cuda import FakeCuda, Faults
from tests.fake_tensorrt.callbacks import guarded, usable
from tests.fake_tensorrt.objects import Enum, OrderedEnum, enum_of
from tests.fake_tensorrt.operators import IMPORTERS
from tests.tensorrt_surface import surface_of


class State:
    """What one fake module knows; its enums are attributes."""

    module: Any
    DataType: Any

    def __init__(self, version: str, cuda: FakeCuda, faults: Faults, dla_cores: int) -> None:
        self.version_text = version
        self.version = tuple(int(part) for part in version.split("."))
        self.cuda, self.faults, self._dla_cores = cuda, faults, dla_cores
        self.alive: Counter[str] = Counter()
        self.timings = 0
        self.executions = 0
        self.dla_core_used: int | None = None
        real = surface_of(version)
        self.names: dict[str, str] = real["names"]
        ordered = {name.rpartition(".")[2] for name, kind in self.names.items() if kind == "ordered enum"}
        self.enums = {
            name: enum_of(name, OrderedEnum if name in ordered else Enum, members)
            for name, members in real["enums"].items()
        }
        self.__dict__.update(self.enums)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tensorrt {self.version_text} has no {name}")

    @property
    def importers(self) -> frozenset[str]:
        """The operators that this version's ONNX parser imports; in between two known versions, the older's."""
        return IMPORTERS[max(known for known in IMPORTERS if known <= self.version)]

    @property
    def num_dla_cores(self) -> int:
        """10.7 was the last 10.x with DLA; 11.4.1 brought it back."""
        without = (10, 8) <= self.version < (11, 4, 1)
        return 0 if without or self.cuda.compute_capability >= (10, 0) else self._dla_cores

    @property
    def fast_int8(self) -> bool:
        cc = tuple(self.cuda.compute_capability)
        return cc == (6, 1) or cc >= (7, 0)

    @property
    def version_code(self) -> int:
        major, minor, patch = self.version[:3]
        return major * (10000 if major >= 10 else 1000) + minor * 100 + patch

    def timing_header(self) -> dict[str, Any]:
        cuda = self.cuda
        return {
            "version": self.version_text,
            "cc": list(cuda.compute_capability),
            "device": cuda.name,
            "sm": cuda.sm_count,
        }

    def make(self, name: str, *args: Any) -> Any:
        cls = getattr(self.module, name)
        made = object.__new__(cls)
        made._setup(*args)
        return made

    def host_memory(self, data: bytes) -> Any:
        sized = type(
            "IHostMemory", (self.module.IHostMemory,), {"_length_": len(data), "__module__": "tensorrt.tensorrt"}
        )
        memory = sized.from_buffer_copy(data)  # type: ignore[attr-defined]
        self.track("host memories", memory)
        return memory

    def track(self, kind: str, value: Any) -> None:
        self.alive[kind] += 1
        weakref.finalize(value, self.alive.subtract, {kind: 1}).atexit = False

    def log(self, logger: Any, severity: str, text: str) -> None:
        if logger is None:
            return
        level = getattr(self.enums["Severity"], severity)
        guarded("log", lambda: usable(logger, self.module.ILogger).log(level, text), None)

    def fails(self, name: str, logger: Any) -> bool:
        """Note the call; if it has to fail, say so as TensorRT does."""
        if not self.faults.hit(name):
            return False
        call = name.split(".", 1)[1].replace(".", "::")
        self.log(logger, "ERROR", f"2: [{call}] Error Code 2: Internal Error (Assertion status == kSUCCESS failed. )")
        return True

    def start(self, name: str, logger: Any) -> None:
        """What makes a builder or a runtime: it starts CUDA, and pybind11 is given nothing where it does not."""
        code = self.cuda.init_error or self.cuda.runtime_error
        if code:
            self.log(logger, "WARNING", "Unable to determine GPU memory usage")
            url = "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
            text = f"CUDA initialization failure with error: {code}. Please check your CUDA installation: {url}"
            self.log(logger, "WARNING", text)
        if code or self.fails(name, logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def dtype_of_onnx(self, elem_type: int) -> Any:
        name = {
            TensorProto.FLOAT: "FLOAT",
            TensorProto.DOUBLE: "FLOAT",
            TensorProto.FLOAT16: "HALF",
            TensorProto.INT8: "INT8",
            TensorProto.UINT8: "UINT8",
            TensorProto.INT32: "INT32",
            TensorProto.INT64: "INT64" if self.version >= (10,) else "INT32",
            TensorProto.BOOL: "BOOL",
        }.get(elem_type, "FLOAT")
        return getattr(self.DataType, name)

    def numpy_of(self, dtype: Any) -> Any:
        return np.dtype(NUMPY_OF[dtype.name])


NUMPY_OF = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT64": np.int64,
}
