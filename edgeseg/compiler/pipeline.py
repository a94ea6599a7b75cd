"""Compile: a list of steps that reads top to bottom, each callable alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Sequence

from edgeseg.bundle import Bundle, GraphEntry
from edgeseg.compiler.calibration.drift_probe import drift_probe
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.tensors import graph_sha256
from edgeseg.compiler.options import CompileData, CompileOptions, FloatModel
from edgeseg.compiler.quantize.qdq import int8_convolutions
from edgeseg.compiler.report.page import report_html
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.steps.calibrate import calibrated_ranges
from edgeseg.compiler.steps.emit import emitted_graphs, refuse_failed
from edgeseg.compiler.steps.float_graph import float_graph_from_module, float_graph_from_onnx
from edgeseg.compiler.steps.golden import golden_frames, self_test_limits
from edgeseg.compiler.steps.job import job_from_data
from edgeseg.compiler.steps.prepare import prepared_graph
from edgeseg.compiler.steps.tensorrt import tensorrt_checks
from edgeseg.images import Dataset
from edgeseg.labels import refuse_unusable_labels
from edgeseg.progress import Progress
from edgeseg.recipes import FP32, Fp32
from edgeseg.report_data import GraphResult, Report
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["Compilation", "bundle_from_graph", "compile_model"]


_SHOWN = {
    "multilabel": (
        "a class map shows one of a pixel's labels, the most probable; mIoU counts it as right if it is one of them",
    )
}
"""Mode of a spec -> what a user should know of its class maps."""


@dataclass(frozen=True)
class Compilation:
    """A bundle and the measurements behind it.

    Attributes:
        bundle: ``edgeseg.write_bundle`` stores it.
        results: what was measured, FP32 first; also of graphs that are not in the bundle.
        notes: what a user should know.
    """

    bundle: Bundle
    results: Sequence[GraphResult]
    notes: Sequence[str] = field(default_factory=tuple)


def compile_model(
    network: nn.Module | onnx.ModelProto,
    spec: ModelSpec,
    *,
    evaluation: Dataset,
    calibration: Dataset | None = None,
    golden: Dataset | None = None,
    options: CompileOptions = CompileOptions(),
    cache: StepCache = StepCache(),
    progress: Progress = Progress(),
) -> Compilation:
    """Compile a network into a bundle.

    Args:
        network: maps 1x3xHxW float32 to logits 1xCxHxW: a torch module (segmentation-models-pytorch, torchvision,
            transformers, your own; of a dict or tuple the logits are taken), or an ONNX graph. It is not changed. One
            that maps 1x1xHxW gets the brightness of frames.
        spec: classes, input size and preprocessing of the network.
        evaluation: images on which every graph is judged, with labels for mIoU.
        calibration: images from which INT8 takes its ranges.
        golden: where the bundle's self-test frames come from; else the evaluation images.
        options: what to emit and what to allow.
        cache: see ``bundle_from_graph``.
        progress: see ``Progress``.

    Returns:
        The bundle (``edgeseg.write_bundle`` stores it) and what was measured.

    Raises:
        GateRefused: a static INT8 graph loses too much.
        CompileError: the network cannot be exported, calibrated or emitted.
        UsageError: the network normalises by itself, or needs a background.
    """
    refuse_unusable_labels(evaluation, spec)
    if hasattr(network, "SerializeToString"):
        graph, _ = float_graph_from_onnx(network, spec, options.network, progress)
    else:
        graph = float_graph_from_module(network, spec, options.network, progress)
    data = CompileData(evaluation, calibration, golden)
    return bundle_from_graph(FloatModel(graph, spec), data, options, cache=cache, progress=progress)


def bundle_from_graph(
    model: FloatModel,
    data: CompileData,
    options: CompileOptions = CompileOptions(),
    *,
    cache: StepCache = StepCache(),
    progress: Progress = Progress(),
) -> Compilation:
    """Emit every graph from one FP32 graph, judge them, and put them into a bundle.

    Args:
        model: the folded FP32 graph, and what is known with it.
        data: images to calibrate and to judge on.
        options: what to emit and what to allow.
        cache: what long steps found before; an interrupted compilation goes on where it stopped.
        progress: see ``Progress``.

    Raises:
        GateRefused: a static INT8 graph loses too much, also with its most sensitive layers in float.
        CompileError: calibration is missing or unusable.
    """
    job = job_from_data(model.spec, data, options, cache, progress)
    prepared = prepared_graph(job, model.graph)
    calibrated = calibrated_ranges(job, prepared, model.ranges)
    emitted = emitted_graphs(job, prepared, calibrated)
    notes = [*prepared.notes, *calibrated.notes, *emitted.notes]
    notes += refuse_failed(job, emitted.results, notes)
    notes += [*model.notes, *_SHOWN.get(job.spec.mode, ())]
    entries = dict(emitted.entries)
    checks = tensorrt_checks(job, entries)
    onnx_fp32 = batched_onnx(prepared.stored, options.batch).SerializeToString()
    entries = {FP32: GraphEntry(onnx_fp32, Fp32("float16" if options.float16_weights else "float32")), **entries}
    fp32 = GraphResult(FP32, len(onnx_fp32), int8_convolutions(prepared.graph), prepared.accuracy)
    results = (fp32, *emitted.results)
    golden = golden_frames(job, prepared.stored.SerializeToString())
    report = Report(
        evaluation_data=data.evaluation.description,
        gate=options.gate,
        board=None if options.board is None else options.board.name,
        limits=options.limits,
        notes=tuple(notes),
        network_is_poor=prepared.poor,
        steps=prepared.steps,
        calibration=calibrated.report,
        sensitivity=emitted.sensitivities,
        lint=checks.lint,
        kernel_plans=checks.kernel_plans,
        graphs={result.name: result for result in results},
        self_test=self_test_limits(job, entries, golden),
    )
    bundle = Bundle(
        spec=model.spec,
        graphs=entries,
        ranges=calibrated.ranges,
        drift=None if calibrated.ranges is None else drift_probe(prepared.stored, calibrated.ranges),
        golden=golden,
        report=report.as_stored(),
        provenance={**model.provenance, "fp32_graph_sha256": graph_sha256(prepared.graph)},
    )
    return Compilation(replace(bundle, page=report_html(bundle)), results, notes)
