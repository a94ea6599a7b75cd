"""Run graphs with ONNX Runtime on the CPU: every machine has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeseg.engines.base import Engine, require_shapes
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
        ort = require("onnxruntime", "")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # an error comes as an exception, which is said once
        if float_qdq:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session: Any = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own types, without a public common base
            raise EngineError(f"onnxruntime {ort.__version__} cannot load {name}: {first_line(error)}") from error
        feeds, results = self._session.get_inputs(), self._session.get_outputs()
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
        self._binding = self._session.io_binding()
        self._binding.bind_cpu_input(feed.name, self.input)
        self._binding.bind_output(result.name, "cpu", 0, np.uint8, self._output.shape, self._output.ctypes.data)
        for scores in results[1:]:
            self.scores = np.zeros(scores.shape, np.float32)
            where = self.scores.ctypes.data
            self._binding.bind_output(scores.name, "cpu", 0, np.float32, self.scores.shape, where)
        self.description = f"ONNX Runtime {ort.__version__} on the CPU, graph {name}, {threads or 'all'} threads"

    def _run(self) -> np.ndarray:
        if self._session is None:
            raise EngineError("the engine is closed; open it again")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error
        return self._output

    def close(self) -> None:
        """Free the session. May be called twice."""
        self._binding = None
        self._session = None
