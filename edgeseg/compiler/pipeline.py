"""Compile: a list of named steps that reads top to bottom, each callable alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES, ranges_from_frames
from edgeseg.compiler.calibration.dataset_report import calibration_report
from edgeseg.compiler.calibration.drift_probe import drift_probe
from edgeseg.compiler.graph.batch import batched_onnx
from edgeseg.compiler.graph.fold import argmax_first_onnx, folded_onnx
from edgeseg.compiler.graph.simplify import simplified_onnx
from edgeseg.compiler.graph.storage import float16_weights, float32_weights
from edgeseg.compiler.graph.tensors import graph_sha256
from edgeseg.compiler.importers.canonical import network_graph
from edgeseg.compiler.importers.normalisation import check_scaled_once, own_scaling
from edgeseg.compiler.importers.onnx_network import (
    background_id,
    graph_facts,
    likely_background_id,
    network_graph_from_onnx,
    wanted_from_flags,
)
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.compiler.lint.check import linted
from edgeseg.compiler.lint.targets import TARGETS
from edgeseg.compiler.quantize.emit import emitted_onnx
from edgeseg.compiler.quantize.equalize import equalized_onnx
from edgeseg.compiler.quantize.mixed import best_point, passing_mix, quality
from edgeseg.compiler.quantize.qdq import int8_convolutions
from edgeseg.compiler.quantize.sensitivity import layer_sensitivities
from edgeseg.compiler.report.page import report_html
from edgeseg.compiler.step_cache import StepCache
from edgeseg.compiler.verify.executed_precision import executed_int8_convolutions, median_ms
from edgeseg.compiler.verify.gate import labelled_sha256, measured_accuracy, refusals, worst_drop
from edgeseg.compiler.verify.roofline import layer_costs, roofline_ms
from edgeseg.compiler.verify.tensorrt_rtx import kernel_plan_from_onnx
from edgeseg.device.specifications import Board
from edgeseg.engines.golden import FLOAT_AGREEMENT
from edgeseg.errors import CompileError, GateRefused, UsageError, require
from edgeseg.images import Dataset, InMemory, Sample
from edgeseg.labels import refuse_unusable_labels
from edgeseg.preprocess import class_map_at, resized_frame
from edgeseg.progress import Progress
from edgeseg.ranges import Ranges
from edgeseg.recipes import (
    FP32,
    INT8_GRAPHS,
    INT8_TENSORRT,
    DynamicInt8,
    Fp32,
    Recipe,
    StaticInt8,
    recipe_from_name,
)
from edgeseg.report_data import (
    Accuracy,
    CalibrationReport,
    Finding,
    GraphResult,
    KernelPlanSummary,
    LayerSensitivity,
    Limits,
    MixedPoint,
    PreparationStep,
    Report,
)
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = [
    "Compilation",
    "CompileOptions",
    "bundle_from_graph",
    "compile_model",
    "float_graph_from_bundle",
    "float_graph_from_module",
    "float_graph_from_network",
]

GOLDEN_FRAMES = 4
_MOST_ERRORS = 5
_FLOAT16_MAY_MOVE = 5e-4
"""mIoU by which rounding the FP32 weights to float16 may change it."""


@dataclass(frozen=True)
class CompileOptions:
    """What to emit and what to allow.

    Attributes:
        graphs: names of graphs beside ``fp32``, of ``recipes.RECIPES``; none for FP32 alone.
        calibrator: how ranges are taken, of ``calibrators.CALIBRATORS``; ``"auto"`` is ``minmax``, and where the gate
            refuses what that gives for the first static graph, ``percentile`` and ``mse`` too, and the best is kept.
        limits: of the accuracy gate.
        gate: False stores graphs that the gate refuses, and stamps the bundle.
        equalize: cross-layer equalisation before calibration.
        bias_correction: shift biases by the mean error of rounding the weights.
        per_channel: weight scales per output channel.
        float_layers: layers that always stay in float, by their output tensor.
        mixed: put the most sensitive layers back to float where the gate refuses.
        sensitivity: rank the layers even if the gate passes.
        pareto: try the whole range of float layers and keep the table.
        budget_ms: take the most accurate choice within this time: the CPU's measured, or the board's bound.
        board: for the bound on latency.
        float16_weights: store the FP32 weights as float16.
        argmax_first: take the class before the last enlargement.
        batch: frames per inference.
        compute_capabilities: what TensorRT-RTX is asked to build TensorRT's graphs for, e.g. ``"SM86"``.
    """

    graphs: tuple[str, ...] = INT8_GRAPHS
    calibrator: str = "auto"
    limits: Limits = Limits()
    gate: bool = True
    equalize: bool = False
    bias_correction: bool = True
    per_channel: bool = True
    float_layers: tuple[str, ...] = ()
    mixed: bool = True
    sensitivity: bool = False
    pareto: bool = False
    budget_ms: float | None = None
    board: Board | None = None
    float16_weights: bool = False
    argmax_first: bool = False
    batch: int = 1
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compilation:
    """A bundle and the measurements behind it."""

    bundle: Bundle
    results: Sequence[GraphResult]
    notes: Sequence[str] = field(default_factory=tuple)


def float_graph_from_module(
    module: nn.Module,
    spec: ModelSpec,
    *,
    simplifier: str = "onnxsim",
    scores: bool = False,
    background: str | None = None,
    threshold: float = 0.5,
    progress: Progress = Progress(),
) -> onnx.ModelProto:
    """torch module (float NCHW -> logits) -> the folded FP32 graph.

    ``background`` and ``threshold`` are those of ``compiled``. Raises CompileError, UsageError.
    """
    exported = onnx_from_module(module, spec.size_hw, classes=len(spec.classes), report=progress.step)
    place, exclusive = background_id(spec.classes, background)
    wanted = replace(
        wanted_from_flags(exported, classes=len(spec.classes), size_hw=spec.size_hw, layout="NCHW", output=None),
        background=place,
        exclusive=exclusive,
        likely_background=likely_background_id(spec.classes),
        threshold=threshold,
        scores=scores,
    )
    network, lines = network_graph(exported, wanted)
    for line in lines:
        progress.step(line)
    return float_graph_from_network(network, spec, simplifier=simplifier, scores=scores, progress=progress)


def float_graph_from_network(
    network: onnx.ModelProto,
    spec: ModelSpec,
    *,
    simplifier: str = "onnxsim",
    scores: bool = False,
    progress: Progress = Progress(),
) -> onnx.ModelProto:
    """Network graph (float NCHW -> logits) -> the folded FP32 graph.

    Raises CompileError, and UsageError where the spec would normalise what the graph normalises by itself.
    """
    simplified = simplified_onnx(network, simplifier)
    graph = simplified.model.graph
    _refuse_sequences(graph)
    check_scaled_once(own_scaling(graph, graph.input[0].name), spec.preprocess)
    progress.step(
        f"simplified with {simplifier}: {simplified.nodes_before} -> {simplified.nodes_after} nodes, "
        f"largest output difference {simplified.max_difference:.1e}"
    )
    folded = folded_onnx(simplified.model, spec, scores=scores)
    progress.step(
        "folded: uint8 BGR frame in, normalisation and argmax inside, uint8 class map out"
        + (", scores too" if scores else "")
    )
    return folded


def _refuse_sequences(graph: onnx.GraphProto) -> None:
    """What joins a sequence hides the shapes that INT8 needs, and no TensorRT has it."""
    if any(node.op_type == "ConcatFromSequence" for node in graph.node):
        raise CompileError(
            "the graph joins a sequence (ConcatFromSequence); export it with split and cat of fixed sizes"
        )


def float_graph_from_bundle(bundle: Bundle) -> onnx.ModelProto:
    """Return a bundle's FP32 graph for one frame, with float32 weights. Raises CompileError when it has none."""
    onnx = require("onnx", "compile")
    if FP32 not in bundle.graphs:
        raise CompileError("the bundle holds no fp32 graph to compile from")
    return batched_onnx(float32_weights(onnx.load_model_from_string(bundle.graphs[FP32].onnx)), 1)


