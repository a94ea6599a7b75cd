"""Take pre- and post-processing out of a compiled graph again, for runtimes that have steps of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.fold import SCORES
from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, checked_onnx
from edgeseg.compiler.graph.scored import class_choice
from edgeseg.compiler.graph.storage import float32_weights
from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["unfolded_onnx"]

_NCHW = [0, 3, 1, 2]


def unfolded_onnx(serialised: bytes, name: str, size_hw: tuple[int, int], *, softmax: bool = False) -> bytes:
    """Return the network inside a compiled graph. Normalisation and quantization stay in it.

    Args:
        serialised: a graph of a bundle, FP32 or with Q/DQ nodes for TensorRT.
        name: of the graph, for messages.
        size_hw: height and width of the frames in pixels.
        softmax: give probabilities instead of logits. The largest is the same, also where the classes have sigmoids.

    Returns:
        An ONNX model from Nx3xHxW float32, BGR of 0-255, to ``scores`` NxCxHxW float32. The class of a pixel is that
        of its largest score. N is open, unless a size in the graph hangs on it. Weights are stored in float32 or int8.

    Raises:
        CompileError: the graph begins or ends in another way.
        MissingDependencyError: the package onnx is not installed.
    """
    onnx = require("onnx", "compile")
    model = checked_onnx(float32_weights(onnx.load_model_from_string(serialised)))
    graph = OnnxGraph(model.graph)
    graph.lift_constants()
    image, choice = _without_frame(graph), class_choice(graph)
    if not image or choice is None:
        raise CompileError(f"the graph {name} does not map NHWC frames to the class of NCHW floats; export another one")
    logits = choice.input[0]
    frames, channels, *low_hw = graph.shapes[logits]
    _open_batch(graph, frames)
    del model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
    graph.give(logits)
    graph.drop_unused()
    if low_hw != list(size_hw):
        graph.add_constant("scores_scales", np.array([1, 1, *np.divide(size_hw, low_hw)], np.float32))
        logits = graph.add(
            "Resize",
            [logits, "", "scores_scales"],
            "scores_at_size",
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    if softmax:
        logits = graph.add("Softmax", [logits], "probabilities", axis=1)
    graph.rename({logits: SCORES})
    del model.graph.output[:]
    graph.give(SCORES, shape=["batch", channels, *size_hw])
    kind = onnx.TensorProto.FLOAT
    model.graph.input.append(onnx.helper.make_tensor_value_info(image, kind, ["batch", 3, *size_hw]))
    try:
        return bytes(checked_onnx(model).SerializeToString())
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise CompileError(f"the graph {name} cannot take frames as NCHW: {first_line(error)[:200]}") from error


def _without_frame(graph: OnnxGraph) -> str:
    """Remove the nodes that make NCHW floats of the frame; return the tensor that they gave, or nothing."""
    nodes: list[onnx.NodeProto] = []
    tensor = graph.proto.input[0].name
    for operator in ("Cast", "Transpose"):
        readers = graph.readers(tensor)
        if [reader.op_type for reader in readers] != [operator]:
            return ""
        nodes += readers
        tensor = readers[0].output[0]
    cast, transpose = nodes
    if graph.types.get(cast.output[0]) != 1 or attribute(transpose, "perm", ()) != _NCHW:
        return ""
    graph.remove(*nodes)
    return str(tensor)


def _open_batch(graph: OnnxGraph, frames: int) -> None:
    """Let reshapes keep the first size, where it is the number of frames, whatever it is."""
    for node in graph.of("Reshape"):
        sizes = graph.value(node.input[1])
        is_batch = sizes is not None and sizes[:1] == frames and graph.shapes.get(node.input[0], [0])[:1] == [frames]
        if sizes is not None and is_batch and not attribute(node, "allowzero", 0):
            sizes[0] = 0
            graph.set_constant(node.input[1], sizes)
