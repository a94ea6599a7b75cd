"""Run graphs with ONNX Runtime on the CPU: every machine has it."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any, Sequence

import numpy as np

from edgeseg.engines.base import CLOSED, Engine, lanes_of, require_shapes
from edgeseg.errors import EngineError, first_line, require

__all__ = ["OrtEngine"]


class OrtEngine(Engine):
    """Engine for an ONNX graph on ONNX Runtime's CPU kernels.

    Args:
        onnx: serialised model, input uint8 NxHxWx3, output uint8 NxHxW, and maybe ``scores`` NxCxHxW float32.
        name: name for the description, e.g. ``"int8-cpu"``.
        threads: intra-op threads; 0 lets ONNX Runtime take the physical cores.
        float_qdq: execute Q/DQ nodes in float instead of fusing them into INT8 kernels. This is TensorRT's
            arithmetic, and how a TensorRT graph must be judged on a CPU.

    Attributes:
        port_names: names of the graph's input and of the output of class ids.
        output_shape: sizes of that output.

    Raises:
        EngineError: the graph cannot be loaded or has other inputs or outputs.
    """

    def __init__(self, onnx: bytes, name: str = "graph", *, threads: int = 0, float_qdq: bool = False) -> None:
        self._open = partial(_session, onnx, name, float_qdq)
        self._name, self._threads = name, threads
        self._bind(self._open(threads))

    def _bind(self, session: Any) -> None:
        """Take a session, and buffers of our own for it. Raises EngineError: its ports are not ours."""
        ort, name = require("onnxruntime", ""), self._name
        feeds, results = session.get_inputs(), session.get_outputs()
        if len(feeds) != 1 or len(results) not in (1, 2):
            raise EngineError(f"{name} has {len(feeds)} inputs and {len(results)} outputs; expected one of each")
        feed, result = feeds[0], results[0]
        types = [port.type for port in (feed, *results)]
        if types != ["tensor(uint8)", "tensor(uint8)", "tensor(float)"][: len(types)]:
            raise EngineError(
                f"{name} maps {types[0]} to {' and '.join(types[1:])}; expected uint8 to uint8, and to float scores"
            )
        require_shapes(name, *(port.shape for port in (feed, *results)))
        self.input = np.zeros(feed.shape, np.uint8)
        self._output = np.zeros(result.shape, np.uint8)
        self.port_names, self.output_shape = (feed.name, result.name), self._output.shape
        self._session, self._binding = session, session.io_binding()
        self._binding.bind_cpu_input(feed.name, self.input)
        self._binding.bind_output(result.name, "cpu", 0, np.uint8, self._output.shape, self._output.ctypes.data)
        for scores in results[1:]:
            self.scores = np.zeros(scores.shape, np.float32)
            where = self.scores.ctypes.data
            self._binding.bind_output(scores.name, "cpu", 0, np.float32, self.scores.shape, where)
        self.description = f"ONNX Runtime {ort.__version__} on the CPU, graph {name}, {self._threads or 'all'} threads"

    def lanes(self) -> Sequence[OrtEngine]:
        """Open engines that may run at the same time, as in ``Engine``: one session serves them all."""
        if self._session is None:
            raise EngineError(CLOSED)
        count, threads = lanes_of(self._threads)
        if count < 2:
            return ()
        session = self._open(threads)
        lanes = [copy(self) for _ in range(count)]
        for lane in lanes:
            lane._threads = threads
            lane._bind(session)
        return lanes

    def _run(self) -> np.ndarray:
        if self._session is None:
            raise EngineError(CLOSED)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error
        return self._output

    def close(self) -> None:
        """Free the session. May be called twice."""
        self._binding = None
        self._session = None


def _session(onnx: bytes, name: str, float_qdq: bool, threads: int) -> Any:
    """Load a graph. Raises EngineError."""
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # an error comes as an exception, which is said once
    if float_qdq:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, without a public common base
        raise EngineError(f"onnxruntime {ort.__version__} cannot load {name}: {first_line(error)}") from error
