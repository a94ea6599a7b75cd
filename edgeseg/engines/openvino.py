"""Run graphs with OpenVINO on the CPU: optional, and on x86 the faster home of the INT8 graph."""

from __future__ import annotations

import sys
from copy import copy
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.engines.base import CLOSED, Engine, lanes_of, require_shapes
from edgeseg.errors import EngineError, first_line, require

__all__ = ["OpenVinoEngine", "openvino_core", "openvino_module", "openvino_settings"]

_CONVOLUTIONS = ("Convolution", "Deconvolution")
_TELEMETRY = "openvino_telemetry"


class OpenVinoEngine(Engine):
    """Engine for an ONNX graph on OpenVINO's CPU plugin, tuned for the latency of single frames.

    The parts that the graph leaves in float run in float32 here. OpenVINO's own default is bfloat16 or float16 where
    the CPU has it, which would be another precision than the one asked for. Q/DQ pairs run as integers; there is no
    switch to run them in float, so a graph for TensorRT cannot be judged with this engine.

    Args:
        onnx: serialised model, input uint8 NxHxWx3, output uint8 NxHxW, and maybe ``scores`` NxCxHxW float32.
        name: name for the description, e.g. ``"int8-cpu"``.
        threads: CPU threads; 0 lets OpenVINO take the cores that it likes.

    Raises:
        EngineError: the graph cannot be loaded or has other inputs or outputs.
        MissingDependencyError: openvino is not installed.
    """

    def __init__(self, onnx: bytes, name: str = "graph", *, threads: int = 0) -> None:
        self._compile = partial(_compiled, onnx, name)
        self._name, self._threads = name, threads
        self._bind(self._compile(openvino_settings(threads)))

    def _bind(self, compiled: Any) -> None:
        """Take a compiled model, and buffers of our own for it."""
        openvino, core = openvino_module(), openvino_core()
        self._compiled = compiled
        self._request: Any = compiled.create_infer_request()
        self.input = np.zeros(tuple(compiled.input().shape), np.uint8)
        self._output = np.zeros(tuple(compiled.output(0).shape), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self.input, shared_memory=True))
        self._request.set_output_tensor(0, openvino.Tensor(self._output, shared_memory=True))
        if len(compiled.outputs) > 1:
            self.scores = np.zeros(tuple(compiled.output(1).shape), np.float32)
            self._request.set_output_tensor(1, openvino.Tensor(self.scores, shared_memory=True))
        version, device = _version(openvino), core.get_property("CPU", "FULL_DEVICE_NAME")
        threads = self._threads or "all"
        self.description = f"OpenVINO {version} on the CPU ({device}), graph {self._name}, {threads} threads"

    def lanes(self) -> Sequence[OpenVinoEngine]:
        """Open engines that may run at the same time, as in ``Engine``: streams of one compiled model."""
        if self._compiled is None:
            raise EngineError(CLOSED)
        count, threads = lanes_of(self._threads)
        if count < 2:
            return ()
        compiled = self._compile({**openvino_settings(count * threads), "NUM_STREAMS": count})
        lanes = [copy(self) for _ in range(count)]
        for lane in lanes:
            lane._threads = threads
            lane._bind(compiled)
        return lanes

    def int8_convolutions(self) -> tuple[int, int]:
        """Count the convolutions that OpenVINO runs with integer kernels on this CPU, and all convolutions.

        Raises:
            EngineError: the engine is closed.
        """
        if self._compiled is None:
            raise EngineError(CLOSED)
        facts = [node.get_rt_info() for node in self._compiled.get_runtime_model().get_ordered_ops()]
        kernels = [str(f["primitiveType"].value) for f in facts if f["layerType"].value in _CONVOLUTIONS]
        return sum(kernel.lower().endswith("_i8") for kernel in kernels), len(kernels)

    def _run(self) -> np.ndarray:
        if self._request is None:
            raise EngineError(CLOSED)
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"openvino failed: {_reason(error)}") from error
        return self._output

    def close(self) -> None:
        """Free the compiled model. May be called twice."""
        self._request = None
        self._compiled = None


def openvino_module() -> ModuleType:
    """Import OpenVINO without its telemetry.

    Its import reports to Google Analytics unless a file in the user's home forbids that, writes an identity into the
    home and leaves a thread. It goes without where that package cannot be imported.

    Raises:
        MissingDependencyError: openvino is not installed.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
    try:
        return require("openvino", "openvino")
    finally:
        if hidden:
            sys.modules.pop(_TELEMETRY, None)


@lru_cache(maxsize=None)
def openvino_core() -> Any:
    """Return the ``openvino.Core`` that all of this process share and that none frees.

    On a CPU with AMX OpenVINO gives the thread that loads its CPU plugin another stack for signals, and takes that
    memory away with the plugin. Freed by another thread, as a lane is, it leaves the first one with a stack that is
    gone, and its next Ctrl-C ends the process by SIGSEGV (2026.4.1).

    Raises:
        MissingDependencyError: openvino is not installed.
    """
    return openvino_module().Core()


def openvino_settings(threads: int) -> dict[str, Any]:
    """Return the properties with which graphs are compiled: for single frames, floats in float32; 0 is all threads."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return {**settings, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}


def _compiled(onnx: bytes, name: str, settings: Mapping[str, Any]) -> Any:
    """Compile a graph. Raises EngineError."""
    openvino, core = openvino_module(), openvino_core()
    try:
        model = core.read_model(onnx)
        _check_ports(model, name)
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise EngineError(f"openvino {_version(openvino)} cannot load {name}: {_reason(error)}") from error


def _version(openvino: Any) -> str:
    return str(openvino.__version__).split("-")[0]


def _check_ports(model: Any, name: str) -> None:
    """Raise EngineError unless a model maps uint8 NxHxWx3 of fixed shape to uint8 NxHxW, and maybe to scores."""
    if len(model.inputs) != 1 or len(model.outputs) not in (1, 2):
        raise EngineError(
            f"{name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each"
        )
    ports = [*model.inputs, *model.outputs]
    types = [port.element_type.get_type_name() for port in ports]
    if types != ["u8", "u8", "f32"][: len(types)]:
        raise EngineError(
            f"{name} maps {types[0]} to {' and '.join(types[1:])}; expected uint8 to uint8, and to float32 scores"
        )
    require_shapes(name, *(_shape(port.partial_shape) for port in ports))


def _shape(shape: Any) -> list[int | None]:
    """Return the sizes, with None where one is not fixed."""
    if shape.rank.is_dynamic:
        return [None]
    return [None if side.is_dynamic else side.get_length() for side in shape]


def _reason(error: RuntimeError) -> str:
    """Return the last line of OpenVINO's message; those before it name its own source files."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else first_line(error)
