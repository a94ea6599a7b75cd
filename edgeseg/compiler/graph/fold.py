"""Pre- and post-processing into the graph: uint8 BGR frame in, uint8 class map out.

TensorRT refuses Transpose on uint8, so the cast comes first. Channel order and scale go into the weights of the first
convolutions where there are only such; the mean is subtracted in front, because a convolution's zero padding means
"mean colour" and would be wrong if the mean were folded into the bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.edits import drop_unused_initializers, lift_constants, read_names, sort_nodes, whole_factor
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
    folded = tools.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    _check_shapes(graph, spec)
    network_input, logits, *own_scores = graph.input[0].name, *(value.name for value in graph.output)
    height, width = spec.size_hw
    before = _preprocessing(graph, network_input, spec)
    after = [
        tools.helper.make_node("ArgMax", [logits], ["argmax"], "argmax", axis=1, keepdims=0),
        # TensorRT 8.5 makes uint8 of floats only; 254 class ids are exact in every float type.
        tools.helper.make_node("Cast", ["argmax"], ["classes_float"], "classes_float", to=tools.TensorProto.FLOAT),
        tools.helper.make_node("Cast", ["classes_float"], [CLASSES], "classes", to=tools.TensorProto.UINT8),
    ]
    nodes = [*before, *graph.node, *after]
    if logits not in {value.name for value in graph.value_info}:
        graph.value_info.append(graph.output[0])  # behind a loop, nobody infers its shape again
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(tools.helper.make_tensor_value_info(FRAME, tools.TensorProto.UINT8, [1, height, width, 3]))
    graph.output.append(tools.helper.make_tensor_value_info(CLASSES, tools.TensorProto.UINT8, [1, height, width]))
    if scores:
        if not own_scores:
            graph.node.append(tools.helper.make_node("Softmax", [logits], [SCORES], SCORES, axis=1))
        shape = [1, len(spec.classes), height, width]
        graph.output.append(tools.helper.make_tensor_value_info(SCORES, tools.TensorProto.FLOAT, shape))
    inferred: onnx.ModelProto = tools.shape_inference.infer_shapes(folded, strict_mode=True, data_prop=True)
    tools.checker.check_model(inferred)
    return inferred


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
    tools = require("onnx", "compile")
    reduced = tools.ModelProto()
    reduced.CopyFrom(model)
    graph = reduced.graph
    lift_constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    argmax = next(node for node in graph.node if node.op_type == "ArgMax")
    if len(graph.output) > 1:
        raise CompileError("scores are wanted at full resolution, so the class map cannot be taken before it")
    crop = makers.get(argmax.input[0])
    resize = makers.get(crop.input[0]) if crop is not None and crop.op_type == "Slice" else crop
    if resize is None or resize.op_type != "Resize":
        raise CompileError("the graph does not end in an enlargement, so there is none to leave out")
    constants = {tensor.name: tools.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if crop is not None and crop is not resize and constants.get(crop.input[1], np.ones(1)).any():
        raise CompileError("the crop behind the last enlargement does not start at 0, so it cannot be left out")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    small, large = shapes[resize.input[0]][2:], shapes[resize.output[0]][2:]
    wanted = [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim][1:]
    factor = whole_factor(resize, constants, small, large)
    if not factor or any(side % factor for side in wanted):
        raise CompileError(f"the last enlargement is from {small} to {large}, cropped to {wanted}: no whole factor")
    height, width = (side // factor for side in wanted)
    argmax.input[0] = resize.input[0]
    if [height, width] != small:
        for name, value in (("low_start", [0, 0]), ("low_end", [height, width]), ("low_axes", [2, 3])):
            _add_constant(graph, name, np.array(value, np.int64))
        cropped = tools.helper.make_node(
            "Slice", [resize.input[0], "low_start", "low_end", "low_axes"], ["low_logits"], "low_logits"
        )
        graph.node.append(cropped)
        argmax.input[0] = "low_logits"
    for node in [resize] if crop is resize else [crop, resize]:
        graph.node.remove(node)
    for side, dim in zip((height, width), graph.output[0].type.tensor_type.shape.dim[1:]):
        dim.dim_value = side
    drop_unused_initializers(graph)
    sort_nodes(graph)
    del graph.value_info[:]
    inferred: onnx.ModelProto = tools.shape_inference.infer_shapes(reduced, strict_mode=True, data_prop=True)
    tools.checker.check_model(inferred)
    return inferred


def _check_shapes(graph: onnx.GraphProto, spec: ModelSpec) -> None:
    height, width = spec.size_hw
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in (graph.input[0], *graph.output)]
    expected = [[1, 3, height, width], *[[1, len(spec.classes), height, width]] * len(graph.output)]
    if len(graph.input) != 1 or shapes != expected:
        raise CompileError(f"the graph maps {shapes[0]} to {shapes[1]}, the spec needs {expected[0]} to {expected[1]}")
    if [value.name for value in graph.output[1:]] not in ([], [SCORES]):
        raise CompileError(f"the second output is {graph.output[1].name!r}; only {SCORES!r} may follow the logits")


def _preprocessing(graph: onnx.GraphProto, network_input: str, spec: ModelSpec) -> list[onnx.NodeProto]:
    """Nodes from ``frame`` to the network's input; may rewrite the first convolutions' weights."""
    onnx = require("onnx", "compile")
    mean = 255 * np.asarray(spec.preprocess.mean, np.float32)
    std = 255 * np.asarray(spec.preprocess.std, np.float32)
    reverse = spec.preprocess.channel_order == "RGB"
    if reverse:
        mean, std = mean[::-1], std[::-1]
    in_weights = _fold_into_weights(graph, network_input, std, reverse)
    centred = network_input if in_weights else "frame_centred"
    nodes = [
        onnx.helper.make_node("Cast", [FRAME], ["frame_float"], "frame_float", to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["frame_float"], ["frame_nchw"], "frame_nchw", perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Sub", ["frame_nchw", "frame_mean"], [centred], "frame_centred"),
    ]
    _add_constant(graph, "frame_mean", mean.reshape(1, 3, 1, 1))
    if not in_weights:
        _add_constant(graph, "frame_std", std.reshape(1, 3, 1, 1))
        scaled = "frame_scaled" if reverse else network_input
        nodes.append(onnx.helper.make_node("Div", [centred, "frame_std"], [scaled], "frame_scaled"))
        if reverse:
            _add_constant(graph, "frame_order", np.array([2, 1, 0], np.int64))
            nodes.append(
                onnx.helper.make_node("Gather", [scaled, "frame_order"], [network_input], "frame_order", axis=1)
            )
    return nodes


def _fold_into_weights(graph: onnx.GraphProto, network_input: str, std: np.ndarray, reverse: bool) -> bool:
    """Scale and reorder the input channels of all convolutions that read the input; False if others read it too."""
    onnx = require("onnx", "compile")
    readers = [node for node in graph.node if network_input in read_names(node)]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    users = [name for node in graph.node for name in read_names(node)]
    if not all(n.op_type == "Conv" and n.input[1] in weights and users.count(n.input[1]) == 1 for n in readers):
        return False
    if any(weights[node.input[1]].dims[1] != 3 for node in readers):
        return False
    for node in readers:
        tensor = weights[node.input[1]]
        weight = onnx.numpy_helper.to_array(tensor)
        ordered = weight[:, ::-1] if reverse else weight
        scaled = np.ascontiguousarray(ordered / std.reshape(1, 3, 1, 1)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
    return True


def _add_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    onnx = require("onnx", "compile")
    graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
