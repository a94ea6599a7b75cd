"""Static lint of an ONNX graph for a TensorRT version, without TensorRT installed.

What each TensorRT refuses is taken from NVIDIA's operator lists and parser sources of that version, and, for
TensorRT-RTX, from what its parser and builder said to small graphs. A finding that rests on less says "not verified".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeseg.compiler.lint.rule_graph import SEVERITIES, RuleGraph
from edgeseg.compiler.lint.rules import DLA_RULES, RULES
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = ["lint_findings"]


def lint_findings(model: onnx.ModelProto, target: Target, *, dla: bool = False) -> list[Finding]:
    """Return what stands between a graph and a TensorRT version, most severe first; alike findings are one.

    Args:
        model: any ONNX model; it is not changed.
        target: of ``TARGETS``, or one of your own.
        dla: also ask what of the graph the target's deep learning accelerator can run.

    Raises:
        CompileError: the graph is not valid ONNX.
    """
    graph = RuleGraph(model)
    asked = (DLA_RULES if target.dla else DLA_RULES[:1]) if dla else ()
    found = [finding for rule in RULES + asked for finding in rule(graph, target)]
    return sorted(_grouped(found), key=lambda finding: SEVERITIES.index(finding.severity))


def _grouped(found: list[Finding]) -> list[Finding]:
    """One finding for each thing that is wrong, with the first place and the number of others."""
    places: dict[Finding, list[str]] = {}
    for finding in found:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [
        replace(finding, where=where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more")
        for finding, where in places.items()
    ]
