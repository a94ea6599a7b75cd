"""A graph for N frames at once, for several cameras on one engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, checked_onnx, copied_onnx, dims_of, input_name
from edgeseg.compiler.graph.run import run_onnx
from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["batched_onnx"]

_SIZE_INPUTS = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operator -> the input that holds the sizes of what it gives."""


def batched_onnx(model: onnx.ModelProto, frames: int) -> onnx.ModelProto:
    """Make a compiled graph for another number of frames, proven to give every frame the same class map.

    Args:
        model: input NxHxWx3 uint8 and outputs of N maps, N fixed.
        frames: the new N.

    Raises:
        CompileError: a constant in the graph depends on N in a way that is not understood.
    """
    onnx = require("onnx", "compile")
    before = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if frames == before:
        return model
    batched = copied_onnx(model)
    graph = OnnxGraph(batched.graph)
    graph.lift_constants()
    for value in (*batched.graph.input, *batched.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = frames
    for node in graph.of(*_SIZE_INPUTS):
        sizes = input_name(node, _SIZE_INPUTS[node.op_type])
        if node.input[0] not in graph.constants and sizes in graph.constants:
            _set_first(graph, sizes, frames, before)
    del batched.graph.value_info[:]
    try:
        inferred = checked_onnx(batched)
        _prove_equal(model, inferred, before, frames)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise CompileError(f"the graph is fixed to {before} frames and cannot be changed to {frames}") from error
    return inferred


def _set_first(graph: OnnxGraph, sizes: str, frames: int, before: int) -> None:
    value = graph.value(sizes)
    if value is not None and value.ndim == 1 and value.size and value[0] == before:
        value[0] = frames
        graph.set_constant(sizes, value)


def _prove_equal(one: onnx.ModelProto, other: onnx.ModelProto, before: int, frames: int) -> None:
    feed = one.graph.input[0]
    noise = np.random.default_rng(0).integers(0, 256, (frames, *dims_of(feed)[1:]), np.uint8)
    try:
        ours = run_onnx(other, {feed.name: noise})[0]
    except Exception as error:  # ONNX Runtime raises many types, without a common base
        raise CompileError(
            f"the graph is fixed to {before} frames and does not run with {frames}: {first_line(error)[:200]}"
        ) from error
    theirs = np.stack([run_onnx(one, {feed.name: np.stack([frame] * before)})[0][0] for frame in noise])
    same = float(np.mean(ours == theirs))
    if same < 0.999:
        raise CompileError(f"the graph for {frames} frames differs from that for {before}: {100 * same:.2f} % agree")
