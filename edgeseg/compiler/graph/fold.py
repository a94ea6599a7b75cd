"""Pre- and post-processing into the graph: uint8 BGR frame in, uint8 class map out.

TensorRT refuses Transpose on uint8, so the cast comes first. Channel order and scale go into the weights of the first
convolutions where there are only such; the mean is subtracted in front, because a convolution's zero padding means
"mean colour" and would be wrong if the mean were folded into the bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, checked_onnx, copied_onnx, dims_of, whole_factor
from edgeseg.errors import CompileError, require
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["CLASSES", "FRAME", "SCORES", "argmax_first_onnx", "folded_onnx"]

FRAME, CLASSES, SCORES = "frame", "classes", "scores"


def folded_onnx(model: onnx.ModelProto, spec: ModelSpec, *, scores: bool = False) -> onnx.ModelProto:
    """Wrap a network graph (float NCHW -> logits) into the graph that runs.

    Args:
        model: one float32 input 1x3xHxW, one float32 output 1xCxHxW; a second one of that shape is its scores.
        spec: size and preprocessing.
        scores: add the output ``scores``, 1xCxHxW float32: the probability of every class, softmax where the graph
            has no second output.

    Returns:
        Input ``frame`` 1xHxWx3 uint8 BGR, output ``classes`` 1xHxW uint8.

    Raises:
        CompileError: the graph's input or output does not fit the spec.
    """
    tools = require("onnx", "compile")
    kinds = tools.TensorProto
    folded = copied_onnx(model)
    _check_shapes(folded.graph, spec)
    graph, ends = OnnxGraph(folded.graph), folded.graph
    network_input, logits, *own_scores = ends.input[0].name, *(value.name for value in ends.output)
    height, width = spec.size_hw
    _preprocess(graph, network_input, spec)
    graph.add("ArgMax", [logits], "argmax", axis=1, keepdims=0)
    # TensorRT 8.5 makes uint8 of floats only; 254 class ids are exact in every float type.
    graph.add("Cast", ["argmax"], "classes_float", to=kinds.FLOAT)
    graph.add("Cast", ["classes_float"], CLASSES, to=kinds.UINT8)
    if logits not in {value.name for value in ends.value_info}:
        ends.value_info.append(ends.output[0])  # behind a loop, nobody infers its shape again
    del ends.input[:], ends.output[:]
    ends.input.append(tools.helper.make_tensor_value_info(FRAME, kinds.UINT8, [1, height, width, 3]))
    graph.give(CLASSES, kinds.UINT8, [1, height, width])
    if scores:
        if not own_scores:
            graph.add("Softmax", [logits], SCORES, axis=1)
        graph.give(SCORES, kinds.FLOAT, [1, len(spec.classes), height, width])
    return checked_onnx(folded)


def argmax_first_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the class before the last enlargement instead of after it: the class map comes out at lower resolution.

    Bilinear enlargement of C float maps is often a tenth of a network's time; ragged edges are the price, which the
    gate judges.

    Args:
        model: a folded graph that ends in a bilinear Resize by a whole factor, maybe a crop, and ArgMax.

    Returns:
        The same graph with ``classes`` 1xhxw, h and w smaller by that factor.

    Raises:
        CompileError: the graph ends otherwise, or the crop does not fit the factor.
    """
    reduced = copied_onnx(model)
    graph = OnnxGraph(reduced.graph)
    graph.lift_constants()
    argmax = graph.of("ArgMax")[0]
    if len(reduced.graph.output) > 1:
        raise CompileError("scores are wanted at full resolution, so the class map cannot be taken before it")
    crop = graph.maker(argmax.input[0])
    resize = graph.maker(crop.input[0]) if crop is not None and crop.op_type == "Slice" else crop
    if resize is None or resize.op_type != "Resize":
        raise CompileError("the graph does not end in an enlargement, so there is none to leave out")
    start = graph.value(crop.input[1]) if crop is not None and crop is not resize else np.zeros(1)
    if start is None or start.any():
        raise CompileError("the crop behind the last enlargement does not start at 0, so it cannot be left out")
    small, large = graph.shapes[resize.input[0]][2:], graph.shapes[resize.output[0]][2:]
    wanted = dims_of(reduced.graph.output[0])[1:]
    factor = whole_factor(graph, resize)
    if not factor or any(side % factor for side in wanted):
        raise CompileError(f"the last enlargement is from {small} to {large}, cropped to {wanted}: no whole factor")
    height, width = (side // factor for side in wanted)
    argmax.input[0] = resize.input[0]
    if [height, width] != small:
        for name, value in (("low_start", [0, 0]), ("low_end", [height, width]), ("low_axes", [2, 3])):
            graph.add_constant(name, np.array(value, np.int64))
        argmax.input[0] = graph.add("Slice", [resize.input[0], "low_start", "low_end", "low_axes"], "low_logits")
    graph.remove(*[resize] if crop is resize else [crop, resize])
    for side, dim in zip((height, width), reduced.graph.output[0].type.tensor_type.shape.dim[1:]):
        dim.dim_value = side
    graph.drop_unused_constants()
    graph.sort()
    del reduced.graph.value_info[:]
    return checked_onnx(reduced)


def _check_shapes(graph: onnx.GraphProto, spec: ModelSpec) -> None:
    height, width = spec.size_hw
    shapes = [dims_of(value) for value in (graph.input[0], *graph.output)]
    expected = [[1, 3, height, width], *[[1, len(spec.classes), height, width]] * len(graph.output)]
    if len(graph.input) != 1 or shapes != expected:
        raise CompileError(f"the graph maps {shapes[0]} to {shapes[1]}, the spec needs {expected[0]} to {expected[1]}")
    if [value.name for value in graph.output[1:]] not in ([], [SCORES]):
        raise CompileError(f"the second output is {graph.output[1].name!r}; only {SCORES!r} may follow the logits")


def _preprocess(graph: OnnxGraph, network_input: str, spec: ModelSpec) -> None:
    """Put nodes from ``frame`` to the network's input in front; may rewrite the first convolutions' weights."""
    std, mean = spec.preprocess.scale_and_offset()
    reverse = spec.preprocess.channel_order == "RGB"
    if reverse:
        mean, std = mean[::-1], std[::-1]
    in_weights = _fold_into_weights(graph, network_input, std, reverse)
    centred = network_input if in_weights else "frame_centred"
    graph.add("Cast", [FRAME], "frame_float", at=0, to=require("onnx", "compile").TensorProto.FLOAT)
    graph.add("Transpose", ["frame_float"], "frame_nchw", at=1, perm=[0, 3, 1, 2])
    graph.add("Sub", ["frame_nchw", "frame_mean"], centred, name="frame_centred", at=2)
    graph.add_constant("frame_mean", mean.reshape(1, 3, 1, 1))
    if not in_weights:
        graph.add_constant("frame_std", std.reshape(1, 3, 1, 1))
        scaled = "frame_scaled" if reverse else network_input
        graph.add("Div", [centred, "frame_std"], scaled, name="frame_scaled", at=3)
        if reverse:
            graph.add_constant("frame_order", np.array([2, 1, 0], np.int64))
            graph.add("Gather", [scaled, "frame_order"], network_input, name="frame_order", at=4, axis=1)


def _fold_into_weights(graph: OnnxGraph, network_input: str, std: np.ndarray, reverse: bool) -> bool:
    """Scale and reorder the input channels of all convolutions that read the input; False if others read it too."""
    readers = graph.readers(network_input)
    if not all(node.op_type == "Conv" and len(graph.readers(node.input[1])) == 1 for node in readers):
        return False
    weights = {node.input[1]: graph.value(node.input[1]) for node in readers}
    if any(weight is None or weight.shape[1] != 3 for weight in weights.values()):
        return False
    for name, weight in weights.items():
        assert weight is not None
        ordered = weight[:, ::-1] if reverse else weight
        graph.set_constant(name, np.ascontiguousarray(ordered / std.reshape(1, 3, 1, 1)).astype(np.float32))
    return True
