"""Recipes: one frozen dataclass per way to compile a graph, with just that way's knobs, and the names of graphs.

Each says whose arithmetic its graph is for (``target``), whether convolutions must run in INT8 (``is_int8``), and
whether it is emitted from calibration ranges (``needs_ranges``).
Nothing here emits; ``compiler.quantize.emit`` holds the table recipe -> emitter.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Mapping, Union, get_args

from edgeseg.errors import UsageError
from edgeseg.json_object import JsonObject

__all__ = [
    "FP16",
    "FP32",
    "INT8_CPU",
    "INT8_CPU_VNNI",
    "INT8_DYNAMIC",
    "INT8_FP16",
    "INT8_GRAPHS",
    "INT8_TENSORRT",
    "RECIPES",
    "TARGETS",
    "DynamicInt8",
    "Fp16",
    "Fp32",
    "Recipe",
    "StaticInt8",
    "recipe_from_json",
    "recipe_from_name",
    "recipe_json",
]

FP32 = "fp32"
FP16 = "fp16"
INT8_TENSORRT = "int8-tensorrt"
INT8_FP16 = "int8-fp16"
INT8_CPU = "int8-cpu"
INT8_CPU_VNNI = "int8-cpu-vnni"
INT8_DYNAMIC = "int8-dynamic"
TARGETS = ("any", "cpu", "tensorrt")
"""Whose arithmetic a graph can be for."""
_TYPES = ("float32", "float16")


def _check(knob: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(f"{knob} is {str(value)[:40]!r}; there are {', '.join(map(str, known))}")


@dataclass(frozen=True)
class Fp32:
    """The float graph. ``weights`` is how they are stored: ``"float32"``, or ``"float16"`` for half the size."""

    weights: str = "float32"
    target: ClassVar[str] = "any"
    is_int8: ClassVar[bool] = False
    needs_ranges: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check("weights", self.weights, _TYPES)


@dataclass(frozen=True)
class Fp16:
    """Computes in float16 by its types, for TensorRT 10 strongly typed and for 11, which has no precision flags."""

    target: ClassVar[str] = "tensorrt"
    is_int8: ClassVar[bool] = False
    needs_ranges: ClassVar[bool] = False


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
    is_int8: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("target", self.target, TARGETS[1:])
        _check("dense_weight_bits", self.dense_weight_bits, (7, 8))
        _check("rest", self.rest, _TYPES)


@dataclass(frozen=True)
class DynamicInt8:
    """INT8 weights; activation scales computed per frame. Runs on CPUs only: TensorRT cannot load it."""

    target: ClassVar[str] = "cpu"
    is_int8: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = False


Recipe = Union[Fp32, Fp16, StaticInt8, DynamicInt8]

RECIPES: Mapping[str, Recipe] = {
    INT8_TENSORRT: StaticInt8("tensorrt"),
    INT8_FP16: StaticInt8("tensorrt", rest="float16"),
    INT8_CPU: StaticInt8("cpu", dense_weight_bits=7),
    INT8_CPU_VNNI: StaticInt8("cpu", dense_weight_bits=8),
    INT8_DYNAMIC: DynamicInt8(),
    FP16: Fp16(),
}
"""Every graph that can stand in a bundle beside ``fp32``, by name."""

INT8_GRAPHS = (INT8_TENSORRT, INT8_CPU, INT8_DYNAMIC)
"""What ``--int8`` emits."""

_KINDS: Mapping[str, type[Recipe]] = {kind.__name__: kind for kind in get_args(Recipe)}


def recipe_from_name(name: str) -> Recipe:
    """Return the recipe of a graph's name. Raises UsageError naming what exists."""
    if name not in RECIPES:
        raise UsageError(f"no graph {name!r} can be emitted; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """Return ``{"name": "StaticInt8", "target": ..., ...}`` for a bundle's manifest."""
    knobs = {knob: list(value) if isinstance(value, tuple) else value for knob, value in asdict(recipe).items()}
    return {"name": type(recipe).__name__, **knobs}


def recipe_from_json(data: Any, what: str = "the recipe") -> Recipe:
    """Read what ``recipe_json`` gave. Raises ValueError for an unknown kind or knob, or one of another type."""
    facts = JsonObject(data, what)
    name = facts.text("name")
    if name not in _KINDS:
        raise ValueError(f"{what} is {name[:40]!r}; this edgeseg knows {', '.join(_KINDS)}")
    kind = _KINDS[name]
    known = {knob.name: _READERS[str(knob.type)] for knob in fields(kind)}
    unknown = sorted(set(facts.facts) - set(known) - {"name"})
    if unknown:
        raise ValueError(f"{what} has the knob {unknown[0][:40]!r}, which this edgeseg does not know")
    return kind(**{knob: read(facts, knob) for knob, read in known.items() if knob in facts.facts})


_READERS: Mapping[str, Any] = {
    "str": JsonObject.text,
    "int": JsonObject.whole,
    "bool": lambda facts, knob: facts.flag(knob, True),
    "tuple[str, ...]": JsonObject.texts,
}
"""How a knob is read, by the annotation of its field."""
