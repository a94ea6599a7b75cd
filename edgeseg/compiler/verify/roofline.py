"""What each layer of a graph costs: multiply-adds, bytes, and the least time a board could need for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Collection, Sequence

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph
from edgeseg.compiler.quantize.qdq_editor import layer_names
from edgeseg.device.specifications import Board

if TYPE_CHECKING:
    import onnx

__all__ = ["LayerCost", "layer_costs", "roofline_ms"]


@dataclass(frozen=True)
class LayerCost:
    """One convolution or matrix product.

    Attributes:
        name: its output tensor.
        macs: multiply-adds for one frame.
        elements: values read and written: input, output and weights.
    """

    name: str
    macs: int
    elements: int


def layer_costs(model: onnx.ModelProto) -> list[LayerCost]:
    """List the layers of a float graph with inferred shapes, in graph order."""
    graph = OnnxGraph(model.graph)
    return [_cost(graph.makers[name], graph.shapes) for name in layer_names(model)]


def roofline_ms(costs: Sequence[LayerCost], board: Board, float_layers: Collection[str]) -> float:
    """Return the least time for all layers at a board's peak rates, ms per frame (Williams et al. 2009).

    A layer takes the longer of its arithmetic and its memory traffic; INT8 layers at the INT8 rate and one byte per
    value, float layers at the FP16 rate and two. Kernels reach a fraction of it: a bound to compare graphs by, no
    forecast.
    """
    seconds = 0.0
    for cost in costs:
        is_float = cost.name in float_layers
        rate = 1e12 * (board.fp16_tflops if is_float else board.int8_tops)
        traffic = cost.elements * (2 if is_float else 1) / (1e9 * board.memory_gb_s)
        seconds += max(2 * cost.macs / rate, traffic)
    return 1e3 * seconds


def _cost(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> LayerCost:
    data, weight, output = (int(np.prod(shapes[name], dtype=np.int64)) for name in (*node.input[:2], node.output[0]))
    channels = shapes[node.input[1]][0] if node.op_type == "Conv" else shapes[node.output[0]][1]
    macs = output * weight // channels
    if node.op_type == "ConvTranspose":
        macs = data * weight // shapes[node.input[1]][0]
    return LayerCost(node.output[0], macs, data + weight + output)
