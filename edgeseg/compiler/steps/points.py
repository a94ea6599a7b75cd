"""Emit one graph of a recipe and judge it: a point of the trade-off between accuracy, size and latency."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.steps.prepare import Prepared
from edgeseg.compiler.verify.executed_precision import median_ms
from edgeseg.compiler.verify.gate import refusals, worst_drop
from edgeseg.compiler.verify.roofline import layer_costs, roofline_ms
from edgeseg.ranges import Ranges
from edgeseg.recipes import Recipe, StaticInt8, recipe_from_name
from edgeseg.report_data import MixedPoint

__all__ = ["point_of_recipe", "static_recipe"]


def static_recipe(job: Job, name: str) -> StaticInt8 | None:
    """Return the recipe of a static INT8 graph with the options' knobs; None for a graph of another kind."""
    recipe, options = recipe_from_name(name), job.options
    if not isinstance(recipe, StaticInt8):
        return None
    return replace(
        recipe,
        bias_correction=options.bias_correction,
        per_channel=options.per_channel,
        float_layers=options.float_layers,
    )


def point_of_recipe(job: Job, prepared: Prepared, name: str, recipe: Recipe, ranges: Ranges | None) -> MixedPoint:
    """Emit and judge one graph, with its target's arithmetic.

    Args:
        job: the compilation.
        prepared: the FP32 graph.
        name: of the graph to emit, for people.
        recipe: what to emit.
        ranges: of the FP32 graph; None for recipes without ranges.

    Raises:
        CompileError: the graph cannot be emitted.
    """
    model = emitted_onnx(prepared.graph, ranges, recipe)
    for_tensorrt = recipe.target == "tensorrt"
    accuracy, _ = job.judge(model, name, float_qdq=for_tensorrt, reference=prepared.class_maps)
    floats = recipe.float_layers if isinstance(recipe, StaticInt8) else ()
    data = model.SerializeToString()
    return MixedPoint(
        float_layers=floats,
        accuracy=accuracy,
        worst_drop=worst_drop(prepared.accuracy, accuracy)[1],
        refused=tuple(refusals(prepared.accuracy, accuracy, job.options.limits)),
        size_bytes=len(data),
        measured_ms=median_ms(data) if job.options.searches and recipe.target == "cpu" else None,
        roofline_ms=_bound_ms(job, prepared, floats) if for_tensorrt else None,
    )


def _bound_ms(job: Job, prepared: Prepared, floats: Sequence[str]) -> float | None:
    """Bound the latency on the board; None where none is named."""
    board = job.options.board
    return None if board is None else round(roofline_ms(layer_costs(prepared.graph), board, floats), 4)
