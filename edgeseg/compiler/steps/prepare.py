"""Steps before calibration: what changes the FP32 graph itself, each judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Sequence

import numpy as np

from edgeseg.compiler.graph.fold import argmax_first_onnx
from edgeseg.compiler.graph.storage import float16_weights, float32_weights
from edgeseg.compiler.quantize.equalize import equalized_onnx
from edgeseg.compiler.steps.job import Job
from edgeseg.compiler.verify.gate import refusals
from edgeseg.errors import GateRefused
from edgeseg.preprocess import NetworkFrames
from edgeseg.recipes import FP32
from edgeseg.report_data import Accuracy, Limits, PreparationStep

if TYPE_CHECKING:
    import onnx

__all__ = ["Prepared", "prepared_graph"]

_FLOAT16_MAY_MOVE = 5e-4
"""mIoU by which rounding the FP32 weights to float16 may change it."""
_ROUNDING = Limits(_FLOAT16_MAY_MOVE, 0.01, 0.998, 0.98)


@dataclass(frozen=True)
class Prepared:
    """An FP32 graph that is ready to be quantized.

    Attributes:
        graph: for one frame, with float32 weights.
        stored: the same as it is stored, with float16 weights where that is asked for.
        accuracy: of the graph; INT8 is compared with it.
        class_maps: HxW uint8 of the graph, one per evaluation image.
        steps: what was done, for the report.
        notes: what a user should know.
        poor: why the network is poor before anything is quantized; None where it is not.
    """

    graph: onnx.ModelProto
    stored: onnx.ModelProto
    accuracy: Accuracy
    class_maps: Sequence[np.ndarray]
    steps: tuple[PreparationStep, ...]
    notes: tuple[str, ...] = ()
    poor: str | None = None


def prepared_graph(job: Job, graph: onnx.ModelProto) -> Prepared:
    """Run the steps before calibration that the options ask for, and judge each.

    Args:
        job: the compilation.
        graph: the folded FP32 graph for one frame.

    Raises:
        GateRefused: a step loses too much.
        CompileError: a step does not work on this graph.
    """
    accuracy, maps = job.judge(graph, FP32)
    made = Prepared(graph, graph, accuracy, maps, (_step("folded FP32 graph", graph, accuracy),))
    made = _with_word_on_network(job, made)
    if job.options.argmax_first:
        cut = argmax_first_onnx(made.graph)
        made = _after_step(job, made, cut, "argmax before the last enlargement", job.options.limits)
    if job.options.equalize:
        images = job.data.calibration
        frames = None if images is None else NetworkFrames(images, job.spec)
        even, lines = equalized_onnx(made.graph, frames)
        made = replace(made, notes=(*made.notes, *lines))
        made = _after_step(job, made, even, "cross-layer equalisation", job.options.limits)
    if job.options.float16_weights:
        stored = float16_weights(made.graph)
        made = _after_step(job, made, float32_weights(stored), "weights rounded to float16", _ROUNDING)
        made = replace(made, stored=stored)
    return made


def _with_word_on_network(job: Job, made: Prepared) -> Prepared:
    """Say how good the network is before anything of it is quantized, while it still helps to know."""
    if not math.isfinite(made.accuracy.miou):
        return made
    score = f"mIoU {100 * made.accuracy.miou:.2f}"
    job.progress.step(f"fp32, before anything is quantized: {score} on {job.data.evaluation.description}")
    if not made.accuracy.is_poor:
        return made
    poor = (
        f"it scores {score} before anything is quantized, and {made.accuracy.commonest!r} everywhere would score "
        f"{100 * made.accuracy.commonest_miou:.2f}"
    )
    note = (
        f"the network is poor: {poor}; train it longer, or check that classes, mean, std and channel "
        "order are its own. INT8 is not repaired for it"
    )
    job.progress.step(note)
    return replace(made, poor=poor, notes=(*made.notes, note))


def _after_step(job: Job, before: Prepared, graph: onnx.ModelProto, what: str, limits: Limits) -> Prepared:
    """Judge what a step made of the FP32 graph; INT8 is compared with it from here on. Raises GateRefused."""
    accuracy, maps = job.judge(graph, what, reference=before.class_maps)
    reasons = refusals(before.accuracy, accuracy, limits)
    if reasons and job.options.gate:
        raise GateRefused(f"the accuracy gate refused the step '{what}': {', '.join(reasons)}; leave it out")
    notes = [*before.notes]
    if reasons:
        notes.append(f"NO GATE: the step '{what}' would have been refused: {', '.join(reasons)}")
    if math.isfinite(accuracy.miou):
        notes.append(f"{what}: mIoU {100 * before.accuracy.miou:.3f} -> {100 * accuracy.miou:.3f}")
    return replace(
        before,
        graph=graph,
        stored=graph,
        accuracy=replace(accuracy, agreement=1.0, boundary_agreement=1.0),
        class_maps=maps,
        steps=(*before.steps, _step(what, graph, accuracy)),
        notes=tuple(notes),
    )


def _step(what: str, graph: onnx.ModelProto, accuracy: Accuracy) -> PreparationStep:
    return PreparationStep(what, len(graph.graph.node), graph.ByteSize(), accuracy)
