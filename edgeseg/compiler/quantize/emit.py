"""From a recipe to its graph: one table, recipe -> emitter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping

from edgeseg.compiler.graph.float16 import float16_onnx
from edgeseg.compiler.quantize.dynamic import dynamic_int8_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges
from edgeseg.recipes import DynamicInt8, Fp16, Fp32, Recipe, StaticInt8

if TYPE_CHECKING:
    import onnx

__all__ = ["EMITTERS", "emitted_onnx"]


def emitted_onnx(graph: onnx.ModelProto, ranges: Ranges | None, recipe: Recipe) -> onnx.ModelProto:
    """Make the graph of a recipe from the folded FP32 graph.

    Raises:
        CompileError: ranges are missing, or the graph cannot be emitted.
    """
    return EMITTERS[type(recipe)](graph, ranges, recipe)


def _static_int8(graph: onnx.ModelProto, ranges: Ranges | None, recipe: StaticInt8) -> onnx.ModelProto:
    if ranges is None:
        raise CompileError("static INT8 needs ranges; pass calibration images")
    knobs: dict[str, Any] = {
        "float_layers": recipe.float_layers,
        "per_channel": recipe.per_channel,
        "bias_correction": recipe.bias_correction,
    }
    if recipe.target == "cpu":
        return cpu_qdq_onnx(graph, ranges, dense_weight_bits=recipe.dense_weight_bits, **knobs)
    quantized = tensorrt_qdq_onnx(graph, ranges, **knobs)
    return float16_onnx(quantized) if recipe.rest == "float16" else quantized


EMITTERS: Mapping[type, Callable[[Any, Any, Any], Any]] = {
    Fp32: lambda graph, ranges, recipe: graph,
    Fp16: lambda graph, ranges, recipe: float16_onnx(graph),
    StaticInt8: _static_int8,
    DynamicInt8: lambda graph, ranges, recipe: dynamic_int8_onnx(graph),
}
"""Recipe -> (folded FP32 graph, ranges or None, recipe) -> graph."""