def compile_model(
    network: nn.Module | onnx.ModelProto,
    spec: ModelSpec,
    *,
    evaluation: Dataset,
    calibration: Dataset | None = None,
    golden: Dataset | None = None,
    options: CompileOptions = CompileOptions(),
    simplifier: str = "onnxsim",
    scores: bool = False,
    background: str | None = None,
    threshold: float = 0.5,
    cache: StepCache = StepCache(),
    progress: Progress = Progress(),
) -> Compilation:
    """Compile a network into a bundle.

    Args:
        network: maps 1x3xHxW float32 to logits 1xCxHxW: a torch module (segmentation-models-pytorch, torchvision,
            transformers, your own; of a dict or tuple the logits are taken), or an ONNX graph. It is not changed.
        spec: classes, input size and preprocessing of the network.
        evaluation: images on which every graph is judged, with labels for mIoU.
        calibration: images from which INT8 takes its ranges.
        golden: where the bundle's self-test frames come from; else the evaluation images.
        options: what to emit and what to allow.
        simplifier: ``"onnxsim"``, ``"onnxslim"`` or ``"none"``.
        scores: output class probabilities too.
        background: of a network with several sigmoids, the class that stands where none is above ``threshold``;
            ``"none"`` if they are exclusive classes, and the largest wins.
        threshold: probability above which a sigmoid says yes.
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
        check_scaled_once(graph_facts(network).scaling, spec.preprocess)
        place, exclusive = background_id(spec.classes, background)
        cleaned, lines = network_graph_from_onnx(
            network,
            classes=len(spec.classes),
            size_hw=spec.size_hw,
            channel_order=spec.preprocess.channel_order,
            background=place,
            exclusive=exclusive,
            likely_background=likely_background_id(spec.classes),
            threshold=threshold,
            scores=scores,
        )
        for line in lines:
            progress.step(line)
        graph = float_graph_from_network(cleaned, spec, simplifier=simplifier, scores=scores, progress=progress)
    else:
        graph = float_graph_from_module(
            network,
            spec,
            simplifier=simplifier,
            scores=scores,
            background=background,
            threshold=threshold,
            progress=progress,
        )
    return bundle_from_graph(
        graph,
        spec,
        options,
        calibration=calibration,
        evaluation=evaluation,
        golden=golden or evaluation,
        cache=cache,
        progress=progress,
    )


def bundle_from_graph(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    options: CompileOptions,
    *,
    calibration: Dataset | None,
    evaluation: Dataset,
    golden: Dataset,
    ranges: Ranges | None = None,
    provenance: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    cache: StepCache = StepCache(),
    progress: Progress = Progress(),
) -> Compilation:
    """Emit every graph from one FP32 graph, judge them, and put them into a bundle.

    Args:
        graph: the folded FP32 graph for one frame.
        spec: of that network.
        options: what to emit and what to allow.
        calibration: images from which ranges are taken when ``ranges`` is None.
        evaluation: images on which every graph is judged; labels make it mIoU, else agreement with FP32.
        golden: frames of which a few are stored for the device's self-test.
        ranges: frozen ranges of this very graph.
        provenance: stored in the manifest.
        notes: lines of earlier steps that belong into the report.
        cache: what long steps found before; an interrupted compilation goes on where it stopped.
        progress: see Progress.

    Raises:
        GateRefused: a static INT8 graph loses too much, also with its most sensitive layers in float.
        CompileError: calibration is missing or unusable.
    """
    job = _Job(spec, options, evaluation, cache, progress)
    stored = job.prepared(graph, calibration)
    ranges = job.ranges(calibration, ranges) if _needs_ranges(options) else None
    if options.sensitivity and ranges is not None:
        job.ranked(ranges, calibration)
    for name in options.graphs:
        job.emit(name, ranges, calibration)
    job.refuse()
    job.notes += notes
    job.check_for_tensorrt()
    onnx_fp32 = batched_onnx(stored, options.batch).SerializeToString()
    fp32 = Fp32("float16" if options.float16_weights else "float32")
    job.entries[FP32] = GraphEntry(onnx_fp32, fp32)
    job.results[0] = replace(job.results[0], size_bytes=len(onnx_fp32))
    kept = _golden(golden, stored.SerializeToString(), spec)
    bundle = Bundle(
        spec=spec,
        graphs={name: job.entries[name] for name in (FP32, *options.graphs) if name in job.entries},
        ranges=ranges,
        drift=drift_probe(stored, ranges) if ranges is not None else None,
        golden=kept,
        report=job.report(_self_test_limits(job.entries, kept, spec, options)).as_stored(),
        provenance={**(provenance or {}), "fp32_graph_sha256": graph_sha256(job.graph)},
    )
    return Compilation(replace(bundle, page=report_html(bundle)), job.results, job.notes)


class _Job:
    """One compilation under way: what the steps hand to each other."""

    def __init__(
        self, spec: ModelSpec, options: CompileOptions, evaluation: Dataset, cache: StepCache, progress: Progress
    ) -> None:
        self.spec, self.options, self._evaluation = spec, options, evaluation
        self._cache, self._progress = cache, progress
        self._evaluation_sha256 = labelled_sha256(evaluation, spec.size_hw) if cache.folder else ""
        self.results: list[GraphResult] = []
        self.entries: dict[str, GraphEntry] = {}
        self.notes: list[str] = []
        self._poor: str | None = None
        self._steps: list[PreparationStep] = []
        self._sensitivities: list[LayerSensitivity] = []
        self._calibration: CalibrationReport | None = None
        self._lint: dict[str, dict[str, tuple[Finding, ...]]] = {}
        self._plans: dict[str, dict[str, KernelPlanSummary]] = {}

    def prepared(self, graph: onnx.ModelProto, calibration: Dataset | None) -> onnx.ModelProto:
        """Run the steps before calibration, each judged; return the FP32 graph as it is stored."""
        self.graph = graph
        self.fp32, self._reference = self._judge(graph, FP32)
        self._step("folded FP32 graph", graph, self.fp32)
        self._say_of_network()
        if self.options.argmax_first:
            self.graph = argmax_first_onnx(self.graph)
            self._judge_step("argmax before the last enlargement", self.options.limits)
        if self.options.equalize:
            self.graph, lines = equalized_onnx(self.graph, calibration)
            self.notes += lines
            self._judge_step("cross-layer equalisation", self.options.limits)
        stored = self.graph
        if self.options.float16_weights:
            stored = float16_weights(self.graph)
            self.graph = float32_weights(stored)
            self._judge_step("weights rounded to float16", _ROUNDING)
        self.results.append(GraphResult(FP32, 0, int8_convolutions(self.graph), self.fp32))
        return stored

    def _say_of_network(self) -> None:
        """How good the network is before anything of it is quantized, while it still helps to know."""
        if not math.isfinite(self.fp32.miou):
            return
        score = f"mIoU {100 * self.fp32.miou:.2f}"
        self._progress.step(f"fp32, before anything is quantized: {score} on {self._evaluation.description}")
        if self.fp32.is_poor:
            self._poor = (
                f"it scores {score} before anything is quantized, and {self.fp32.commonest!r} everywhere would score "
                f"{100 * self.fp32.commonest_miou:.2f}"
            )
            self.notes.append(
                f"the network is poor: {self._poor}; train it longer, or check that classes, mean, std and channel "
                "order are its own. INT8 is not repaired for it"
            )
            self._progress.step(self.notes[-1])

    def ranges(self, calibration: Dataset | None, frozen: Ranges | None) -> Ranges:
        """Frozen ranges if they belong to this graph, else those of the calibration images."""
        if frozen is not None:
            if frozen.graph_sha256 != graph_sha256(self.graph):
                raise CompileError("the frozen ranges belong to another graph; calibrate again with --calib FOLDER")
            if self.options.calibrator not in ("auto", frozen.calibrator):
                raise UsageError(
                    f"the frozen ranges were taken by {frozen.calibrator}, not {self.options.calibrator}; "
                    "calibrate again with --calib FOLDER"
                )
            self._progress.step(f"ranges: frozen, {frozen.images} images ({frozen.data})")
            return frozen
        if calibration is None:
            raise CompileError(
                "INT8 needs calibration images; pass --calib FOLDER (a few hundred frames of your camera)"
            )
        if len(calibration) >= MINIMUM_FRAMES:
            self._calibration = calibration_report(calibration, self.spec, report=self._counter("reading images"))
            self.notes += self._calibration.warnings
        if self.options.calibrator != "auto":
            return self._calibrated(calibration, self.options.calibrator)
        ranges = self._calibrated(calibration, "minmax")
        name = next(name for name in self.options.graphs if isinstance(_recipe(name), StaticInt8))
        point = self._point(name, self._static(name), ranges)
        if not point.refused or not self._sound():
            return ranges
        self._progress.step(f"{name} with minmax: {'; '.join(point.refused)}; trying percentile and mse")
        choices = {ranges.calibrator: (quality(point.accuracy), ranges)}
        for calibrator in ("percentile", "mse"):
            other = self._calibrated(calibration, calibrator)
            choices[calibrator] = quality(self._point(name, self._static(name), other).accuracy), other
        best = max(choices, key=lambda calibrator: choices[calibrator][0])
        found = ", ".join(f"{calibrator} {100 * value:.2f}" for calibrator, (value, _) in choices.items())
        self.notes.append(f"calibrator {best}, because the gate refused {name} with minmax: {found}")
        self._progress.step(self.notes[-1])
        return choices[best][1]

    def _calibrated(self, calibration: Dataset, calibrator: str) -> Ranges:
        taken = ranges_from_frames(
            self.graph,
            calibration,
            calibrator=calibrator,
            cache=self._cache,
            data_sha256=self._calibration.sha256 if self._calibration else None,
            report=self._counter(f"calibrating ({calibrator})"),
        )
        self._progress.step(f"ranges: {len(taken.tensors)} tensors by {taken.calibrator} over {taken.images} images")
        self.notes += [line for line in range_warnings(taken) if line not in self.notes]
        return taken

    def _static(self, name: str) -> StaticInt8:
        """The recipe of a static INT8 graph with the options' knobs."""
        recipe = recipe_from_name(name)
        assert isinstance(recipe, StaticInt8)
        return replace(
            recipe,
            bias_correction=self.options.bias_correction,
            per_channel=self.options.per_channel,
            float_layers=self.options.float_layers,
        )

    def ranked(self, ranges: Ranges, calibration: Dataset | None) -> list[str]:
        """Layers by what their INT8 costs, worst first; measured once."""
        if not self._sensitivities:
            frames = calibration or self._evaluation
            self._sensitivities = layer_sensitivities(
                self.graph, ranges, frames, cache=self._cache, report=self._counter("ranking layers")
            )
            worst = self._sensitivities[0]
            self._progress.step(
                f"most sensitive of {len(self._sensitivities)} layers: {worst.layer}, {worst.sqnr_db:.0f} dB"
            )
        return [one.layer for one in self._sensitivities if one.layer not in self.options.float_layers]

    def emit(self, name: str, ranges: Ranges | None, calibration: Dataset | None) -> None:
        """Emit one graph, with layers in float where the gate or the budget needs it, and keep it if it passes."""
        recipe = recipe_from_name(name)
        if isinstance(recipe, DynamicInt8) and self.options.batch > 1:
            self.notes.append(f"{name} is left out: with {self.options.batch} frames all would share one scale")
            return
        if not isinstance(recipe, StaticInt8) or ranges is None:
            self._keep(name, recipe, self._point(name, recipe, ranges), ())
            return
        recipe = self._static(name)

        def judged(more: tuple[str, ...]) -> MixedPoint:
            return self._point(name, replace(recipe, float_layers=(*self.options.float_layers, *more)), ranges)

        points = [judged(())]
        search = self.options.pareto or self.options.budget_ms is not None
        repair = bool(points[0].refused) and self.options.mixed and self._sound()
        if repair and not search:
            refused = "; ".join(points[0].refused)
            self._progress.step(f"{name}: {refused}; looking for the layers that have to stay in float")
        if search or repair:
            points = passing_mix(self.ranked(ranges, calibration), judged, whole=search)
        chosen = best_point(points, self.options.budget_ms)
        if chosen is None and self.options.budget_ms is not None:
            raise GateRefused(_over_budget(name, points, self.options.budget_ms))
        chosen = chosen or points[0]
        if len(points) > 1:
            self._progress.step(
                f"{name}: {len(chosen.float_layers)} layers in float after {len(points)} mixes were judged"
            )
        self._keep(name, replace(recipe, float_layers=chosen.float_layers), chosen, tuple(points), ranges)

    def refuse(self) -> None:
        """Dynamic INT8 that fails is left out; a static graph that fails stops the compilation, if the gate is on."""
        tolerated = DynamicInt8 if self.options.gate else ()
        failed = [r for r in self.results if r.refused and not isinstance(_recipe(r.name), tolerated)]
        if failed and not self.options.gate:
            self.notes.append(f"NO GATE: {', '.join(r.name for r in failed)} would have been refused")
        elif failed:
            reasons = "; ".join(f"{result.name}: {', '.join(result.refused)}" for result in failed)
            tried = max(len(result.tried) for result in failed)
            mixes = f" (also with {tried} mixes of INT8 and float layers)" if tried > 1 else ""
            cause = f" ({'; '.join(self.notes)})" if self.notes else ""
            raise GateRefused(
                f"the accuracy gate refused INT8: {reasons}{mixes}{cause}; calibrate on images like those of the "
                "camera, or allow more with --max-drop and --max-class-drop"
            )

    def check_for_tensorrt(self) -> None:
        """Lint every graph for TensorRT against every JetPack; build it with TensorRT-RTX where that is asked for."""
        onnx = require("onnx", "compile")
        for name, entry in self.entries.items():
            if entry.target != "tensorrt":
                continue
            model = onnx.load_model_from_string(entry.onnx)
            self._lint[name] = {target.name: tuple(linted(model, target)) for target in TARGETS.values()}
            errors = [t for t, findings in self._lint[name].items() if any(f.severity == "error" for f in findings)]
            fits = f"not for {', '.join(errors)}" if errors else f"no error for any of {len(TARGETS)} targets"
            self._progress.step(f"lint of {name}: {fits}")
            for line in _lint_errors(self._lint[name]):
                self._progress.step(line)
            for capability in self.options.compute_capabilities:
                plan = kernel_plan_from_onnx(entry.onnx, capability).summary()
                self._plans.setdefault(name, {})[capability] = plan
                self._progress.step(
                    f"accepted by TensorRT-RTX {plan.tensorrt_rtx} for {capability}: {name}, {plan.kernels} kernels, "
                    f"{plan.int8_convolutions} of {plan.convolutions} convolutions in INT8, "
                    f"{len(plan.float_round_trips)} float round trips, {plan.build_s:.0f} s"
                )

    def report(self, self_test: Mapping[str, float]) -> Report:
        """Everything that was measured."""
        return Report(
            evaluation_data=self._evaluation.description,
            gate=self.options.gate,
            board=None if self.options.board is None else self.options.board.name,
            limits=self.options.limits,
            notes=tuple(self.notes),
            network_is_poor=self._poor,
            steps=tuple(self._steps),
            calibration=self._calibration,
            sensitivity=tuple(self._sensitivities),
            lint=self._lint,
            kernel_plans=self._plans,
            graphs={result.name: result for result in self.results},
            self_test=self_test,
        )

    def _point(self, name: str, recipe: Recipe, ranges: Ranges | None) -> MixedPoint:
        """Emit and judge one graph."""
        model = emitted_onnx(self.graph, ranges, recipe)
        accuracy, _ = self._judge(model, name, float_qdq=recipe.target == "tensorrt", reference=self._reference)
        floats = recipe.float_layers if isinstance(recipe, StaticInt8) else ()
        search = self.options.pareto or self.options.budget_ms is not None
        data = model.SerializeToString()
        return MixedPoint(
            float_layers=floats,
            accuracy=accuracy,
            worst_drop=worst_drop(self.fp32, accuracy)[1],
            refused=tuple(refusals(self.fp32, accuracy, self.options.limits)),
            size_bytes=len(data),
            measured_ms=median_ms(data) if search and recipe.target == "cpu" else None,
            roofline_ms=self._roofline(floats) if recipe.target == "tensorrt" else None,
        )

    def _sound(self) -> bool:
        """Whether a repair is worth it: float layers would hide that the calibration images are useless, and mend
        nothing of a poor network."""
        return not self._poor and (self._calibration is None or self._calibration.usable >= MINIMUM_FRAMES)

    def _roofline(self, floats: Sequence[str]) -> float | None:
        board = self.options.board
        return None if board is None else round(roofline_ms(layer_costs(self.graph), board, floats), 4)

    def _keep(
        self,
        name: str,
        recipe: Recipe,
        point: MixedPoint,
        tried: tuple[MixedPoint, ...],
        ranges: Ranges | None = None,
    ) -> None:
        model = batched_onnx(emitted_onnx(self.graph, ranges, recipe), self.options.batch)
        data, target = model.SerializeToString(), recipe.target
        convolutions = int8_convolutions(model) if target == "tensorrt" else executed_int8_convolutions(data)
        if recipe.is_int8 and not convolutions[0]:
            raise CompileError(
                f"{name}: none of {convolutions[1]} convolutions would run in INT8; please report this network"
            )
        self.results.append(
            GraphResult(name, len(data), convolutions, point.accuracy, point.refused, point.float_layers, tried)
        )
        if not point.refused or not self.options.gate:
            self.entries[name] = GraphEntry(data, recipe)

    def _judge(self, model: onnx.ModelProto, name: str, **how: Any) -> tuple[Accuracy, list[np.ndarray]]:
        return measured_accuracy(
            model.SerializeToString(),
            self.spec,
            self._evaluation,
            cache=self._cache,
            data_sha256=self._evaluation_sha256,
            report=self._counter(f"judging {name}"),
            **how,
        )

    def _judge_step(self, what: str, limits: Limits) -> None:
        """Judge what a step made of the FP32 graph; INT8 is compared with it from here on. Raises GateRefused."""
        before = self.fp32
        accuracy, maps = self._judge(self.graph, what, reference=self._reference)
        reasons = refusals(before, accuracy, limits)
        self._step(what, self.graph, accuracy)
        if reasons and self.options.gate:
            raise GateRefused(f"the accuracy gate refused the step '{what}': {', '.join(reasons)}; leave it out")
        if reasons:
            self.notes.append(f"NO GATE: the step '{what}' would have been refused: {', '.join(reasons)}")
        if math.isfinite(accuracy.miou):
            self.notes.append(f"{what}: mIoU {100 * before.miou:.3f} -> {100 * accuracy.miou:.3f}")
        self.fp32, self._reference = replace(accuracy, agreement=1.0, boundary_agreement=1.0), maps

    def _step(self, what: str, graph: onnx.ModelProto, accuracy: Accuracy) -> None:
        self._steps.append(PreparationStep(what, len(graph.graph.node), graph.ByteSize(), accuracy))

    def _counter(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress.count(what, done, total)


_ROUNDING = Limits(_FLOAT16_MAY_MOVE, 0.01, 0.998, 0.98)


def range_warnings(ranges: Ranges) -> list[str]:
    """Say what looks wrong about calibration ranges before anything is emitted from them."""
    low, high = ranges.tensors.get("frame_float", (0.0, 255.0))
    if high - low < 64:
        return [f"the calibration images span only {low:.0f}-{high:.0f} of 0-255: they are near-black or empty"]
    return []


def _lint_errors(found: Mapping[str, Sequence[Finding]]) -> list[str]:
    """The first errors that lint found, each once, with what to do about it."""
    lines = []
    for findings in found.values():
        for finding in findings:
            line = f"  {finding.where}: {finding.what}; {finding.fix}"
            if finding.severity == "error" and line not in lines:
                lines.append(line)
    more = [f"  and {len(lines) - _MOST_ERRORS} more; the report in the bundle has all"]
    return lines if len(lines) <= _MOST_ERRORS else lines[:_MOST_ERRORS] + more


def _recipe(name: str) -> Recipe:
    return Fp32() if name == FP32 else recipe_from_name(name)


def _needs_ranges(options: CompileOptions) -> bool:
    return any(isinstance(_recipe(name), StaticInt8) for name in options.graphs)


def _over_budget(name: str, points: Sequence[MixedPoint], budget_ms: float) -> str:
    passing = [point for point in points if not point.refused]
    if any(point.latency_ms is None for point in points):
        raise UsageError(f"{name} has no latency on this machine to compare with --budget-ms; name a --board")
    if not passing:
        return f"the accuracy gate refused INT8: {name}: {', '.join(points[0].refused)} ({len(points)} mixes judged)"
    fastest = min(point.latency_ms or 0.0 for point in passing)
    return f"{name}: no mix that passes the gate is within {budget_ms:g} ms; the fastest takes {fastest:.2f} ms"


def _golden(data: Dataset, onnx: bytes, spec: ModelSpec) -> Golden:
    """A few evenly spread frames at network size, with labels and FP32's answer."""
    indices = np.unique(np.linspace(0, len(data) - 1, min(GOLDEN_FRAMES, len(data))).astype(int))
    chosen = [_at_network_size(data[int(index)], spec) for index in indices]
    _, maps = measured_accuracy(onnx, spec, InMemory(chosen, "golden frames"))
    labels = [np.full(spec.size_hw, spec.ignore_id, np.uint8) if s.label is None else s.label for s in chosen]
    return Golden(np.stack([s.frame for s in chosen]), np.stack(labels), np.stack(maps))


def _self_test_limits(
    entries: Mapping[str, GraphEntry], golden: Golden, spec: ModelSpec, options: CompileOptions
) -> dict[str, float]:
    """Share of the golden pixels in which a device must agree with FP32, by precision.

    For INT8 it is the gate's limit, or a point less than the host measured on these very frames if that is lower.
    """
    limits = {**FLOAT_AGREEMENT, "int8": options.limits.min_agreement}
    if INT8_TENSORRT in entries and options.batch == 1:
        frames = InMemory([Sample("", frame, None) for frame in golden.frames], "golden frames")
        accuracy, _ = measured_accuracy(
            entries[INT8_TENSORRT].onnx, spec, frames, float_qdq=True, reference=list(golden.classes)
        )
        limits["int8"] = round(min(limits["int8"], accuracy.agreement - 0.01), 4)
    return limits


def _at_network_size(sample: Sample, spec: ModelSpec) -> Sample:
    label = None if sample.label is None else class_map_at(sample.label, spec.size_hw)
    return Sample(sample.name, resized_frame(sample.frame, spec.size_hw), label)
