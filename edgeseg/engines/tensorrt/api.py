"""Wrap TensorRT's Python module: the parts we use, and what this version of it can do.

TensorRT 8.5 to 11 and TensorRT-RTX are one API with parts missing. Nothing is decided by version numbers: every part
that some version lacks is looked up with ``getattr`` here, and the rest of the package asks ``TensorRt``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Protocol

import numpy as np

from edgeseg.device.driver_errors import broken, explained
from edgeseg.errors import EngineError, MissingDependencyError, require

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["FLAVOURS", "OLDER_ONLY", "Log", "TensorRt", "tensorrt_module"]

FLAVOURS = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Name of a flavour -> Python module."""

OLDER_ONLY = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "required before 10, ignored in 10, removed in 11",
    "BuilderFlag.FP16": "removed in 11, where precision is in the graph",
    "BuilderFlag.INT8": "removed in 11, where precision is in the graph",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": "removed in 11",
    "BuilderFlag.PREFER_PRECISION_CONSTRAINTS": "removed in 11",
    "ITensor.set_dynamic_range": "implicit INT8, removed in 11",
    "ILayer.precision": "weak typing, removed in 11",
    "ILayer.set_output_type": "weak typing, removed in 11",
    "ICudaEngine.create_execution_context_without_device_memory": "before 10, which has a strategy for it",
    "ICudaEngine.device_memory_size": "before 10.1, which has device_memory_size_v2",
}
"""Parts of the API that we use where they exist and that TensorRT 11 and TensorRT-RTX lack, with what they are."""

_NUMPY = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


