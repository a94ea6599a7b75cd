"""The module, bound to a version: only what that version has."""

from __future__ import annotations

import functools
import inspect
import re
import types
from typing import Any, Callable

import numpy as np

from tests.fake_cuda import FakeCuda, Faults
from tests.fake_tensorrt.builder import Builder
from tests.fake_tensorrt.callbacks import (
    IInt8Calibrator,
    IInt8EntropyCalibrator,
    IInt8EntropyCalibrator2,
    IInt8MinMaxCalibrator,
    ILogger,
    IProfiler,
    IProgressMonitor,
    Logger,
    Profiler,
)
from tests.fake_tensorrt.config import IBuilderConfig, IOptimizationProfile, ITimingCache
from tests.fake_tensorrt.context import IExecutionContext
from tests.fake_tensorrt.engine import EngineInspector, ICudaEngine
from tests.fake_tensorrt.network import ILayer, INetworkDefinition, ITensor
from tests.fake_tensorrt.objects import Dims, IHostMemory
from tests.fake_tensorrt.parser import OnnxParser, ParserError
from tests.fake_tensorrt.runtime import Runtime
from tests.fake_tensorrt.state import NUMPY_OF, State
from tests.inspector_forms import form_of
from tests.tensorrt_surface import ENUMS

CLASSES = (
    IHostMemory,
    ILogger,
    Logger,
    IProfiler,
    Profiler,
    IProgressMonitor,
    IInt8Calibrator,
    IInt8EntropyCalibrator2,
    IInt8MinMaxCalibrator,
    IInt8EntropyCalibrator,
    ITensor,
    ILayer,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    Runtime,
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
)


def _with_parameters_of(kind: str, function: Any) -> Any:
    """The method without the optional parameters that this version does not know."""
    full, known = inspect.signature(function), re.findall(r"\w+", kind)
    kept = [each for each in full.parameters.values() if each.default is each.empty or each.name in known]
    if len(kept) == len(full.parameters):
        return function
    signature = full.replace(parameters=kept)

    @functools.wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)  # TypeError
        return function(*args, **kwargs)

    bound.__signature__ = signature  # type: ignore[attr-defined]
    return bound


def _bound_classes(state: State) -> dict[str, Any]:
    """Copies of the classes with just the attributes of the version."""
    bound: dict[str, Any] = {}
    for cls in CLASSES:
        if cls.__name__ not in state.names:
            continue
        bases = tuple(bound.get(base.__name__, base) for base in cls.__bases__)
        namespace: dict[str, Any] = {"_s": state, "__module__": "tensorrt.tensorrt"}
        for name, value in vars(cls).items():
            kind = state.names.get(f"{cls.__name__}.{name}", "")
            if name in ("__dict__", "__weakref__", "__module__") or not (kind or name.startswith("_")):
                continue
            if kind == "r" and isinstance(value, property):
                value = property(value.fget)
            namespace[name] = _with_parameters_of(kind, value) if kind.startswith("(") else value
        bound[cls.__name__] = type(cls)(cls.__name__, bases, namespace)
    return bound


def fake_tensorrt(
    version: str,
    cuda: FakeCuda,
    faults: Faults | None = None,
    *,
    dla_cores: int = 0,
    uint8_io: bool = True,
    replay: str = "captured",
    strict_cache_header: bool = True,
    build_needs_mib: int = 0,
    worst_int8: bool = False,
) -> Any:
    """A module that behaves like ``tensorrt`` of that version on that device.

    Beyond TensorRT's own names it has: ``live()``, counts of living objects; ``fake``, its state (``fake.timings``
    kernels timed, ``fake.executions`` inferences run); and, changeable at any time, ``uint8_io``,
    ``strict_cache_header``, ``build_needs_mib``, ``worst_int8`` (see ``tests.fake_int8``), ``inspector_form`` (one of
    ``inspector_forms.FORMS``), ``rewritten``: the inspector's JSON -> what it answers instead, and ``replay``: a graph
    uses the addresses that were ``"captured"``, or, at worst, the context's ``"current"`` ones.
    """
    state = State(version, cuda, cuda.faults if faults is None else faults, dla_cores)
    module: Any = types.ModuleType("tensorrt")
    state.module = module
    module.__version__ = version
    for name, cls in _bound_classes(state).items():
        setattr(module, name, cls)
    for name, kind in state.names.items():
        owner, _, member = name.rpartition(".")
        scope = getattr(module, owner, None) if owner else module
        if scope is not None and kind in ENUMS:
            setattr(scope, member, state.enums[member])
        elif scope is not None and kind.startswith("= "):
            enum, _, value = kind[2:].partition(".")
            setattr(scope, member, getattr(state.enums[enum], value))
    module.Dims = Dims
    module.volume = lambda iterable: int(np.prod(tuple(iterable), dtype=np.int64))
    module.nptype = _nptype(state)
    module.init_libnvinfer_plugins = lambda logger, namespace: not state.fails("trt.init_libnvinfer_plugins", logger)
    module.get_nv_onnx_parser_version = lambda: state.version_code
    module.uint8_io = uint8_io
    module.replay = replay
    module.strict_cache_header = strict_cache_header
    module.build_needs_mib = build_needs_mib
    module.worst_int8 = worst_int8
    module.inspector_form = form_of(state.version)
    module.rewritten = lambda text: text
    module.fake = state
    module.live = lambda: {kind: state.alive[kind] for kind in _KINDS}
    return module


_KINDS = ("builders", "networks", "parsers", "configs", "runtimes", "engines", "contexts", "host memories")


def _nptype(state: State) -> Callable[[Any], Any]:
    def nptype(trt_type: Any) -> Any:
        numpy = tuple(int(part) for part in np.__version__.split(".")[:2])
        if state.version < (8, 5, 3) and numpy >= (1, 24):
            raise AttributeError("module 'numpy' has no attribute 'bool'")
        if trt_type.name not in NUMPY_OF:
            raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type}")
        return NUMPY_OF[trt_type.name]

    return nptype
