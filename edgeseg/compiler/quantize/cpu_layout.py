"""The float graph as CPU engines run it fastest: the same arithmetic in other operators, before Q/DQ goes in.

Measured on ONNX Runtime 1.32 and OpenVINO 2026.4 (benchmarks/cpu-engines.md):

- ONNX Runtime subtracts a mean of shape 1x3x1x1 three pixels' channels at a time (2.7 ms at 512x512); a whole row of
  means in front of the Transpose is the same subtraction (0.3 ms).
- Both enlarge C float maps by scalar code and look for the maximum afterwards. The pixels between four others are
  always the same s x s mixtures of them, so the enlargement is one 3x3 convolution with s x s outputs per class; the
  class is taken per mixture, and only class ids are put in order.
- OpenVINO's ArgMax over the channels of a channels-last tensor is scalar: eight times slower than over flat maps.
- ONNX Runtime's INT8 convolution with 11 output channels takes twice the time of one with 16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import (
    OnnxGraph,
    attribute,
    checked_onnx,
    copied_onnx,
    dims_of,
    input_name,
    whole_factor,
)
from edgeseg.compiler.quantize.qdq_editor import ENLARGEMENT
from edgeseg.ranges import Ranges

if TYPE_CHECKING:
    import onnx

__all__ = ["cpu_layout_onnx"]


def cpu_layout_onnx(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Write a graph in the operators that CPU engines run fastest.

    Args:
        model: the folded FP32 graph for one frame.
        ranges: of that graph; a tensor that keeps its name keeps its range.

    Returns:
        A graph with the same class map.
    """
    laid_out = copied_onnx(model)
    graph = OnnxGraph(laid_out.graph)
    graph.lift_constants()
    _subtract_rows(graph)
    _take_classes_flat(graph, ranges)
    graph.drop_unused_constants()
    graph.sort()
    del laid_out.graph.value_info[:]
    return checked_onnx(laid_out)


def _subtract_rows(graph: OnnxGraph) -> None:
    """Cast, Transpose, Sub -> Cast, Sub by a row of means, Transpose."""
    subtract = next((node for node in graph.of("Sub") if "frame_mean" in node.input), None)
    transpose = graph.maker(subtract.input[0], "Transpose") if subtract is not None else None
    mean, width = graph.value("frame_mean"), dims_of(graph.proto.input[0])[2]
    if subtract is None or transpose is None or mean is None:
        return
    graph.set_constant("frame_mean", np.tile(mean.reshape(1, 1, 1, -1), (1, 1, width, 1)))
    centred = subtract.output[0]
    subtract.input[0], subtract.output[0] = transpose.input[0], "frame_rows_centred"
    transpose.input[0], transpose.output[0] = subtract.output[0], centred


def _take_classes_flat(graph: OnnxGraph, ranges: Ranges) -> None:
    """The tail behind the last convolution: [Resize,] [Slice,] ArgMax, Casts."""
    argmax = graph.of("ArgMax")[0]
    logits = argmax.input[0]
    if len(graph.proto.output) > 1 or len(graph.readers(logits)) > 1:
        return
    crop = graph.makers[logits]
    tail = [argmax, *_behind(graph, argmax.output[0])]
    if (
        crop.op_type == "Slice"
        and _from_origin(graph, crop)
        and (graph.shapes[logits][1] == graph.shapes[crop.input[0]][1])
    ):
        tail.append(crop)
        logits = crop.input[0]
    factor = _enlargement(graph, graph.makers[logits])
    if factor:
        tail.append(graph.makers[logits])
        uncropped = _mixed_classes(graph, graph.makers[logits].input[0], factor)
    else:
        uncropped = _flat_classes(graph, logits, ranges)
    graph.remove(*tail)
    _crop(graph, uncropped)


def _from_origin(graph: OnnxGraph, crop: onnx.NodeProto) -> bool:
    """Whether a Slice only cuts at the ends: it starts at 0 in steps of 1."""
    start, steps = graph.value(crop.input[1]), graph.value(input_name(crop, 4))
    if start is None or start.any():
        return False
    return bool((steps == 1).all()) if steps is not None else not input_name(crop, 4)


def _crop(graph: OnnxGraph, uncropped: str) -> None:
    """From 1xHxW class ids to the graph's output, smaller at the bottom and right."""
    output = graph.proto.output[0]
    ends = _integers(graph, "classes_end", *dims_of(output)[1:])
    start, axes = _integers(graph, "classes_start", 0, 0), _integers(graph, "classes_axes", 1, 2)
    graph.add("Slice", [uncropped, start, ends, axes], output.name)


def _behind(graph: OnnxGraph, tensor: str) -> list[onnx.NodeProto]:
    """The Casts from ArgMax to the output."""
    readers = graph.readers(tensor)
    return [] if not readers else [readers[0], *_behind(graph, readers[0].output[0])]


