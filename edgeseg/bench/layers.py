"""Times of single layers, as the engine itself measures them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from edgeseg.engines.openvino import openvino_core, openvino_settings
from edgeseg.engines.tensorrt.engine import TensorRtEngine
from edgeseg.errors import EngineError, first_line, require
from edgeseg.files import scratch_folder

__all__ = ["LAYER_TIMERS", "LayerTime", "built_layer_times", "layer_times"]

_RUNS = 30


@dataclass(frozen=True)
class LayerTime:
    """A layer of a graph as an engine runs it, which may be several nodes in one kernel.

    Attributes:
        name: that the engine gives it.
        kind: operator, and the kernel where the engine names one.
        ms: mean time per run, in milliseconds.
    """

    name: str
    kind: str
    ms: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**asdict(self), "ms": round(self.ms, 5)}


def layer_times(engine: str, onnx: bytes, frame: np.ndarray, *, threads: int = 0, runs: int = _RUNS) -> list[LayerTime]:
    """Measure every layer of a graph, slowest first. Measuring costs time: their sum is more than an ordinary run.

    Args:
        engine: one of ``LAYER_TIMERS``.
        onnx: the graph.
        frame: NxHxWx3 uint8, its input.
        threads: CPU threads, 0 for all.
        runs: of the graph; as many go before to warm it up.

    Raises:
        EngineError: the engine says nothing of its layers, or fails.
        MissingDependencyError: it is not installed.
    """
    if engine not in LAYER_TIMERS:
        raise EngineError(f"{engine} is not asked for its layers here; {', '.join(LAYER_TIMERS)} are")
    found = LAYER_TIMERS[engine](onnx, frame, threads, runs)
    return sorted(found, key=lambda layer: -layer.ms)


def built_layer_times(engine: TensorRtEngine, *, runs: int = _RUNS) -> list[LayerTime]:
    """Measure every layer of an engine of TensorRT on the frames in its ``input``, slowest first, as ``layer_times``.

    Args:
        engine: open, with nothing in flight.
        runs: of the network; as many go before to warm it up.

    Raises:
        EngineError: TensorRT or CUDA failed, or the engine is closed.
    """
    found = [LayerTime(name, kind, ms) for name, kind, ms in engine.layers_ms(runs)]
    return sorted(found, key=lambda layer: -layer.ms)


def _onnxruntime(onnx: bytes, frame: np.ndarray, threads: int, runs: int) -> list[LayerTime]:
    ort = require("onnxruntime", "")
    with scratch_folder() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "layers")
        try:
            session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            feed = {session.get_inputs()[0].name: frame}
            for _ in range(2 * runs):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # onnxruntime raises its own types, without a public common base
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            took[name[: -len("_kernel_time")], str(event["args"]["op_name"])].append(event["dur"] / 1000)
    # A name may stand for several kernels of a run; the second half of what it took is that of the runs that count.
    return [LayerTime(name, kind, sum(times[len(times) // 2 :]) / runs) for (name, kind), times in took.items()]


def _openvino(onnx: bytes, frame: np.ndarray, threads: int, runs: int) -> list[LayerTime]:
    core = openvino_core()
    settings = {**openvino_settings(threads), "PERF_COUNT": True}
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        request = core.compile_model(core.read_model(onnx), "CPU", settings).create_infer_request()
        for run in range(2 * runs):
            request.infer([frame])
            for layer in request.profiling_info if run >= runs else ():
                if layer.real_time.total_seconds() > 0:
                    kind = f"{layer.node_type}, {layer.exec_type}"
                    took[str(layer.node_name), kind].append(layer.real_time.total_seconds() * 1000)
    except RuntimeError as error:
        raise EngineError(f"openvino failed: {first_line(error)}") from error
    return [LayerTime(name, kind, sum(times) / runs) for (name, kind), times in took.items()]


LAYER_TIMERS: Mapping[str, Callable[[bytes, np.ndarray, int, int], list[LayerTime]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""Engine -> what measures its layers: takes graph, input, threads and runs."""
