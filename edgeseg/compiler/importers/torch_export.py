"""torch module -> ONNX: static shape, opset 17, weights inside, BatchNorm folded into convolutions."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from edgeseg.compiler.graph.run import run_onnx
from edgeseg.compiler.importers.traced import exportable_module, single_output_module
from edgeseg.errors import CompileError, EdgesegError, first_line, require

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["INPUT", "LOGITS", "OPSET", "onnx_from_module"]

OPSET = 17
"""The newest opset that TensorRT 8.5 reads."""
INPUT, LOGITS = "input", "logits"


def onnx_from_module(
    module: nn.Module,
    size_hw: tuple[int, int],
    *,
    class_count: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> onnx.ModelProto:
    """Export a segmentation network; the module itself keeps its mode, types and device.

    Args:
        module: maps NxIxHxW float32 (I is 3, or 1 or 4 where that is what it takes) to logits NxCxHxW float32, or to a
            dict or tuple that holds them.
        size_hw: the fixed input size in pixels.
        class_count: how many classes, by which logits are known among several tensors.
        report: called with a line for people where the module gives more than a tensor.

    Returns:
        ONNX with input ``input`` 1xIxHxW and output ``logits``, proven equal to the module on random input.

    Raises:
        CompileError: the module cannot be exported, or the graph computes something else.
    """
    torch = require("torch", "train")
    onnx = require("onnx", "compile")
    buffer = io.BytesIO()
    with exportable_module(module) as ready, warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        shape = (1, _channels(torch, ready, size_hw), *size_hw)
        example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        single, lines = single_output_module(torch, ready, size_hw, class_count)
        single.eval()
        try:
            expected = single(example)
            _refuse_chance(torch, expected, single(example))
            # The TorchScript exporter: the only one that writes opset 17 or lower, which TensorRT 8.5 needs.
            torch.onnx.export(
                single,
                (example,),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS],
            )
        except EdgesegError:
            raise
        except Exception as error:  # torch raises many types here, without a common base
            raise CompileError(f"the network cannot be exported to ONNX: {_reason(error)}") from error
    for line in lines:
        report(line)
    model = onnx.load_model_from_string(buffer.getvalue())
    _prove_equal(model, example.numpy(), expected.float().numpy())
    return model


def _channels(torch: Any, module: Any, size_hw: tuple[int, int]) -> int:
    """How many channels the module's image has: what it says, else those of its first convolution if not three."""
    convolutions = (part.in_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d))
    first = getattr(module, "in_channels", None) or next(convolutions, 3)
    if first not in (1, 4):
        return 3
    try:
        module(torch.zeros(1, first, *size_hw))
    except Exception:  # modules raise many types; what fails with three says why
        return 3
    return int(first)


def _refuse_chance(torch: Any, one: Any, other: Any) -> None:
    if not torch.is_tensor(one):
        raise CompileError(f"the scripted network gives a {type(one).__name__}; script one that gives the logits alone")
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()), equal_nan=True):
        raise CompileError(
            "the network gives another answer each time it runs: switch off what is random in its forward, such as "
            "dropout that does not ask for the mode"
        )


def _reason(error: Exception) -> str:
    """What torch says, without its advice: a newer opset is not read by TensorRT 8.5, and its trackers are not ours."""
    said = first_line(error)
    for advice in (" Support for this operator was added", " Please feel free to request", " If you are trying to"):
        said = said.split(advice)[0]
    return said if "opset version" not in said else f"{said.rstrip('.')}; write it in other operators of torch"


def _prove_equal(model: onnx.ModelProto, example: np.ndarray, expected: np.ndarray) -> None:
    try:
        actual = run_onnx(model, {INPUT: example})[0]
    except Exception as error:  # ONNX Runtime raises many types, without a common base
        raise CompileError(f"ONNX Runtime does not run the exported graph: {first_line(error)[:300]}") from error
    if actual.shape != expected.shape:
        raise CompileError(f"the exported graph gives {actual.shape}, the network {expected.shape}")
    worst = float(np.abs(actual - expected).max())
    if not worst <= 1e-3 * max(1.0, float(np.abs(expected).max())):
        raise CompileError(f"the exported graph differs from the network by {worst:.3g}; please report this network")
