"""Which layers lose the most in INT8: each is quantized alone, and what that does to the logits is measured."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from edgeseg.compiler.graph.onnx_graph import with_outputs
from edgeseg.compiler.graph.tensors import graph_sha256
from edgeseg.compiler.quantize.qdq import layer_names, tensorrt_qdq_onnx
from edgeseg.compiler.step_cache import StepCache
from edgeseg.errors import CompileError, require
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.report_data import LayerSensitivity

if TYPE_CHECKING:
    import onnx

__all__ = ["SENSITIVITY_FRAMES", "layer_sensitivities"]

SENSITIVITY_FRAMES = 8
"""Calibration frames, evenly spread, on which layers are compared."""


def layer_sensitivities(
    graph: onnx.ModelProto,
    ranges: Ranges,
    frames: NetworkFrames,
    *,
    cache: StepCache = StepCache(),
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerSensitivity]:
    """Rank layers by the error that their INT8 alone causes, worst first.

    Judged with TensorRT's arithmetic (Q/DQ in float), because it has no saturation that would hide the rounding.

    Args:
        graph: the folded FP32 graph.
        ranges: of that graph.
        frames: calibration images; ``SENSITIVITY_FRAMES`` of them are used.
        cache: where finished layers are kept.
        report: called with (layers done, layers in all).
    """
    names = layer_names(graph)
    inputs = [frame[None] for frame in frames.evenly_spread(SENSITIVITY_FRAMES)]
    key = sensitivity_key(graph, ranges, inputs)
    known = {} if (entry := cache.load(*key)) is None else dict(zip(entry["layers"].tolist(), entry["errors"].tolist()))
    expected = logits(graph, inputs)
    for done, name in enumerate(names, start=1):
        if name not in known:
            alone = tensorrt_qdq_onnx(graph, ranges, float_layers=set(names) - {name})
            known[name] = relative_error(logits(alone, inputs), expected)
            if done % 10 == 0 or done == len(names):
                cache.save({"layers": np.array(list(known)), "errors": np.array(list(known.values()))}, *key)
        report(done, len(names))
    ranked = sorted(names, key=lambda name: -known[name])
    return [LayerSensitivity(name, known[name], -10 * float(np.log10(max(known[name], 1e-12)))) for name in ranked]


def sensitivity_key(graph: onnx.ModelProto, ranges: Ranges, inputs: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Everything that the ranking depends on."""
    seen = hashlib.sha256(b"".join(frame.tobytes() for frame in inputs)).hexdigest()
    taken = hashlib.sha256(json.dumps(ranges.to_json(), sort_keys=True).encode()).hexdigest()
    return ("sensitivity", graph_sha256(graph), taken, seen)


def logits(model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute what ArgMax reads (NxCxHxW float32) for every input frame, Q/DQ executed in float."""
    ort = require("onnxruntime", "")
    source = next((node.input[0] for node in model.graph.node if node.op_type == "ArgMax"), None)
    if source is None:
        raise CompileError("the graph has no ArgMax, so layers cannot be compared by their logits")
    cut = with_outputs(model, [source], only=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in run_onnx
    session = ort.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = model.graph.input[0].name
    return [np.asarray(session.run([source], {feed: frame})[0]) for frame in inputs]


def relative_error(values: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Mean squared difference over the variance of what was expected."""
    noise = sum(float(np.square(ours - theirs).sum(dtype=np.float64)) for ours, theirs in zip(values, expected))
    signal = sum(float(np.square(theirs - theirs.mean()).sum(dtype=np.float64)) for theirs in expected)
    return noise / max(signal, 1e-12)
