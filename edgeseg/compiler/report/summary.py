"""What is said about a bundle in words and tables: on the terminal by compile and inspect, and on the page.

Rows are text, the same everywhere. The page adds colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from edgeseg.bundle import Bundle
from edgeseg.compiler.quantize.mixed import pareto_front
from edgeseg.compiler.verify.gate import worst_drop
from edgeseg.recipes import FP32, RECIPES
from edgeseg.report_data import GraphResult, MixedPoint

__all__ = [
    "GraphRow",
    "GRAPH_COLUMNS",
    "MIX_COLUMNS",
    "MixRow",
    "cells",
    "graph_names",
    "graph_rows",
    "listed",
    "mix_rows",
    "network_name",
    "percent",
    "points",
    "provenance_facts",
    "readable",
    "verdict",
]


@dataclass(frozen=True)
class GraphRow:
    """One graph of a bundle, stored or left out.

    Attributes:
        name: of the graph.
        result: what was measured; None where nothing was.
        target: whose arithmetic it is for; empty where it is not stored.
        size_bytes: of the ONNX file.
        change: of mIoU against FP32, as a fraction; NaN where it is not known.
        worst: the class that loses most against FP32; empty without labels.
        worst_drop: what that class loses.
    """

    name: str
    result: GraphResult | None
    target: str
    size_bytes: int
    change: float
    worst: str
    worst_drop: float

    @property
    def is_stored(self) -> bool:
        """Tell whether the bundle holds the graph."""
        return bool(self.target)

    @property
    def is_refused(self) -> bool:
        """Tell whether the gate refused the graph."""
        return self.result is not None and bool(self.result.refused)


@dataclass(frozen=True)
class MixRow:
    """One mix of INT8 and float layers.

    Attributes:
        point: the mix.
        kind: ``"chosen"``, ``"front"`` (of Pareto), ``"refused"`` or ``"passes"``.
        is_on_front: whether no other mix beats it in both accuracy and cost.
    """

    point: MixedPoint
    kind: str
    is_on_front: bool


def graph_rows(bundle: Bundle) -> list[GraphRow]:
    """Return one row for every graph that was judged or is stored, in ``graph_names``' order."""
    return [_graph_row(name, bundle) for name in graph_names(bundle)]


def _graph_row(name: str, bundle: Bundle) -> GraphRow:
    results, entry = bundle.report.graphs, bundle.graphs.get(name)
    fp32, ours = results.get(FP32), results.get(name)
    worst, drop = worst_drop(fp32.accuracy, ours.accuracy) if fp32 and ours else ("", math.nan)
    return GraphRow(
        name=name,
        result=ours,
        target="" if entry is None else entry.target,
        size_bytes=(ours.size_bytes if ours else 0) or (len(entry.onnx) if entry else 0),
        change=ours.accuracy.miou - fp32.accuracy.miou if fp32 and ours else math.nan,
        worst=worst,
        worst_drop=drop,
    )


def mix_rows(result: GraphResult) -> list[MixRow]:
    """Return one row for every mix that was judged for a graph."""
    front = pareto_front([point for point in result.tried if not point.refused])
    return [MixRow(point, _kind(point, result, front), point in front) for point in result.tried]


def _kind(point: MixedPoint, result: GraphResult, front: Sequence[MixedPoint]) -> str:
    if point.float_layers == result.float_layers:
        return "chosen"
    return "refused" if point.refused else "front" if point in front else "passes"


def cells(rows: Sequence[GraphRow] | Sequence[MixRow], columns: Sequence[str]) -> list[list[str]]:
    """Return the text of some columns, of ``GRAPH_COLUMNS`` or ``MIX_COLUMNS``, for every row."""
    return [
        [(GRAPH_COLUMNS[name](row) if isinstance(row, GraphRow) else MIX_COLUMNS[name](row)) for name in columns]
        for row in rows
    ]


def percent(value: float, unknown: str = "-") -> str:
    """0.7089 -> ``70.89``; NaN -> ``-``."""
    return f"{100 * value:.2f}" if math.isfinite(value) else unknown


def points(change: float) -> str:
    """0.0123 -> ``+1.23``, with a minus sign of the width of the plus sign."""
    return "0.00" if abs(change) < 5e-5 else f"{100 * change:+.2f}".replace("-", "−")


def _measured(show: Callable[[GraphResult], str]) -> Callable[[GraphRow], str]:
    return lambda row: "-" if row.result is None else show(row.result)


def _convolutions(result: GraphResult) -> str:
    return "- / -" if result.int8_convolutions is None else "{} / {}".format(*result.int8_convolutions)


def _milliseconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


GRAPH_COLUMNS: Mapping[str, Callable[[GraphRow], str]] = {
    "graph": lambda row: row.name,
    "target": lambda row: row.target or "-",
    "MB": lambda row: f"{row.size_bytes / 1e6:.1f}",
    "mIoU": _measured(lambda result: percent(result.accuracy.miou)),
    "drop": lambda row: percent(0.0 - row.change),  # 0 - 0, for -0.0 reads as a loss
    "worst class drop": lambda row: f"{row.worst} {percent(row.worst_drop)}" if row.worst else "-",
    "agrees %": _measured(lambda result: percent(result.accuracy.agreement)),
    "at edges %": _measured(lambda result: percent(result.accuracy.boundary_agreement)),
    "INT8 convs": _measured(_convolutions),
    "float layers": _measured(lambda result: str(len(result.float_layers))),
    "in bundle": lambda row: "yes" if row.is_stored else "refused",
}
"""Heading -> text of a graph's cell."""

