"""One frozen dataclass per way to compile a graph, with just that way's knobs, and the graph each of them gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Mapping, Union

from edgeseg.compiler.graph.float16 import float16_onnx
from edgeseg.compiler.quantize.dynamic import dynamic_int8_onnx
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx, tensorrt_qdq_onnx
from edgeseg.compiler.ranges import Ranges
from edgeseg.errors import CompileError, UsageError

if TYPE_CHECKING:
    import onnx

__all__ = [
    "INT8_GRAPHS",
    "RECIPES",
    "DynamicInt8",
    "Fp16",
    "Fp32",
    "Recipe",
    "StaticInt8",
    "emitted_onnx",
    "recipe_from_name",
    "recipe_json",
    "target_of",
]


@dataclass(frozen=True)
class Fp32:
    """The float graph. ``weights`` is how they are stored: ``"float32"``, or ``"float16"`` for half the size."""

    weights: str = "float32"


@dataclass(frozen=True)
class Fp16:
    """Computes in float16 by its types, for TensorRT 10 strongly typed and for 11, which has no precision flags."""


@dataclass(frozen=True)
class StaticInt8:
    """INT8 weights and activations with frozen ranges, as Q/DQ nodes.

    Attributes:
        target: ``"tensorrt"`` (symmetric, bias in float) or ``"cpu"`` (u8 activations, int32 bias).
        dense_weight_bits: 8, or 7 where ``vpmaddubsw`` would saturate (x86 without VNNI). Depthwise weights have 8.
        per_channel: one weight scale per output channel, else one per weight.
        bias_correction: shift biases by the mean error of rounding the weights.
        float_layers: layers that stay in float, by their output tensor.
        rest: precision of what is not INT8: ``"float32"``, or ``"float16"`` (TensorRT 10 strongly typed, 11).
    """

    target: str
    dense_weight_bits: int = 8
    per_channel: bool = True
    bias_correction: bool = True
    float_layers: tuple[str, ...] = ()
    rest: str = "float32"


@dataclass(frozen=True)
class DynamicInt8:
    """INT8 weights; activation scales computed per frame. Runs on CPUs only: TensorRT cannot load it."""


Recipe = Union[Fp32, Fp16, StaticInt8, DynamicInt8]

RECIPES: Mapping[str, Recipe] = {
    "int8-tensorrt": StaticInt8("tensorrt"),
    "int8-fp16": StaticInt8("tensorrt", rest="float16"),
    "int8-cpu": StaticInt8("cpu", dense_weight_bits=7),
    "int8-cpu-vnni": StaticInt8("cpu", dense_weight_bits=8),
    "int8-dynamic": DynamicInt8(),
    "fp16": Fp16(),
}
"""Every graph that can stand in a bundle beside ``fp32``, by name."""

INT8_GRAPHS = ("int8-tensorrt", "int8-cpu", "int8-dynamic")
"""What ``--int8`` emits."""


def recipe_from_name(name: str) -> Recipe:
    """The recipe of a graph's name. Raises UsageError naming what exists."""
    if name not in RECIPES:
        raise UsageError(f"no graph {name!r} can be emitted; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def target_of(recipe: Recipe) -> str:
    """Whose arithmetic a recipe's graph is for: ``"any"``, ``"cpu"`` or ``"tensorrt"``."""
    if isinstance(recipe, StaticInt8):
        return recipe.target
    if isinstance(recipe, DynamicInt8):
        return "cpu"
    return "tensorrt" if isinstance(recipe, Fp16) else "any"


def emitted_onnx(graph: onnx.ModelProto, ranges: Ranges | None, recipe: Recipe) -> onnx.ModelProto:
    """The graph that a recipe makes of the folded FP32 graph.

    Raises:
        CompileError: ranges are missing, or the graph cannot be emitted.
    """
    if isinstance(recipe, Fp32):
        return graph
    if isinstance(recipe, Fp16):
        return float16_onnx(graph)
    if isinstance(recipe, DynamicInt8):
        return dynamic_int8_onnx(graph)
    if ranges is None:
        raise CompileError("static INT8 needs ranges; pass calibration images")
    if recipe.target == "cpu":
        return cpu_qdq_onnx(
            graph,
            ranges,
            dense_weight_bits=recipe.dense_weight_bits,
            float_layers=recipe.float_layers,
            per_channel=recipe.per_channel,
            bias_correction=recipe.bias_correction,
        )
    quantized = tensorrt_qdq_onnx(
        graph,
        ranges,
        float_layers=recipe.float_layers,
        per_channel=recipe.per_channel,
        bias_correction=recipe.bias_correction,
    )
    return float16_onnx(quantized) if recipe.rest == "float16" else quantized


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """``{"name": "StaticInt8", "target": ..., ...}`` for a bundle's manifest."""
    return {"name": type(recipe).__name__, **asdict(recipe)}
