"""Compile: a list of named steps that reads top to bottom, each callable alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from edgeseg.bundle import Bundle, Golden, GraphEntry
from edgeseg.compiler.dynamic import dynamic_int8_onnx
from edgeseg.compiler.export import onnx_from_module
from edgeseg.compiler.fold import folded_onnx
from edgeseg.compiler.gate import Accuracy, Limits, measured_accuracy, refusals
from edgeseg.compiler.proof import executed_int8_convolutions
from edgeseg.compiler.qdq import cpu_qdq_onnx, int8_convolutions, tensorrt_qdq_onnx
from edgeseg.compiler.collect import ranges_from_frames
from edgeseg.compiler.ranges import Ranges, graph_sha256
from edgeseg.compiler.recipes import DynamicInt8, Fp32, Recipe, StaticInt8, recipe_json
from edgeseg.compiler.simplify import simplified_onnx
from edgeseg.compiler.weights import float16_weights, float32_weights
from edgeseg.errors import CompileError, GateRefused, require
from edgeseg.images import Dataset, InMemory, Sample
from edgeseg.preprocess import class_map_at, resized_frame
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = [
    "Compilation",
    "GraphResult",
    "Progress",
    "bundle_from_graph",
    "float_graph_from_bundle",
    "float_graph_from_module",
]

INT8_RECIPES: Mapping[str, Recipe] = {
    "int8-tensorrt": StaticInt8("tensorrt", dense_weight_bits=8),
    "int8-cpu": StaticInt8("cpu", dense_weight_bits=7),
    "int8-dynamic": DynamicInt8(),
}
GOLDEN_FRAMES = 4


@dataclass(frozen=True)
class Progress:
    """How a compilation tells what it does.

    Attributes:
        step: called with a line for people when a step is done.
        count: called with (what, items done, items in all) inside a long step.
    """

    step: Callable[[str], None] = lambda line: None
    count: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True)
class GraphResult:
    """One emitted graph and what it achieves.

    Attributes:
        name: key in the bundle.
        size_bytes: of the ONNX file.
        int8_convolutions: (in INT8, in all); for CPU graphs as ONNX Runtime executes them on this machine, for
            TensorRT those that read quantized activations and weights.
        accuracy: on the evaluation set with the target's arithmetic.
        refused: why the gate refused it; empty when it passed.
    """

    name: str
    size_bytes: int
    int8_convolutions: tuple[int, int]
    accuracy: Accuracy
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compilation:
    """A bundle and the measurements behind it."""

    bundle: Bundle
    results: Sequence[GraphResult]
    notes: Sequence[str] = field(default_factory=tuple)


def float_graph_from_module(
    module: nn.Module, spec: ModelSpec, *, simplifier: str = "onnxsim", progress: Progress = Progress()
) -> onnx.ModelProto:
    """torch module (float NCHW -> logits) -> the folded FP32 graph. Raises CompileError."""
    exported = onnx_from_module(module, spec.size_hw)
    simplified = simplified_onnx(exported, simplifier)
    progress.step(
        f"simplified with {simplifier}: {simplified.nodes_before} -> {simplified.nodes_after} nodes, "
        f"largest output difference {simplified.max_difference:.1e}"
    )
    folded = folded_onnx(simplified.model, spec)
    progress.step("folded: uint8 BGR frame in, normalisation and argmax inside, uint8 class map out")
    return folded


def float_graph_from_bundle(bundle: Bundle) -> onnx.ModelProto:
    """The FP32 graph of a bundle with float32 weights. Raises CompileError when it has none."""
    onnx = require("onnx", "compile")
    if "fp32" not in bundle.graphs:
        raise CompileError("the bundle holds no fp32 graph to compile from")
    return float32_weights(onnx.load_model_from_string(bundle.graphs["fp32"].onnx))


def bundle_from_graph(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    *,
    int8: bool,
    calibration: Dataset | None,
    evaluation: Dataset,
    golden: Dataset,
    ranges: Ranges | None = None,
    limits: Limits = Limits(),
    float16: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress = Progress(),
) -> Compilation:
    """Emit every graph from one FP32 graph, judge them, and put them into a bundle.

    Args:
        graph: the folded FP32 graph.
        spec: of that network.
        int8: emit the INT8 graphs too.
        calibration: images from which ranges are taken when ``ranges`` is None.
        evaluation: images on which every graph is judged; labels make it mIoU, else agreement with FP32.
        golden: frames of which a few are stored for the device's self-test.
        ranges: frozen ranges of this very graph.
        limits: of the gate.
        float16: round the FP32 weights to float16 and store them so, if mIoU moves by 0.05 points at most.
        provenance: stored in the manifest.
        progress: see Progress.

    Raises:
        GateRefused: an INT8 graph for TensorRT or the CPU loses too much.
        CompileError: calibration is missing or unusable.
    """
    fp32, reference = _judge(graph, spec, evaluation, progress, "fp32")
    stored, notes = graph, list[str]()
    if float16:
        stored = float16_weights(graph)
        graph = float32_weights(stored)
        fp32, reference, notes = _judged_rounded(graph, fp32, reference, spec, evaluation, progress)
    recipe = Fp32("float16" if float16 else "float32")
    entries = {"fp32": GraphEntry(stored.SerializeToString(), recipe_json(recipe), "any")}
    results = [GraphResult("fp32", len(entries["fp32"].onnx), int8_convolutions(graph), fp32)]
    if int8:
        ranges = _ranges(graph, calibration, ranges, progress)
        notes += range_warnings(ranges)
        for name, model in int8_graphs(graph, ranges).items():
            result, entry = _judged_int8(name, model, spec, evaluation, fp32, reference, limits, progress)
            results.append(result)
            if not result.refused:
                entries[name] = entry
    _refuse(results, notes)
    bundle = Bundle(
        spec=spec,
        graphs=entries,
        ranges=ranges.to_json() if int8 and ranges is not None else None,
        golden=_golden(golden, entries["fp32"].onnx, spec),
        report=_report(results, evaluation, limits, notes),
        provenance={**(provenance or {}), "fp32_graph_sha256": graph_sha256(graph)},
    )
    return Compilation(bundle, results, notes)


def int8_graphs(graph: onnx.ModelProto, ranges: Ranges) -> dict[str, onnx.ModelProto]:
    """Every INT8 graph that one set of ranges gives, by name."""
    return {name: emitted_onnx(graph, ranges, recipe) for name, recipe in INT8_RECIPES.items()}


def emitted_onnx(graph: onnx.ModelProto, ranges: Ranges, recipe: Recipe) -> onnx.ModelProto:
    """The graph that a recipe makes of the folded FP32 graph."""
    if isinstance(recipe, DynamicInt8):
        return dynamic_int8_onnx(graph)
    if isinstance(recipe, StaticInt8):
        if recipe.target == "tensorrt":
            return tensorrt_qdq_onnx(graph, ranges)
        return cpu_qdq_onnx(graph, ranges, dense_weight_bits=recipe.dense_weight_bits)
    return graph


def range_warnings(ranges: Ranges) -> list[str]:
    """What looks wrong about calibration ranges before anything is emitted from them."""
    low, high = ranges.tensors.get("frame_float", (0.0, 255.0))
    if high - low < 64:
        return [f"the calibration images span only {low:.0f}-{high:.0f} of 0-255: they are near-black or empty"]
    return []


def _judge(
    model: onnx.ModelProto, spec: ModelSpec, data: Dataset, progress: Progress, name: str, **how: Any
) -> tuple[Accuracy, list[np.ndarray]]:
    return measured_accuracy(
        model.SerializeToString(),
        spec,
        data,
        report=lambda done, total: progress.count(f"judging {name}", done, total),
        **how,
    )


def _judged_rounded(
    graph: onnx.ModelProto,
    fp32: Accuracy,
    reference: list[np.ndarray],
    spec: ModelSpec,
    data: Dataset,
    progress: Progress,
) -> tuple[Accuracy, list[np.ndarray], list[str]]:
    """The accuracy with weights rounded to float16, which every graph is then compared with. Refuses a change."""
    rounded, maps = _judge(graph, spec, data, progress, "fp32 with float16 weights", reference=reference)
    moved = abs(rounded.miou - fp32.miou) if np.isfinite(fp32.miou) else 0.0
    if moved > 5e-4 or rounded.agreement < 0.998:
        raise CompileError(
            f"storing FP32 weights as float16 moves mIoU by {100 * moved:.3f} points "
            f"({100 * rounded.agreement:.2f} % of pixels agree); leave --float16 out"
        )
    note = f"FP32 weights are stored as float16: mIoU {100 * fp32.miou:.3f} -> {100 * rounded.miou:.3f}"
    return replace(rounded, agreement=1.0), maps, [note]


def _ranges(graph: onnx.ModelProto, calibration: Dataset | None, ranges: Ranges | None, progress: Progress) -> Ranges:
    if ranges is not None:
        if ranges.graph_sha256 != graph_sha256(graph):
            raise CompileError("the frozen ranges belong to another graph; calibrate again with --calib FOLDER")
        progress.step(f"ranges: frozen, {ranges.images} images ({ranges.data})")
        return ranges
    if calibration is None:
        raise CompileError("INT8 needs calibration images; pass --calib FOLDER (a few hundred frames of your camera)")
    taken = ranges_from_frames(
        graph, calibration, report=lambda done, total: progress.count("calibrating", done, total)
    )
    progress.step(f"ranges: {len(taken.tensors)} tensors over {taken.images} images ({taken.data})")
    return taken


def _judged_int8(
    name: str,
    model: onnx.ModelProto,
    spec: ModelSpec,
    data: Dataset,
    fp32: Accuracy,
    reference: list[np.ndarray],
    limits: Limits,
    progress: Progress,
) -> tuple[GraphResult, GraphEntry]:
    recipe = INT8_RECIPES[name]
    target = recipe.target if isinstance(recipe, StaticInt8) else "cpu"
    accuracy, _ = _judge(model, spec, data, progress, name, float_qdq=target == "tensorrt", reference=reference)
    entry = GraphEntry(model.SerializeToString(), recipe_json(recipe), target)
    convolutions = int8_convolutions(model) if target == "tensorrt" else executed_int8_convolutions(entry.onnx)
    if not convolutions[0]:
        raise CompileError(
            f"{name}: none of {convolutions[1]} convolutions would run in INT8; please report this network"
        )
    refused = tuple(refusals(fp32, accuracy, limits))
    return GraphResult(name, len(entry.onnx), convolutions, accuracy, refused), entry


def _refuse(results: Sequence[GraphResult], notes: Sequence[str]) -> None:
    """Dynamic INT8 that fails is left out; a static graph that fails stops the compilation."""
    failed = [result for result in results if result.refused and result.name != "int8-dynamic"]
    if failed:
        reasons = "; ".join(f"{result.name}: {', '.join(result.refused)}" for result in failed)
        cause = f" ({'; '.join(notes)})" if notes else ""
        raise GateRefused(
            f"the accuracy gate refused INT8: {reasons}{cause}; calibrate on images like those of the camera, "
            "or allow more with --max-drop and --max-class-drop"
        )


def _golden(data: Dataset, onnx: bytes, spec: ModelSpec) -> Golden:
    """A few evenly spread frames at network size, with labels and FP32's answer."""
    indices = np.unique(np.linspace(0, len(data) - 1, min(GOLDEN_FRAMES, len(data))).astype(int))
    chosen = [_at_network_size(data[int(index)], spec) for index in indices]
    _, maps = measured_accuracy(onnx, spec, InMemory(chosen, "golden frames"))
    labels = [np.full(spec.size_hw, spec.ignore_id, np.uint8) if s.label is None else s.label for s in chosen]
    return Golden(np.stack([s.frame for s in chosen]), np.stack(labels), np.stack(maps))


def _at_network_size(sample: Sample, spec: ModelSpec) -> Sample:
    label = None if sample.label is None else class_map_at(sample.label, spec.size_hw)
    return Sample(sample.name, resized_frame(sample.frame, spec.size_hw), label)


def _report(results: Sequence[GraphResult], data: Dataset, limits: Limits, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "evaluation_data": data.description,
        "limits": asdict(limits),
        "notes": list(notes),
        "graphs": {
            result.name: {
                "size_bytes": result.size_bytes,
                "int8_convolutions": list(result.int8_convolutions),
                "refused": list(result.refused),
                **result.accuracy.to_json(),
            }
            for result in results
        },
    }