MIX_COLUMNS: Mapping[str, Callable[[MixRow], str]] = {
    "float layers": lambda row: str(len(row.point.float_layers)),
    "mIoU": lambda row: percent(row.point.accuracy.miou),
    "worst class drop": lambda row: percent(row.point.worst_drop),
    "agrees %": lambda row: percent(row.point.accuracy.agreement),
    "at edges %": lambda row: percent(row.point.accuracy.boundary_agreement),
    "MB": lambda row: f"{row.point.size_bytes / 1e6:.2f}",
    "CPU ms": lambda row: _milliseconds(row.point.measured_ms, 2),
    "board's bound ms": lambda row: _milliseconds(row.point.roofline_ms, 3),
    "gate": lambda row: "refused" if row.point.refused else "passes",
    "choice": lambda row: row.kind if row.kind in ("chosen", "front") else "",
}
"""Heading -> text of a mix's cell."""


def verdict(bundle: Bundle) -> str:
    """Say in one sentence what the gate said."""
    measured = {row.name: row.result for row in graph_rows(bundle) if row.result is not None}
    others = [name for name in measured if name != FP32]
    if not others:
        return "Only the FP32 graph: there is nothing for the gate to judge." if measured else "Nothing was measured."
    passed = [name for name in others if not measured[name].refused]
    stored = [name for name in others if name not in passed and name in bundle.graphs]
    left_out = [name for name in others if name not in passed and name not in bundle.graphs]
    is_gated, parts = bundle.report.gate, []
    if passed:
        gate = "The accuracy gate passed" if is_gated else "The accuracy gate was off and would have passed"
        parts.append(f"{gate} {listed(passed)} ({_worst_of(passed, measured)})")
    else:
        parts.append("The accuracy gate passed no graph" if is_gated else "The accuracy gate was off")
    if stored:
        parts.append(f"it would have refused {listed(stored)}, which {_is(stored)} in the bundle all the same")
    if left_out:
        parts.append(f"it refused {listed(left_out)}, which {_is(left_out)} not in the bundle")
    return "; ".join(parts) + "."


def graph_names(bundle: Bundle) -> list[str]:
    """List the graphs that were judged or are stored: FP32, then as in ``RECIPES``, for files do not keep order."""
    known = (FP32, *RECIPES)
    names = {*bundle.report.graphs, *bundle.graphs}
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def provenance_facts(bundle: Bundle) -> list[tuple[str, str]]:
    """(what, value) lines for people about where a bundle comes from, without the digests."""
    provenance = {key: value for key, value in bundle.provenance.items() if not key.endswith("_sha256")}
    network, training = provenance.pop("network", None), provenance.pop("training", None)
    facts = [("network", network_name(network))] if network else []
    facts += _training(training) if isinstance(training, Mapping) else []
    return facts + [(key.replace("_", " "), readable(value)) for key, value in sorted(provenance.items()) if value]


def network_name(network: object) -> str:
    """Return the name of a network, of what provenance holds of it."""
    if not isinstance(network, Mapping):
        return str(network)
    rest = {key: value for key, value in network.items() if key not in ("architecture", "encoder", "classes")}
    parts = (str(network[key]) for key in ("architecture", "encoder") if network.get(key))
    return " + ".join(parts) + (f" ({readable(rest)})" if rest else "")


def _training(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The trainer's facts; what is in the spec or in tables is left out."""
    recipe = dict(training.get("recipe", {}))
    epochs = recipe.pop("epochs", None)
    facts = []
    trained = training.get("epochs_trained", training["epoch"] + 1 if "epoch" in training else None)
    if trained is not None:  # "epoch", from 0, stands in older bundles
        done = f"{trained} of {epochs} epochs" if epochs else f"{trained} epochs"
        facts.append(("training", "; ".join(filter(None, [f"weights after {done}", readable(recipe)]))))
    if "val_miou" in training:
        where = f" on {training['validation_data']}" if "validation_data" in training else ""
        facts.append(("validation", f"mIoU {percent(training['val_miou'], '–')}{where}, by the trainer"))
    told = ("recipe", "epoch", "epochs_trained", "val_miou", "val_iou", "validation_data", "classes", "size_hw")
    rest = {key: value for key, value in training.items() if key not in told}
    return facts + [(key.replace("_", " "), readable(value)) for key, value in sorted(rest.items())]


def readable(value: object) -> str:
    """Return any JSON value as words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {readable(item)}" for key, item in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return "; ".join(readable(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _worst_of(passed: Sequence[str], measured: Mapping[str, GraphResult]) -> str:
    fp32 = measured.get(FP32)
    worst = [(*worst_drop(fp32.accuracy, measured[name].accuracy), name) for name in passed] if fp32 else []
    known = [one for one in worst if math.isfinite(one[1])]
    if not known:
        agreement = min(measured[name].accuracy.agreement for name in passed)
        return f"at least {percent(agreement, '–')} % of pixels agree with FP32"
    label, drop, name = max(known, key=lambda one: one[1])
    return f"{label} loses most, {100 * drop:.2f} points in {name}" if drop > 0 else "no class loses"


def listed(names: Sequence[str]) -> str:
    """Join texts as in ``a, b and c``."""
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
