"""Give a compiled graph the probabilities of its classes as a second output."""

from __future__ import annotations

from edgeseg.compiler.graph.fold import SCORES
from edgeseg.compiler.graph.onnx_graph import OnnxGraph, checked_onnx, dims_of
from edgeseg.errors import CompileError, require

__all__ = ["scored_onnx"]


def scored_onnx(serialised: bytes, name: str, classes: int) -> bytes:
    """Return a compiled graph with the output ``scores``: the softmax of what it takes the class of.

    Args:
        serialised: an ONNX model that gives ``classes`` NxHxW; it comes back as it is where it gives scores.
        name: of the graph, for messages.
        classes: how many the network has.

    Returns:
        An ONNX model with ``scores`` NxCxHxW float32 behind ``classes``.

    Raises:
        CompileError: the graph does not take the class of NxCxHxW, as that of a CPU's INT8 does not.
        MissingDependencyError: the package onnx is not installed.
    """
    onnx = require("onnx", "compile")
    model = onnx.load_model_from_string(serialised)
    if len(model.graph.output) > 1:
        return serialised
    graph = OnnxGraph(model.graph)
    choice = graph.maker(model.graph.output[0].name)
    while choice is not None and choice.op_type == "Cast":
        choice = graph.maker(choice.input[0])
    batch, height, width = dims_of(model.graph.output[0])
    axis = next((entry.i for entry in choice.attribute if entry.name == "axis"), 0) if choice is not None else 0
    if choice is None or choice.op_type != "ArgMax" or axis != 1:
        raise CompileError(
            f"the graph {name} holds no probabilities that could be taken out; predict with the graph fp32, or a "
            "model of 'edgeseg compile --scores'"
        )
    graph.add("Cast", [choice.input[0]], "logits_of_scores", to=onnx.TensorProto.FLOAT)
    graph.add("Softmax", ["logits_of_scores"], SCORES, axis=1)
    graph.give(SCORES, onnx.TensorProto.FLOAT, [batch, classes, height, width])
    return bytes(checked_onnx(model).SerializeToString())
