"""Check graphs for TensorRT on the host: the lint of every JetPack, and a build where one is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Sequence

from edgeseg.bundle import GraphEntry
from edgeseg.compiler.lint.check import lint_findings
from edgeseg.compiler.lint.targets import TARGETS
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx
from edgeseg.errors import require
from edgeseg.report_data import Finding, KernelPlanSummary

__all__ = ["TensorrtChecks", "lint_errors", "tensorrt_checks"]

_MOST_ERRORS = 5


@dataclass(frozen=True)
class TensorrtChecks:
    """What was found about the graphs for TensorRT.

    Attributes:
        lint: graph -> target -> findings.
        kernel_plans: graph -> compute capability -> what TensorRT-RTX built.
    """

    lint: Mapping[str, Mapping[str, tuple[Finding, ...]]] = field(default_factory=dict)
    kernel_plans: Mapping[str, Mapping[str, KernelPlanSummary]] = field(default_factory=dict)


def tensorrt_checks(job: Job, entries: Mapping[str, GraphEntry]) -> TensorrtChecks:
    """Lint every graph for TensorRT against every JetPack; build it with TensorRT-RTX where that is asked for.

    Raises:
        CompileError: TensorRT-RTX refuses a graph.
        MissingDependencyError: TensorRT-RTX is not installed.
    """
    ours = {name: entry.onnx for name, entry in entries.items() if entry.target == "tensorrt"}
    lint, plans = {}, {}
    for name, onnx in ours.items():
        lint[name] = _linted(job, name, onnx)
        built = {capability: _built(job, name, onnx, capability) for capability in job.options.compute_capabilities}
        if built:
            plans[name] = built
    return TensorrtChecks(lint, plans)


def _linted(job: Job, name: str, onnx: bytes) -> dict[str, tuple[Finding, ...]]:
    model = require("onnx", "compile").load_model_from_string(onnx)
    found = {target.name: tuple(lint_findings(model, target)) for target in TARGETS.values()}
    errors = [target for target, findings in found.items() if any(one.severity == "error" for one in findings)]
    fits = f"not for {', '.join(errors)}" if errors else f"no error for any of {len(TARGETS)} targets"
    job.progress.step(f"lint of {name}: {fits}")
    for line in lint_errors(found):
        job.progress.step(line)
    return found


def _built(job: Job, name: str, onnx: bytes, capability: str) -> KernelPlanSummary:
    plan = kernel_plan_from_onnx(onnx, capability).summary()
    job.progress.step(
        f"accepted by TensorRT-RTX {plan.tensorrt_rtx} for {capability}: {name}, {plan.kernels} kernels, "
        f"{plan.int8_convolutions} of {plan.convolutions} convolutions in INT8, "
        f"{len(plan.float_round_trips)} float round trips, {plan.build_s:.0f} s"
    )
    return plan


def lint_errors(found: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return the first errors that lint found, each once, with what to do about it."""
    lines = []
    for findings in found.values():
        for finding in findings:
            line = f"  {finding.where}: {finding.what}; {finding.fix}"
            if finding.severity == "error" and line not in lines:
                lines.append(line)
    more = [f"  and {len(lines) - _MOST_ERRORS} more; the report in the bundle has all"]
    return lines if len(lines) <= _MOST_ERRORS else lines[:_MOST_ERRORS] + more
