"""Give a compiled graph the probabilities of its classes as a second output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.fold import SCORES
from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, checked_onnx, dims_of
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["class_choice", "scored_onnx"]


def scored_onnx(serialised: bytes, name: str, classes: int, *, sigmoids: bool = False) -> bytes:
    """Return a compiled graph with the output ``scores``: the softmax of what it takes the class of, or its sigmoids.

    Args:
        serialised: an ONNX model that gives ``classes`` NxHxW; it comes back as it is where it gives scores.
        name: of the graph, for messages.
        classes: how many the network has.
        sigmoids: of all channels but the first, which then has what the largest of them leaves.

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
    choice = class_choice(graph)
    batch, height, width = dims_of(model.graph.output[0])
    if choice is None:
        raise CompileError(
            f"the graph {name} holds no probabilities that could be taken out; predict with the graph fp32, or a "
            "model of 'edgeseg compile --scores'"
        )
    graph.add("Cast", [choice.input[0]], "logits_of_scores", to=onnx.TensorProto.FLOAT)
    if sigmoids:
        _add_sigmoids(graph)
    else:
        graph.add("Softmax", ["logits_of_scores"], SCORES, axis=1)
    graph.give(SCORES, onnx.TensorProto.FLOAT, [batch, classes, height, width])
    return bytes(checked_onnx(model).SerializeToString())


def class_choice(graph: OnnxGraph) -> onnx.NodeProto | None:
    """Return the ArgMax over the channels that makes a compiled graph's class map; None where there is no such node."""
    choice = graph.maker(graph.proto.output[0].name)
    while choice is not None and choice.op_type == "Cast":
        choice = graph.maker(choice.input[0])
    is_ours = choice is not None and choice.op_type == "ArgMax" and attribute(choice, "axis", 0) == 1
    return choice if is_ours else None


def _add_sigmoids(graph: OnnxGraph) -> None:
    """Put the sigmoids of all channels but the first, and before them what the largest leaves, behind the logits."""
    for name, value in (("starts", 1), ("ends", np.iinfo(np.int32).max), ("axes", 1)):
        graph.add_constant(f"labels_{name}", np.array([value], np.int64))
    graph.add("Slice", ["logits_of_scores", "labels_starts", "labels_ends", "labels_axes"], "logits_of_labels")
    each = graph.add("Sigmoid", ["logits_of_labels"], "scores_of_labels")
    largest = graph.add("ReduceMax", [each], "score_of_any_label", axes=[1], keepdims=1)
    one = graph.add_constant("whole_score", np.float32(1))
    graph.add("Concat", [graph.add("Sub", [one, largest], "score_of_no_label"), each], SCORES, axis=1)
