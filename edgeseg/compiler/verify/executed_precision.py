"""What ONNX Runtime really does with a graph on this machine: convolutions that run in INT8, and the time they take."""

from __future__ import annotations

import time

import numpy as np

from edgeseg.compiler.quantize.qdq_editor import ENLARGEMENT
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import require
from edgeseg.files import scratch_folder

__all__ = ["executed_int8_convolutions", "median_ms"]

_INT8 = ("QLinearConv", "ConvInteger")
_FLOAT = ("Conv", "FusedConv", "ConvTranspose")


def executed_int8_convolutions(model: bytes) -> tuple[int, int]:
    """(convolutions that ONNX Runtime runs with integer kernels on this CPU, convolutions in all)."""
    onnx, ort = require("onnx", "compile"), require("onnxruntime", "")
    with scratch_folder() as folder:
        optimized = folder / "optimized.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4  # it warns that the optimized graph is for this machine only: that is the point
        options.optimized_model_filepath = str(optimized)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimized).graph.node
        operators = [node.op_type for node in nodes if not node.name.startswith(ENLARGEMENT)]
    int8 = sum(operator in _INT8 for operator in operators)
    return int8, int8 + sum(operator in _FLOAT for operator in operators)


def median_ms(model: bytes, *, runs: int = 20, warm_up: int = 5) -> float:
    """Median milliseconds per inference on this CPU: to order choices by. ``edgeseg bench`` measures properly."""
    with OrtEngine(model) as engine:
        times = []
        for _ in range(warm_up + runs):
            started = time.perf_counter()
            engine.infer(engine.input)
            times.append(1e3 * (time.perf_counter() - started))
    return round(float(np.median(times[warm_up:])), 3)
