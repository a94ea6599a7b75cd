"""Run a graph once, to prove that a step kept what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = ["run_onnx"]


def run_onnx(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[Any]:
    """Run a model once with ONNX Runtime on the CPU, without graph optimisation.

    Args:
        model: any model without weights outside.
        feeds: value of every input by name.

    Returns:
        The value of every output, in their order.

    Raises:
        Exception: one of ONNX Runtime's own types, which have no common base.
    """
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, feeds)
    return outputs
