"""One frozen dataclass per way to compile a graph, with just that way's knobs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Union

__all__ = ["DynamicInt8", "Fp32", "Recipe", "StaticInt8", "recipe_json"]


@dataclass(frozen=True)
class Fp32:
    """The float graph. ``weights`` is how they are stored: ``"float32"``, or ``"float16"`` for half the size."""

    weights: str = "float32"


@dataclass(frozen=True)
class StaticInt8:
    """INT8 weights and activations with frozen ranges, as Q/DQ nodes.

    Attributes:
        target: ``"tensorrt"`` (symmetric, bias in float) or ``"cpu"`` (u8 activations, int32 bias).
        dense_weight_bits: 8, or 7 where ``vpmaddubsw`` would saturate (x86 without VNNI). Depthwise weights have 8.
    """

    target: str
    dense_weight_bits: int = 8


@dataclass(frozen=True)
class DynamicInt8:
    """INT8 weights; activation scales computed per frame. Runs on CPUs only: TensorRT cannot load it."""


Recipe = Union[Fp32, StaticInt8, DynamicInt8]


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """``{"name": "StaticInt8", "target": ..., ...}`` for a bundle's manifest."""
    return {"name": type(recipe).__name__, **asdict(recipe)}
