"""Adapt a bundle's graph to the TensorRT at hand. What it computes stays the same.

TensorRT versions differ in what they take: whether a weight may stand behind a Cast, whether an INT8 constant may feed
DequantizeLinear, whether a network may read and write uint8. Which of these this one takes is found by trying
``VARIANTS`` in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgeseg.errors import EngineError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["VARIANTS", "GraphVariant", "activation_amax", "prepared_onnx", "weight_amax"]


@dataclass(frozen=True)
class GraphVariant:
    """One way to write a graph down.

    Attributes:
        weights_as_pairs: a quantized weight is a float constant with QuantizeLinear and DequantizeLinear behind it
            (NVIDIA's own form for 8.x), not an INT8 constant with DequantizeLinear alone.
        float_ports: ``frame`` is float32 and ``classes`` int32; a CUDA kernel converts on the device.
    """

    weights_as_pairs: bool = False
    float_ports: bool = False

    def describe(self) -> str:
        """Describe the variant for messages."""
        weights = "weights with Q/DQ pairs" if self.weights_as_pairs else "weights as stored"
        return f"{weights}, {'float32 in and int32 out' if self.float_ports else 'uint8 in and out'}"


VARIANTS = tuple(GraphVariant(pairs, ports) for ports in (False, True) for pairs in (False, True))
"""All ways, the best first."""

_CUTTING = ("Relu", "Clip")


def prepared_onnx(onnx_bytes: bytes, variant: GraphVariant) -> bytes:
    """Write a graph down in one of its variants; float16 weights behind a Cast become float32 constants in all.

    Args:
        onnx_bytes: a graph of a bundle: ``frame`` uint8 NxHxWx3 -> ``classes`` uint8 NxHxW.
        variant: one of ``VARIANTS``.

    Raises:
        EngineError: the graph does not begin or end as a bundle's graphs do.
        MissingDependencyError: onnx is not installed.
    """
    model = _loaded(onnx_bytes)
    _expand_casts(model.graph)
    if variant.weights_as_pairs:
        _pair_weights(model.graph)
    if variant.float_ports:
        _float_ports(model.graph)
    data: bytes = model.SerializeToString()
    return data


def weight_amax(onnx_bytes: bytes) -> dict[str, float]:
    """Return the largest magnitude of every float constant of a graph, by the name that its layer gets in TensorRT."""
    tools = require("onnx", "tensorrt")
    graph = _loaded(onnx_bytes).graph
    values = {tensor.name: tools.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = tools.numpy_helper.to_array(node.attribute[0].t)
    floats = {name: value for name, value in values.items() if value.dtype.kind == "f" and value.size}
    return {name: float(np.abs(value).max()) for name, value in floats.items()}


def activation_amax(onnx_bytes: bytes, amax: Mapping[str, float]) -> dict[str, float]:
    """Narrow the ranges of a graph's tensors for TensorRT: what Relu or Clip cuts off takes no part in them.

    TensorRT fuses such an activation into the layer before it, and then the tensor between them does not exist. Where
    it does not, the range of what comes out of the activation loses nothing, and that of what goes in many bits.

    Args:
        onnx_bytes: a graph of a bundle.
        amax: largest magnitude that the host saw, by tensor.

    Returns:
        The largest magnitude to use, by tensor.
    """
    graph = _loaded(onnx_bytes).graph
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    kept = dict(amax)
    for name in amax.keys() & readers.keys() - {value.name for value in graph.output}:
        if all(node.op_type in _CUTTING and node.output[0] in amax for node in readers[name]):
            kept[name] = min(amax[name], max(amax[node.output[0]] for node in readers[name]))
    return kept


def _loaded(onnx_bytes: bytes) -> onnx.ModelProto:
    tools = require("onnx", "tensorrt")
    try:
        model: onnx.ModelProto = tools.load_model_from_string(onnx_bytes)
    except Exception as error:  # protobuf's decode error has no public base across its versions
        raise EngineError(f"the graph is no ONNX model: {first_line(error)}; compile the bundle again") from error
    return model


def _expand_casts(graph: onnx.GraphProto) -> None:
    """Replace Cast(constant) by a constant: up to TensorRT 8.6 the weights of a convolution must be constants."""
    tools = require("onnx", "tensorrt")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    folded = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in constants]
    for node in folded:
        target = tools.helper.tensor_dtype_to_np_dtype(_attribute(node, "to").i)
        value = tools.numpy_helper.to_array(constants[node.input[0]]).astype(target)
        graph.initializer.append(tools.numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)
    _drop_unused(graph)


def _pair_weights(graph: onnx.GraphProto) -> None:
    """Replace INT8 constant -> DequantizeLinear by float constant -> QuantizeLinear -> DequantizeLinear exactly."""
    tools = require("onnx", "tensorrt")
    constants = {tensor.name: tools.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        levels, scale = constants[node.input[0]], constants[node.input[1]]
        if levels.dtype != np.int8:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        per_axis = scale.reshape([-1 if i == axis % levels.ndim else 1 for i in range(levels.ndim)])
        name = f"{node.input[0]}/float"
        value = levels.astype(np.float32) * (per_axis if scale.ndim else scale)
        graph.initializer.append(tools.numpy_helper.from_array(value.astype(scale.dtype), name))
        quantize = tools.helper.make_node(
            "QuantizeLinear", [name, *node.input[1:]], [f"{name}/quantized"], f"{node.name}/quantize"
        )
        quantize.attribute.extend(node.attribute)
        node.input[0] = quantize.output[0]
        graph.node.insert(index, quantize)
    _drop_unused(graph)


def _float_ports(graph: onnx.GraphProto) -> None:
    """Remove the Cast behind ``frame`` and those in front of ``classes``."""
    tools = require("onnx", "tensorrt")
    frame, classes = graph.input[0], graph.output[0]
    makers = {output: node for node in graph.node for output in node.output}
    casts = [node for node in graph.node if frame.name in node.input]
    if any(node.op_type != "Cast" for node in casts) or not casts:
        raise EngineError("the graph does not begin with a Cast of its frame; compile the bundle again")
    last = makers[classes.name]
    ending = []
    while last.op_type == "Cast":
        ending.append(last)
        last = makers[last.input[0]]
    if last.op_type != "ArgMax":
        raise EngineError(f"the graph ends in {last.op_type}, not in ArgMax; compile the bundle again")
    for node in casts:
        if _attribute(node, "to").i != tools.TensorProto.FLOAT:
            continue  # to float16: from float32 now
        for reader in graph.node:
            _replace(reader, node.output[0], frame.name)
        graph.node.remove(node)
    for node in ending:
        graph.node.remove(node)
    cast = tools.helper.make_node("Cast", [last.output[0]], [classes.name], classes.name, to=tools.TensorProto.INT32)
    graph.node.append(cast)
    frame.type.tensor_type.elem_type = tools.TensorProto.FLOAT
    classes.type.tensor_type.elem_type = tools.TensorProto.INT32


def _replace(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(attribute for attribute in node.attribute if attribute.name == name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
