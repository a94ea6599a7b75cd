"""torch module -> ONNX: static shape, opset 17, weights inside, BatchNorm folded into convolutions."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["INPUT", "LOGITS", "OPSET", "onnx_from_module"]

OPSET = 17
"""The newest opset that TensorRT 8.5 reads."""
INPUT, LOGITS = "input", "logits"


def onnx_from_module(module: nn.Module, size_hw: tuple[int, int]) -> onnx.ModelProto:
    """Export a segmentation network.

    Args:
        module: maps Nx3xHxW float32 to logits NxCxHxW float32.
        size_hw: the fixed input size in pixels.

    Returns:
        ONNX with input ``input`` 1x3xHxW and output ``logits`` 1xCxHxW, proven equal to the module on random input.

    Raises:
        CompileError: the module cannot be exported, or the graph computes something else.
    """
    torch = require("torch", "train")
    onnx = require("onnx", "compile")
    module = module.cpu().float().eval()
    example = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            # The TorchScript exporter: the only one that writes opset 17 or lower, which TensorRT 8.5 needs.
            torch.onnx.export(
                module,
                (example,),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS],
            )
        except Exception as error:  # torch raises many types here, without a common base
            raise CompileError(f"the network cannot be exported to ONNX: {first_line(error)}") from error
        expected = module(example).numpy()
    model = onnx.load_model_from_string(buffer.getvalue())
    _prove_equal(model, example.numpy(), expected)
    return model


def _prove_equal(model: onnx.ModelProto, example: np.ndarray, expected: np.ndarray) -> None:
    actual = run_onnx(model, {INPUT: example})[0]
    worst = float(np.abs(actual - expected).max())
    if not worst <= 1e-3 * max(1.0, float(np.abs(expected).max())):
        raise CompileError(f"the exported graph differs from the network by {worst:.3g}; please report this network")


def run_onnx(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[Any]:
    """Run a model once with ONNX Runtime on the CPU, without graph optimisation."""
    ort = require("onnxruntime", "")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, feeds)
    return outputs
