"""Sections of the page about TensorRT: what lint found, and what TensorRT-RTX made of the graphs."""

from __future__ import annotations

from typing import Mapping, Sequence

from edgeseg.bundle import Bundle
from edgeseg.compiler.report.summary import graph_names, listed
from edgeseg.compiler.report.template import NOTHING, Markup, joined, markup, table
from edgeseg.report_data import Finding, KernelPlanSummary

__all__ = ["kernel_plans_section", "lint_section", "unfit_targets"]

Lint = Mapping[str, Mapping[str, Sequence[Finding]]]


def unfit_targets(bundle: Bundle) -> dict[str, list[str]]:
    """Return the targets for which lint found an error, by graph."""
    found = {
        name: [t for t in sorted(targets) if _count(targets[t], "error")] for name, targets in _lint(bundle).items()
    }
    return {name: targets for name, targets in found.items() if targets}


def _lint(bundle: Bundle) -> Lint:
    return {name: bundle.report.lint[name] for name in graph_names(bundle) if name in bundle.report.lint}


def lint_section(bundle: Bundle) -> Markup:
    """Render what lint found, without TensorRT."""
    lint = _lint(bundle)
    targets = sorted({target for findings in lint.values() for target in findings})
    if not targets:
        return NOTHING
    rows = [[target, *(_finding_counts(lint[name].get(target, ())) for name in lint)] for target in targets]
    return joined(
        [
            table("Findings per target, without TensorRT", ["target", *lint], rows, text=range(1, len(lint) + 1)),
            *(_findings(target, lint) for target in targets),
        ]
    )


def _finding_counts(findings: Sequence[Finding]) -> Markup:
    told = [(s, _count(findings, s)) for s in ("error", "warning", "note")]
    parts = [f"{count} {severity}{'s' * (count > 1)}" for severity, count in told if count]
    style = "bad" if told[0][1] else "loss" if told[1][1] else "gain"
    return markup('<span class="{}">{}</span>', style, ", ".join(parts) or "nothing")


def _findings(target: str, lint: Lint) -> Markup:
    """The findings for one target, collapsed; those that several graphs share stand there once."""
    graphs: dict[Finding, list[str]] = {}
    for name, targets in lint.items():
        for finding in targets.get(target, ()):
            graphs.setdefault(finding, []).append(name)
    if not graphs:
        return NOTHING
    items = joined(
        markup(
            '<li><b class="{}">{}</b> {} <span class="quiet">({}; {}; rule {})</span><br>Fix: {}</li>',
            _STYLES.get(finding.severity, "quiet"), finding.severity, finding.what, listed(names), finding.where,
            finding.rule, finding.fix,
        )
        for finding, names in graphs.items()
    )  # fmt: skip
    counted = _finding_counts(list(graphs))
    return markup("<details><summary>{}: {}</summary><ul>{}</ul></details>", target, counted, items)


_STYLES = {"error": "bad", "warning": "loss"}


def _count(findings: Sequence[Finding], severity: str) -> int:
    return sum(finding.severity == severity for finding in findings)


def kernel_plans_section(bundle: Bundle) -> Markup:
    """Render what TensorRT-RTX made of the graphs."""
    plans = bundle.report.kernel_plans
    entries = [(name, key, plans[name][key]) for name in graph_names(bundle) for key in sorted(plans.get(name, {}))]
    if not entries:
        return NOTHING
    rows = [
        [
            f"{name}, {capability}",
            plan.kernels,
            f"{plan.int8_convolutions} of {plan.convolutions}",
            len(plan.float_round_trips),
            f"{plan.activation_bytes / 1e6:.0f}",
            f"{plan.plan_bytes / 1e6:.1f}",
            f"{plan.build_s:.1f}",
        ]
        for name, capability, plan in entries
    ]
    versions = sorted({plan.tensorrt_rtx for _, _, plan in entries})
    columns = ["graph", "kernels", "INT8 convolutions", "float round trips", "activations MB", "plan MB", "build s"]
    caption = f"Accepted by TensorRT-RTX {listed(versions)}, built ahead of time without a GPU; not run on a Jetson"
    return joined([table(caption, columns, rows), *(_round_trips(*entry) for entry in entries)])


def _round_trips(name: str, capability: str, plan: KernelPlanSummary) -> Markup:
    trips = plan.float_round_trips
    if not trips:
        return NOTHING
    items = joined(
        markup("<li>{}: from {} to {}</li>", trip.tensor, _last(trip.written_by), _last(trip.read_by)) for trip in trips
    )
    return markup(
        "<details><summary>{} float round trips of {}, {}</summary><ul>{}</ul></details>",
        len(trips), name, capability, items,
    )  # fmt: skip


def _last(layers: Sequence[str]) -> str:
    return layers[-1] if layers else "the output"
