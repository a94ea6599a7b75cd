"""Run a graph, to prove that a step kept what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = ["opened_onnx", "run_onnx"]


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
    return opened_onnx(model)(feeds)


def opened_onnx(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], list[Any]]:
    """Open a model as :func:`run_onnx` does, to run it more than once.

    Args:
        model: any model without weights outside.

    Returns:
        What takes the value of every input by name and gives the value of every output, in their order.

    Raises:
        Exception: one of ONNX Runtime's own types, which have no common base.
    """
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Waiting in loops gains microseconds and takes cores from who works beside.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, np.ndarray]) -> list[Any]:
        outputs: list[Any] = session.run(None, feeds)
        return outputs

    return run