def _enlargement(graph: OnnxGraph, node: onnx.NodeProto) -> int:
    """The whole factor of a bilinear Resize with half-pixel centres that nothing else reads; 0 for anything else."""
    if node.op_type != "Resize" or attribute(node, "mode", "nearest") != "linear":
        return 0
    if attribute(node, "coordinate_transformation_mode", "half_pixel") not in ("half_pixel", "pytorch_half_pixel"):
        return 0
    small, large = graph.shapes[node.input[0]], graph.shapes[node.output[0]]
    if len(graph.readers(node.output[0])) > 1 or len(small) != 4 or min(small) < 1 or min(small[2:]) < 2:
        return 0  # a loop in front can hide the shape
    return whole_factor(graph, node) if small[:2] == large[:2] else 0


def _mixed_classes(graph: OnnxGraph, low: str, factor: int) -> str:
    """Class ids 1x(H factor)x(W factor) of the maps ``low``, 1xCxHxW, enlarged bilinearly."""
    _, classes, height, width = graph.shapes[low]
    planes = graph.add("Reshape", [low, _integers(graph, "planes_shape", -1, 1, height, width)], "class_planes")
    pads = _integers(graph, "planes_pads", 0, 0, 1, 1, 0, 0, 1, 1)
    padded = graph.add("Pad", [planes, pads], "class_planes_padded", mode="edge")
    weights = graph.add_constant("mixture_weights", _mixture_weights(factor))
    mixed = graph.add("Conv", [padded, weights], ENLARGEMENT, kernel_shape=[3, 3])
    last = graph.add("Transpose", [mixed], "mixtures_last", perm=[0, 2, 3, 1])
    shape = _integers(graph, "mixtures_shape", 1, classes, height, width, factor**2)
    found = _argmax(graph, graph.add("Reshape", [last, shape], "mixtures_of_classes"))
    shape = _integers(graph, "pixels_shape", 1, height, width, factor, factor)
    pixels = graph.add("Reshape", [found, shape], "classes_of_pixels")
    rows = graph.add("Transpose", [pixels], "classes_in_rows", perm=[0, 1, 3, 2, 4])
    shape = _integers(graph, "rows_shape", 1, height * factor, width * factor)
    return graph.add("Reshape", [rows, shape], "classes_uncropped")


def _mixture_weights(factor: int) -> np.ndarray:
    """(factor^2)x1x3x3 float32: how each pixel of an enlarged pixel mixes it with its neighbours."""
    taps = np.zeros((factor, 3))
    for index in range(factor):
        place = (index + 0.5) / factor + 0.5
        before = int(place)
        taps[index, before], taps[index, before + 1] = 1 - (place - before), place - before
    both = np.einsum("ai,bj->abij", taps, taps)
    return np.asarray(both.reshape(factor**2, 1, 3, 3), np.float32)


def _flat_classes(graph: OnnxGraph, logits: str, ranges: Ranges) -> str:
    """Class ids 1xHxW of the maps ``logits``, 1xCxHxW."""
    _, _, height, width = graph.shapes[logits]
    _widen(graph, logits, ranges)
    flat = graph.add("Reshape", [logits, _integers(graph, "flat_shape", 0, 0, -1)], "flat_logits")
    shape = _integers(graph, "rows_shape", 1, height, width)
    return graph.add("Reshape", [_argmax(graph, flat), shape], "classes_uncropped")


def _integers(graph: OnnxGraph, name: str, *values: int) -> str:
    return graph.add_constant(name, np.array(values, np.int64))


def _argmax(graph: OnnxGraph, maps: str) -> str:
    largest = graph.add("ArgMax", [maps], "argmax", axis=1, keepdims=0)
    return graph.add("Cast", [largest], "argmax_uint8", to=2)


def _widen(graph: OnnxGraph, logits: str, ranges: Ranges) -> None:
    """Give the convolution that makes the logits a multiple of 8 channels, at least 16; the new ones never win."""
    convolution = graph.makers[logits]
    if convolution.op_type != "Conv" or len(convolution.input) < 3 or logits not in ranges.tensors:
        return
    names = list(convolution.input[1:])
    weight, bias = (graph.value(name) for name in names)
    if weight is None or bias is None or any(len(graph.readers(name)) > 1 for name in names):
        return
    classes, (low, high) = len(weight), ranges.of(logits)
    more = max(16, classes + -classes % 8) - classes
    never = np.full(more, low - 10 * (high - low) - 1, bias.dtype)
    graph.set_constant(names[0], np.concatenate([weight, np.zeros((more, *weight.shape[1:]), weight.dtype)]))
    graph.set_constant(names[1], np.concatenate([bias, never]))
