"""Emit every graph, with layers in float where the gate or the budget needs it, and let the gate decide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from edgeseg.bundle import GraphEntry
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.mixed import best_point, tried_mixes
from edgeseg.compiler.quantize.qdq import int8_convolutions
from edgeseg.compiler.quantize.sensitivity import layer_sensitivities
from edgeseg.compiler.steps.calibrate import Calibrated
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.steps.points import point_of_recipe, static_recipe
from edgeseg.compiler.steps.prepare import Prepared
from edgeseg.compiler.verify.executed_precision import executed_int8_convolutions
from edgeseg.errors import CompileError, GateRefused, UsageError
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.recipes import DynamicInt8, Recipe, recipe_from_name
from edgeseg.report_data import GraphResult, LayerSensitivity, MixedPoint

__all__ = ["Emitted", "emitted_graphs", "refuse_failed"]


@dataclass(frozen=True)
class Emitted:
    """The graphs beside FP32.

    Attributes:
        results: what was measured, of every graph that was emitted.
        entries: the graphs that go into the bundle, by name.
        notes: what a user should know.
        sensitivities: layers by what their INT8 costs, worst first; empty where they were not ranked.
    """

    results: tuple[GraphResult, ...] = ()
    entries: tuple[tuple[str, GraphEntry], ...] = ()
    notes: tuple[str, ...] = ()
    sensitivities: tuple[LayerSensitivity, ...] = ()


def emitted_graphs(job: Job, prepared: Prepared, calibrated: Calibrated) -> Emitted:
    """Emit and judge every graph that the options name.

    Raises:
        GateRefused: no mix of INT8 and float layers is within the budget.
        CompileError: a graph cannot be emitted, or nothing of it would run in INT8.
        UsageError: a budget was given, and nothing to compare with it can be measured.
    """
    made = Emitted()
    if job.options.sensitivity and calibrated.ranges is not None:
        made = _ranked(job, prepared, calibrated.ranges, made)
    for name in job.options.graphs:
        recipe = recipe_from_name(name)
        static = static_recipe(job, name)
        if isinstance(recipe, DynamicInt8) and job.options.batch > 1:
            note = f"{name} is left out: with {job.options.batch} frames all would share one scale"
            made = replace(made, notes=(*made.notes, note))
        elif static is None or calibrated.ranges is None:
            point = point_of_recipe(job, prepared, name, recipe, calibrated.ranges)
            made = _with_graph(job, prepared, made, _Choice(name, recipe, point), calibrated.ranges)
        else:
            made = _with_static_graph(job, prepared, calibrated, made, name)
    return made


def refuse_failed(job: Job, results: Sequence[GraphResult], notes: Sequence[str]) -> list[str]:
    """Stop a compilation of which a static graph failed. Dynamic INT8 that fails is just left out.

    Returns:
        A note where the gate is off.

    Raises:
        GateRefused: a graph that was asked for loses too much.
    """
    tolerated = DynamicInt8 if job.options.gate else ()
    failed = [one for one in results if one.refused and not isinstance(recipe_from_name(one.name), tolerated)]
    if not failed:
        return []
    if not job.options.gate:
        return [f"NO GATE: {', '.join(one.name for one in failed)} would have been refused"]
    reasons = "; ".join(f"{one.name}: {', '.join(one.refused)}" for one in failed)
    tried = max(len(one.tried) for one in failed)
    mixes = f" (also with {tried} mixes of INT8 and float layers)" if tried > 1 else ""
    cause = f" ({'; '.join(notes)})" if notes else ""
    raise GateRefused(
        f"the accuracy gate refused INT8: {reasons}{mixes}{cause}; calibrate on images like those of the "
        "camera, or allow more with `max_drop` and `max_class_drop`"
    )


@dataclass(frozen=True)
class _Choice:
    """What is kept of a graph: its recipe, the point that it reaches, and all that were tried."""

    name: str
    recipe: Recipe
    point: MixedPoint
    tried: tuple[MixedPoint, ...] = ()


def _with_static_graph(job: Job, prepared: Prepared, calibrated: Calibrated, made: Emitted, name: str) -> Emitted:
    """Emit one static INT8 graph, with layers in float where the gate or the budget needs it."""
    recipe, ranges, options = static_recipe(job, name), calibrated.ranges, job.options
    assert recipe is not None and ranges is not None

    def judge(more: tuple[str, ...]) -> MixedPoint:
        with_floats = replace(recipe, float_layers=(*options.float_layers, *more))
        return point_of_recipe(job, prepared, name, with_floats, ranges)

    points = [judge(())]
    # Nothing mends a poor network, and float layers would hide that the calibration images are useless.
    repair = bool(points[0].refused) and options.mixed and not prepared.poor and calibrated.is_sound
    if repair and not options.searches:
        refused = "; ".join(points[0].refused)
        job.progress.step(f"{name}: {refused}; looking for the layers that have to stay in float")
    if options.searches or repair:
        made = _ranked(job, prepared, ranges, made)
        layers = [one.layer for one in made.sensitivities if one.layer not in options.float_layers]
        points = tried_mixes(layers, judge, whole=options.searches)
    chosen = _best(name, points, options.budget_ms)
    if len(points) > 1:
        job.progress.step(f"{name}: {len(chosen.float_layers)} layers in float after {len(points)} mixes were judged")
    choice = _Choice(name, replace(recipe, float_layers=chosen.float_layers), chosen, tuple(points))
    return _with_graph(job, prepared, made, choice, ranges)


def _best(name: str, points: Sequence[MixedPoint], budget_ms: float | None) -> MixedPoint:
    """The best point that passes; without a budget, else the first one. Raises GateRefused, UsageError."""
    chosen = best_point(points, budget_ms)
    if chosen is not None:
        return chosen
    if budget_ms is None:
        return points[0]
    if any(point.latency_ms is None for point in points):
        raise UsageError(f"{name} has no latency on this machine to compare with `budget_ms`; name a `board`")
    passing = [point for point in points if not point.refused]
    if not passing:
        reasons = ", ".join(points[0].refused)
        raise GateRefused(f"the accuracy gate refused INT8: {name}: {reasons} ({len(points)} mixes judged)")
    fastest = min(point.latency_ms or 0.0 for point in passing)
    raise GateRefused(
        f"{name}: no mix that passes the gate is within {budget_ms:g} ms; the fastest takes {fastest:.2f} ms"
    )


def _ranked(job: Job, prepared: Prepared, ranges: Ranges, made: Emitted) -> Emitted:
    """Rank layers by what their INT8 costs, unless that is done."""
    if made.sensitivities:
        return made
    frames = NetworkFrames(job.data.calibration or job.data.evaluation, job.spec)
    ranked = layer_sensitivities(prepared.graph, ranges, frames, cache=job.cache, report=job.counter("ranking layers"))
    job.progress.step(f"most sensitive of {len(ranked)} layers: {ranked[0].layer}, {ranked[0].sqnr_db:.0f} dB")
    return replace(made, sensitivities=tuple(ranked))


def _with_graph(job: Job, prepared: Prepared, made: Emitted, choice: _Choice, ranges: Ranges | None) -> Emitted:
    """Emit a graph as it is stored, and prove that INT8 runs in it. One that the gate refuses is not kept."""
    model = batched_onnx(emitted_onnx(prepared.graph, ranges, choice.recipe), job.options.batch)
    data, point = model.SerializeToString(), choice.point
    on_cpu = choice.recipe.target != "tensorrt"
    convolutions = executed_int8_convolutions(data) if on_cpu else int8_convolutions(model)
    if choice.recipe.is_int8 and not convolutions[0]:
        raise CompileError(
            f"{choice.name}: none of {convolutions[1]} convolutions would run in INT8; please report this network"
        )
    result = GraphResult(
        choice.name, len(data), convolutions, point.accuracy, point.refused, point.float_layers, choice.tried
    )
    made = replace(made, results=(*made.results, result))
    if point.refused and job.options.gate:
        return made
    return replace(made, entries=(*made.entries, (choice.name, GraphEntry(data, choice.recipe))))
