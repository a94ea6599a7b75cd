"""How many convolutions really run in INT8, read from the graph as ONNX Runtime executes it on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgeseg.errors import require

__all__ = ["executed_int8_convolutions"]

_INT8 = ("QLinearConv", "ConvInteger")
_FLOAT = ("Conv", "FusedConv", "ConvTranspose")


def executed_int8_convolutions(model: bytes) -> tuple[int, int]:
    """(convolutions that ONNX Runtime runs with integer kernels on this CPU, convolutions in all)."""
    onnx, ort = require("onnx", "compile"), require("onnxruntime", "")
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4  # it warns that the optimized graph is for this machine only: that is the point
        options.optimized_model_filepath = str(optimized)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(optimized).graph.node]
    int8 = sum(operator in _INT8 for operator in operators)
    return int8, int8 + sum(operator in _FLOAT for operator in operators)
