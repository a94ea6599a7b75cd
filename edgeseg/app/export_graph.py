"""Write a model for runtimes that take pixels as floats and give scores: DeepStream's nvinfer, ncnn and others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from edgeseg.app.export_config import ExportDeepstreamConfig, ExportRuntimeConfig
from edgeseg.app.models import bundle_or_default
from edgeseg.bundle import Bundle, GraphEntry
from edgeseg.engines.golden import FLOAT_AGREEMENT, SelfTest, golden_of, self_test_of
from edgeseg.engines.ort import OrtEngine
from edgeseg.errors import EngineError, GateRefused
from edgeseg.recipes import FP16, FP32, INT8_TENSORRT
from edgeseg.resizing import class_map_at
from edgeseg.serving.deepstream import CONFIG, colours, deepstream_files, nvinfer_class_maps, pipeline
from edgeseg.serving.pnnx import RUNTIMES
from edgeseg.serving.repository import write_files

__all__ = ["ExportedGraph", "export_deepstream", "export_runtime"]


@dataclass(frozen=True)
class ExportedGraph:
    """What was written.

    Attributes:
        model: the bundle's name, with the reason why it was taken.
        graph: of the bundle.
        precision: in which it is to run: ``"int8"``, ``"fp16"`` or ``"fp32"``.
        folder: that was written.
        files: paths below the folder.
        agreement: share of the golden frames' pixels that have the class of the bundle's graph.
        frames: number of golden frames.
        next: a command that runs it, or nothing.
    """

    model: str
    graph: str
    precision: str
    folder: Path
    files: tuple[str, ...]
    agreement: float
    frames: int
    next: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**vars(self), "files": list(self.files), "folder": str(self.folder)}


def export_deepstream(config: ExportDeepstreamConfig) -> ExportedGraph:
    """Write a graph and a configuration for DeepStream's nvinfer, proven with its steps done in NumPy.

    Raises:
        ForeignFileError: a file of the folder is there already.
        GateRefused: nvinfer's steps would give other classes than the bundle's graph.
        EdgesegError: the bundle cannot be read, or has no such graph or no golden frames.
    """
    from edgeseg.compiler.graph.unfolded import unfolded_onnx

    bundle, model = bundle_or_default(config.model, config.require_signature)
    precision = config.precision
    if precision == "auto":
        precision = "int8" if INT8_TENSORRT in bundle.graphs else FP16
    graph = INT8_TENSORRT if precision == "int8" else FP32
    entry, spec, golden = _graph(bundle, graph), bundle.spec, golden_of(bundle)
    onnx = unfolded_onnx(entry.onnx, graph, spec.size_hw, softmax=True)
    test = _proven(
        nvinfer_class_maps(onnx, golden.frames, config.batch),
        _own_class_maps(entry, graph, golden.frames),
        spec.classes,
        FLOAT_AGREEMENT[FP32],
        "the graph for DeepStream",
    )
    files = deepstream_files(spec, onnx, precision, config.batch)
    write_files(config.folder, files, overwrite=config.overwrite)
    command = pipeline(spec, config.folder / CONFIG, config.batch)
    return ExportedGraph(
        model, graph, precision, config.folder, tuple(files), test.agreement, test.frames, next=command
    )


def export_runtime(name: str, config: ExportRuntimeConfig) -> ExportedGraph:
    """Write a model of another runtime, proven with that runtime on this CPU.

    Args:
        name: of ``RUNTIMES``.
        config: of the export.

    Raises:
        ForeignFileError: a file of the folder is there already.
        GateRefused: the runtime gives other classes than the bundle's FP32 graph.
        MissingDependencyError: the runtime or its converter is not installed.
        EdgesegError: the bundle cannot be read, has no golden frames, or its graph cannot be converted.
    """
    from edgeseg.compiler.graph.unfolded import unfolded_onnx

    runtime = RUNTIMES[name]
    bundle, model = bundle_or_default(config.model, config.require_signature)
    entry, spec, golden = _graph(bundle, FP32), bundle.spec, golden_of(bundle)
    made = runtime.convert(unfolded_onnx(entry.onnx, FP32, spec.size_hw), golden.frames)
    test = _proven(
        made.classes,
        _own_class_maps(entry, FP32, golden.frames),
        spec.classes,
        {**FLOAT_AGREEMENT, **bundle.report.self_test}[runtime.precision],
        f"the model of {runtime.title}",
    )
    files = {**made.files, "classes.txt": colours(spec)}
    write_files(config.folder, files, overwrite=config.overwrite)
    return ExportedGraph(model, FP32, runtime.precision, config.folder, tuple(files), test.agreement, test.frames)


def _proven(found: np.ndarray, expected: np.ndarray, classes: Sequence[str], limit: float, what: str) -> SelfTest:
    """Compare what another runtime makes of the golden frames with the class maps of the bundle's own graph.

    Raises:
        GateRefused: the maps are of another size, too few pixels agree, or a class is lost.
    """
    if found.shape != expected.shape:
        raise GateRefused(f"{what} gives class maps of {found.shape}, not {expected.shape}; nothing was written")
    test = self_test_of(found, expected, classes, limit)
    if not test.passed:
        raise GateRefused(f"{what} has {test.describe('the graph of the bundle')}; nothing was written")
    return test


def _graph(bundle: Bundle, name: str) -> GraphEntry:
    if name not in bundle.graphs:
        raise EngineError(f"the bundle has no graph {name!r}; it has {', '.join(bundle.graphs)}")
    return bundle.graphs[name]


def _own_class_maps(entry: GraphEntry, name: str, frames: np.ndarray) -> np.ndarray:
    """NxHxW class ids of a graph of the bundle, in the arithmetic of TensorRT."""
    with OrtEngine(entry.onnx, name, float_qdq=True) as engine:
        at_once = len(engine.input)
        maps = [engine.infer(np.repeat(frame[None], at_once, 0))[0].copy() for frame in frames]
    return np.stack([class_map_at(classes, frames.shape[1:3]) for classes in maps])
