"""A graph for N frames at once, for several cameras on one engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.edits import lift_constants
from edgeseg.compiler.importers.torch_export import run_onnx
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["batched_onnx"]

_SHAPES = {"Reshape": 1, "Expand": 1}
_SIZES = {"Resize": 3}


def batched_onnx(model: onnx.ModelProto, frames: int) -> onnx.ModelProto:
    """A compiled graph for another number of frames, proven to give every frame the same class map.

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
    batched = onnx.ModelProto()
    batched.CopyFrom(model)
    graph = batched.graph
    lift_constants(graph)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = frames
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        index = _SHAPES.get(node.op_type, _SIZES.get(node.op_type, -1))
        from_frame = node.input[0] not in constants
        if from_frame and 0 <= index < len(node.input) and node.input[index] in constants:
            _set_first(constants[node.input[index]], frames, before)
    del graph.value_info[:]
    try:
        inferred: Any = onnx.shape_inference.infer_shapes(batched, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
        _prove_equal(model, inferred, before, frames)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise CompileError(f"the graph is fixed to {before} frames and cannot be changed to {frames}") from error
    return inferred


def _set_first(tensor: onnx.TensorProto, frames: int, before: int) -> None:
    onnx = require("onnx", "compile")
    value = np.array(onnx.numpy_helper.to_array(tensor))
    if value.ndim == 1 and value.size and value[0] == before:
        value[0] = frames
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))


def _prove_equal(one: onnx.ModelProto, other: onnx.ModelProto, before: int, frames: int) -> None:
    feed = one.graph.input[0]
    shape = [dim.dim_value for dim in feed.type.tensor_type.shape.dim][1:]
    noise = np.random.default_rng(0).integers(0, 256, (max(before, frames), *shape), np.uint8)
    count = min(before, frames)
    ours = run_onnx(other, {feed.name: noise[:frames]})[0][:count]
    theirs = run_onnx(one, {feed.name: noise[:before]})[0][:count]
    same = float(np.mean(ours == theirs))
    if same < 0.999:
        raise CompileError(f"the graph for {frames} frames differs from that for {before}: {100 * same:.2f} % agree")
