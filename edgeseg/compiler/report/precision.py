"""Sections of the page about precision: layers that INT8 hurts, and mixes of INT8 and float."""

from __future__ import annotations

import math
import os
from typing import Sequence

from edgeseg.bundle import Bundle
from edgeseg.compiler.report.charts import Bar, Dot, Level, bar_chart, scatter_chart
from edgeseg.compiler.report.summary import cells, graph_rows, listed, mix_rows
from edgeseg.compiler.report.template import NOTHING, Markup, change, joined, markup, table
from edgeseg.recipes import FP32
from edgeseg.report_data import GraphResult, LayerSensitivity, MixedPoint

__all__ = ["mixes_section", "sensitivity_section"]

_LAYERS_SHOWN = 20
_MIX_COLUMNS = {
    "float layers": "float layers",
    "mIoU %": "mIoU",
    "worst class": "worst class drop",
    "agreement %": "agrees %",
    "boundary agreement %": "at edges %",
    "MB": "MB",
    "CPU ms": "CPU ms",
    "bound ms": "board's bound ms",
    "gate": "gate",
    "choice": "choice",
}
"""Heading on the page -> column of ``summary.MIX_COLUMNS``."""


def sensitivity_section(bundle: Bundle) -> Markup:
    """Layers by what their INT8 costs."""
    layers = bundle.report.sensitivity
    if not layers:
        return NOTHING
    floats: dict[str, list[str]] = {}
    for row in graph_rows(bundle):
        for layer in row.result.float_layers if row.result else ():
            floats.setdefault(layer, []).append(row.name)
    shown = layers[:_LAYERS_SHOWN]
    bars = [_bar(label, one, floats.get(one.layer, [])) for label, one in zip(_short_names(shown), shown)]
    what = f"Signal-to-noise ratio of the logits with one layer in INT8, the {len(bars)} worst of {len(layers)} layers"
    rows = [[one.layer, _decibels(one), listed(floats.get(one.layer, []))] for one in layers]
    return joined(
        [
            markup("<p>{}. Shorter is worse: 20 dB less is ten times the error.</p>", what),
            bar_chart(what, bars, max(1.0, *(bar.value for bar in bars))),
            markup(
                '<details class="screen"><summary>All layers by their output tensor</summary>{}</details>',
                table(
                    "As 'edgeseg compile --float-layer' takes them, worst first",
                    ["layer", "ratio", "float in"],
                    rows,
                    text=(2,),
                ),
            ),
        ]
    )


def _bar(label: str, one: LayerSensitivity, names: list[str]) -> Bar:
    return Bar(label, one.sqnr_db, _decibels(one) + (f", float in {listed(names)}" if names else ""), bool(names))


def _decibels(one: LayerSensitivity) -> str:
    return f"{one.sqnr_db:.1f} dB"


def _short_names(layers: Sequence[LayerSensitivity]) -> list[str]:
    """Names of tensors without the folder that all share and the exporter's suffix, and never longer than a phone."""
    names = [one.layer for one in layers]
    shared = os.path.commonprefix(names).rfind("/") + 1 if len(names) > 1 else 0
    short = [name[shared:].replace("_output_0", "") for name in names]
    return [name if len(name) <= 46 else "…" + name[-45:] for name in short]


def mixes_section(bundle: Bundle) -> Markup:
    """Render every mix of INT8 and float that was judged, for every graph with more than one."""
    results = (row.result for row in graph_rows(bundle))
    return joined(_mix(result, bundle) for result in results if result is not None and len(result.tried) > 1)


def _mix(result: GraphResult, bundle: Bundle) -> Markup:
    rows, name = mix_rows(result), result.name
    y_label, heights, levels = _accuracy_axis([row.point for row in rows], bundle)
    x_label, explained = _cost_axis(rows[0].point, bundle.report.board or "the board that was named")
    dots = [
        Dot(_cost(row.point), height, str(len(row.point.float_layers)), row.kind, row.is_on_front)
        for row, height in zip(rows, heights)
    ]
    return joined(
        [
            markup("<h3>{}</h3><p>Numbers at the points are layers in float. {}</p>", name, explained),
            scatter_chart(f"{name}: accuracy against cost", dots, levels, x_label, y_label),
            _mix_table(result, bundle.report.limits.max_class_drop),
        ]
    )


def _mix_table(result: GraphResult, allowed: float) -> Markup:
    """Columns in which no mix has a value are left out."""
    rows, headings = mix_rows(result), list(_MIX_COLUMNS)
    told: list[list[object]] = [list(row) for row in cells(rows, list(_MIX_COLUMNS.values()))]
    worst = headings.index("worst class")
    for row, cell in zip(rows, told):
        cell[worst] = change(-row.point.worst_drop, allowed)
        cell[-1] = {"front": "Pareto front"}.get(str(cell[-1]), cell[-1])
    used = [i for i in range(len(headings)) if any(str(cell[i]) not in ("", "-") for cell in told)]
    kept = [[cell[i] for i in used] for cell in told]
    return table(f"{result.name}: every mix that was judged", [headings[i] for i in used], kept)


def _accuracy_axis(mixes: Sequence[MixedPoint], bundle: Bundle) -> tuple[str, list[float], list[Level]]:
    """(axis, heights, what the gate wants) of mIoU, or of the agreement where there are no labels."""
    fp32, limits = bundle.report.graphs.get(FP32), bundle.report.limits
    if fp32 is not None and math.isfinite(fp32.accuracy.miou):
        miou = fp32.accuracy.miou
        levels = [Level(100 * miou, "FP32"), Level(100 * (miou - limits.max_drop), "least mIoU of the gate")]
        return "mIoU %", [100 * point.accuracy.miou for point in mixes], levels
    levels = [Level(100 * limits.min_agreement, "least agreement of the gate")]
    return "agreement with FP32 %", [100 * point.accuracy.agreement for point in mixes], levels


def _cost(point: MixedPoint) -> float:
    return point.latency_ms if point.latency_ms is not None else point.size_bytes / 1e6


def _cost_axis(point: MixedPoint, board: str) -> tuple[str, str]:
    """(axis, what it is) of what accuracy is paid with."""
    if point.measured_ms is not None:
        return "ms per frame", "Time is the median on the CPU that compiled it."
    if point.roofline_ms is not None:
        return "ms per frame, lower bound", f"Time is the least at the peak rates of {board}, no forecast."
    return "MB", ""