class Module(Protocol):
    """Names that we use of the Python module; their types are those of TensorRT 10.13 (package tensorrt-stubs)."""

    __version__: str
    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    DataType: type[trt.DataType]
    DeviceType: type[trt.DeviceType]
    ICudaEngine: type[trt.ICudaEngine]
    ILogger: type[trt.ILogger]
    IProfiler: type[trt.IProfiler]
    IProgressMonitor: type[trt.IProgressMonitor]
    ITensor: type[trt.ITensor]
    LayerInformationFormat: type[trt.LayerInformationFormat]
    LayerType: type[trt.LayerType]
    MemoryPoolType: type[trt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    ProfilingVerbosity: type[trt.ProfilingVerbosity]
    Runtime: type[trt.Runtime]
    TensorIOMode: type[trt.TensorIOMode]


@dataclass
class Log:
    """Latest messages of TensorRT, for error messages.

    Attributes:
        errors: messages of severity ERROR and INTERNAL_ERROR, at most 50.
        warnings: messages of severity WARNING, at most 1000.
        kernels: lines that name a kernel of the plan (TensorRT-RTX with detailed profiling).
    """

    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    warnings: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    kernels: list[str] = field(default_factory=list)

    def reason(self) -> str:
        """Return the last three errors on one line, or without any the last warning.

        A warning is where 8.6 and later say that CUDA does not start.
        """
        said = list(self.errors)[-3:] or list(self.warnings)[-1:]
        return "; ".join(" ".join(message.split())[:300] for message in said) or "it gives no reason"


class TensorRt:
    """One flavour of TensorRT, by name-based I/O and ``execute_async_v3`` (8.5 and later).

    Args:
        module: ``tensorrt``, ``tensorrt_rtx``, or what stands for them in tests.
        flavour: a key of ``FLAVOURS``.

    Attributes:
        version: version with its build number where it has one, like ``"8.5.2.2"``.
        implicit_int8: the INT8 flag and ranges without Q/DQ nodes exist (up to 10.16).
        heard: called with what TensorRT says: ``"tensorrt.log"`` and a message, ``"inspector.json"`` and a built
            engine's.
        precision_flags: FP16 and INT8 are flags (up to 10.16); else the graph's types decide.

    Raises:
        EngineError: the module is no TensorRT, or one before 8.5.
    """

    def __init__(self, module: Module, flavour: str = "tensorrt") -> None:
        self.trt = module
        self.flavour = flavour
        self.version = str(getattr(module, "__version__", ""))
        if not hasattr(module, "Builder"):
            raise EngineError(
                f"the Python package {FLAVOURS[flavour]!r} holds no TensorRT (types only?); see 'edgeseg doctor'"
            )
        if not hasattr(module.ICudaEngine, "num_io_tensors"):
            raise EngineError(f"TensorRT {self.version} is too old; edgeseg needs 8.5 or later (JetPack 5)")
        self.heard: Callable[[str, str], None] = lambda what, text: None
        self.precision_flags = hasattr(module.BuilderFlag, "INT8")
        self.implicit_int8 = self.precision_flags and hasattr(module.ITensor, "set_dynamic_range")

    @property
    def name(self) -> str:
        """Return ``TensorRT 8.5.2.2`` or ``TensorRT-RTX 1.7.1.16``."""
        return f"{'TensorRT-RTX' if self.flavour == 'rtx' else 'TensorRT'} {self.version}"

    def flag(self, name: str) -> Any:
        """Return a builder flag by name; None where this version has none."""
        return getattr(self.trt.BuilderFlag, name, None)

    def logger(self, log: Log) -> trt.ILogger:
        """Make a logger that keeps errors and warnings. Keep a reference to it as long as anything made with it."""
        module, heard = self.trt, self.heard

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                module.ILogger.__init__(self)  # without it TensorRT crashes

            def log(self, severity: Any, message: str) -> None:
                if severity != module.ILogger.VERBOSE:
                    heard("tensorrt.log", f"[{str(severity).rpartition('.')[2]}] {message}")
                if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                    log.errors.append(message)
                elif severity == module.ILogger.WARNING:
                    log.warnings.append(message)
                elif ", LayerType: " in message:
                    log.kernels += [line for line in message.split("\n") if ", LayerType: " in line]

        return Logger()

    def profiler(self, took: Callable[[str, float], None]) -> trt.IProfiler:
        """Make a profiler. Keep a reference to it as long as a context has it.

        Args:
            took: called with the name of a layer and the milliseconds that it took.
        """
        module = self.trt

        class Profiler(module.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                module.IProfiler.__init__(self)  # without it TensorRT crashes

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                took(layer_name, ms)

        return Profiler()

    def inspected(self, engine: trt.ICudaEngine) -> str:
        """Return what the engine's inspector lists, as JSON; empty where it lists nothing."""
        inspector = engine.create_engine_inspector()
        found = inspector and inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)
        return str(found or "")

    def runtime(self, logger: trt.ILogger, log: Log, dla_core: int | None = None) -> trt.Runtime:
        """Make a runtime, for plans that run on a DLA core or on none.

        Raises:
            EngineError: CUDA does not start, or there is no such core.
        """
        try:
            runtime = self.trt.Runtime(logger)
            if dla_core is not None:
                self.check_dla_core(runtime, dla_core)
                runtime.DLA_core = dla_core  # unset, a plan of core 1 runs on core 0
            return runtime
        except EngineError:
            raise
        except Exception as error:  # its bindings raise many types, without a common base
            raise self.failure(error, log) from error

    def check_dla_core(self, owner: trt.Runtime | trt.Builder, core: int) -> None:
        """Check that the device has a DLA core, as its runtime or builder sees it.

        Raises:
            EngineError: there is no such core.
        """
        if not 0 <= core < owner.num_DLA_cores:
            raise EngineError(f"there is no DLA core {core}: this device and TensorRT have {owner.num_DLA_cores}")

    def builder(self, logger: trt.ILogger, log: Log) -> trt.Builder:
        """Make a builder.

        Raises:
            EngineError: CUDA does not start.
        """
        try:
            return self.trt.Builder(logger)
        except Exception as error:  # as above
            raise self.failure(error, log) from error

    def scratch_bytes(self, engine: trt.ICudaEngine) -> int:
        """Return the device memory in bytes that an execution context needs while it runs."""
        newer = getattr(engine, "device_memory_size_v2", None)
        return int(engine.device_memory_size if newer is None else newer)

    def context_on(self, engine: trt.ICudaEngine, address: int, size_bytes: int) -> trt.IExecutionContext | None:
        """Make an execution context on the caller's scratch memory, which others may use at other times.

        Args:
            engine: the engine to run.
            address: device address of the memory.
            size_bytes: size of the memory.

        Returns:
            The context, or None where TensorRT makes none.
        """
        strategies = getattr(self.trt, "ExecutionContextAllocationStrategy", None)
        context: trt.IExecutionContext | None
        if strategies is None:
            context = engine.create_execution_context_without_device_memory()
        else:
            context = engine.create_execution_context(strategies.USER_MANAGED)
        if context is None:
            return None
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(address, size_bytes)
        else:
            context.device_memory = address  # type: ignore[attr-defined, unused-ignore]
        return context

    def failure(self, error: BaseException, log: Log) -> EngineError:
        """Explain an exception of this TensorRT's bindings as an error of one line, with what to do."""
        return EngineError(f"{self.name} failed: {explained(error, log.reason())}")

    def network_flags(self) -> int:
        """Return the flags for ``create_network``: explicit batch where the version still knows the word."""
        explicit = getattr(self.trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        return 0 if explicit is None else 1 << int(explicit)

    def dtype(self, tensor_type: trt.DataType) -> Any:
        """Return the numpy type of a tensor type. (TensorRT's own ``nptype`` fails in 8.5.2 with numpy 1.24.)

        Raises:
            EngineError: the type is not supported.
        """
        for name, numpy_type in _NUMPY.items():
            if getattr(self.trt.DataType, name, None) == tensor_type:
                return numpy_type
        raise EngineError(f"tensors of type {tensor_type} are not supported")


def tensorrt_module(flavour: str = "tensorrt") -> TensorRt:
    """Import a flavour of TensorRT.

    Raises:
        EngineError: it is too old or broken.
        MissingDependencyError: it is not installed.
    """
    name = FLAVOURS[flavour]
    try:
        return TensorRt(require(name, "rtx" if flavour == "rtx" else "tensorrt"), flavour)
    except MissingDependencyError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or cause.name != name:  # it is there, what it needs is not
            raise broken(name, error) from error
        if flavour == "rtx":
            raise
        raise MissingDependencyError(
            "TensorRT's Python package cannot be imported; on a Jetson it comes with JetPack: use a virtual "
            "environment made with 'python3 -m venv --system-site-packages' (jetson/setup.sh makes one), see "
            "'edgeseg doctor'"
        ) from None
    except EngineError:
        raise
    except Exception as error:  # a broken native module raises anything on import
        raise broken(name, error) from error
