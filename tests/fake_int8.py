"""The worst that TensorRT may make of ranges (implicit INT8): INT8 wherever they allow it, and no layer is fused.

A layer runs in INT8 when all its tensors of a float type have ranges, whatever it computes. What is not float does not
hinder it, and a layer with weights may write float. It reads and writes rounded and clipped values, and whoever reads
what it wrote gets those: a Cast of float to uint8 cuts off their fractions. Only a constraint on its precision holds a
layer in float, and one on its output type what it writes. TopK writes the largest values beside their places, and
nobody ever gave those a range.
"""

from __future__ import annotations

from typing import Any, Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_KERNELS = {"Conv": 0, "ConvTranspose": 1}
"""Operator -> axis of the output channels of its weights."""
_WEIGHTED = (*_KERNELS, "MatMul", "Gemm")
_NEVER = ("ArgMax", "ArgMin", "TopK")


def worst_int8(graph: Any, layers: Iterable[Any], ranges: dict[str, float], *, constrained: bool) -> onnx.ModelProto:
    """A copy of a graph that computes as the worst engine would.

    Args:
        graph: a ``_Graph`` of the fake.
        layers: of its network, with constraints on types.
        ranges: tensor -> largest magnitude, by its name in ONNX.
        constrained: whether constraints on types are obeyed or preferred.
    """
    return _Worst(graph, layers, ranges, constrained).model()


class _Worst:
    def __init__(self, graph: Any, layers: Iterable[Any], ranges: dict[str, float], constrained: bool) -> None:
        self.graph, self.ranges = graph, ranges
        self.layers: dict[int, list[Any]] = {}  # of a node, the first of which multiplies where there are several
        for layer in layers:
            last = graph.producer.get(layer._outputs[0]._onnx_name, layer._node) if layer._outputs else layer._node
            for node in {id(layer._node), id(last)}:
                self.layers.setdefault(node, []).append(layer)
        self.constrained = constrained
        self.copy = onnx.ModelProto()
        self.copy.CopyFrom(graph.model)
        del self.copy.graph.value_info[:]
        self.nodes: list[onnx.NodeProto] = []
        self.pairs: dict[str, str] = {}
        self.stored: set[str] = set()  # tensors that an INT8 layer wrote in INT8

    def model(self) -> onnx.ModelProto:
        for node, copied in zip(self.graph.nodes, list(self.copy.graph.node)):
            int8 = self.runs_in_int8(node)
            for position, name in enumerate(node.input):
                if name in self.stored or (int8 and name in self.ranges and self.is_float(name)):
                    copied.input[position] = self.rounded(name)
            if int8 and node.op_type in _KERNELS:
                copied.input[1] = self.rounded_kernel(node)
            self.nodes.append(copied)
            if int8 and not self.writes_float(node):
                self.stored.update(name for name in node.output if self.is_float(name))
        kept = [onnx.NodeProto() for _ in self.nodes]
        for new, old in zip(kept, self.nodes):
            new.CopyFrom(old)
        del self.copy.graph.node[:]
        self.copy.graph.node.extend(kept)
        return self.copy

    def runs_in_int8(self, node: onnx.NodeProto) -> bool:
        layers = self.layers.get(id(node), [])
        if not layers or node.op_type in _NEVER or all(name in self.graph.folded for name in node.output):
            return False
        if self.constrained and any(layer._precision is not None for layer in layers):
            return False
        read = layers[0]._inputs[:1] if node.op_type in _KERNELS else layers[0]._inputs
        made = [] if node.op_type in _WEIGHTED else layers[0]._outputs
        floats = [tensor._onnx_name for tensor in (*read, *made) if self.is_float(tensor._onnx_name)]
        return bool(floats) and all(name in self.ranges for name in floats)

    def is_float(self, name: str) -> bool:
        return self.graph.types.get(name, TensorProto.FLOAT) in FLOATS

    def writes_float(self, node: onnx.NodeProto) -> bool:
        layers = self.layers[id(node)]
        if any(tensor._onnx_name not in self.ranges for layer in layers for tensor in layer._outputs):
            return True
        types = [layer._output_types.get(0) for layer in layers]
        return self.constrained and any(found is not None and found.name in ("FLOAT", "HALF") for found in types)

    def rounded(self, name: str) -> str:
        if name not in self.pairs:
            self.pairs[name] = f"{name}::int8"
            scale, zero = f"{name}::scale", f"{name}::zero"
            self.constant(scale, np.float32(max(self.ranges[name], 1e-12) / 127.0))
            self.constant(zero, np.int8(0))
            for op, source, made in (
                ("QuantizeLinear", name, f"{name}::q"),
                ("DequantizeLinear", f"{name}::q", self.pairs[name]),
            ):
                self.nodes.append(helper.make_node(op, [source, scale, zero], [made]))
        return self.pairs[name]

    def rounded_kernel(self, node: onnx.NodeProto) -> str:
        weight = self.graph.constant(node.input[1])
        if weight is None:
            return str(node.input[1])
        rest = tuple(axis for axis in range(weight.ndim) if axis != _KERNELS[node.op_type])
        step = np.maximum(np.abs(weight).max(axis=rest, keepdims=True) / 127.0, 1e-12)
        name = f"{node.input[1]}::int8"
        if name not in self.pairs:
            self.pairs[name] = name
            self.constant(name, (np.rint(weight / step) * step).astype(weight.dtype))
        return name

    def constant(self, name: str, value: Any) -> None:
        self.copy.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
