"""The ONNX graph inside a network, and how it computes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.fake_tensorrt.operators import LAYER_OF_OP, WEIGHTED


class OnnxGraph:
    """An ONNX model with the shape and type of every tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        with suppress(Exception):
            model = shape_inference.infer_shapes(model)
        self.model = model
        graph = model.graph
        self.nodes = list(graph.node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.initializers[node.output[0]] = node.attribute[0].t
        self.types: dict[str, int] = {name: tensor.data_type for name, tensor in self.initializers.items()}
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(t.dims) for name, t in self.initializers.items()}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                self.shapes[value.name] = tuple(
                    d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim
                )
        self.inputs = [value.name for value in graph.input if value.name not in self.initializers]
        self.outputs = [value.name for value in graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

        self.folded = set(self.initializers)
        """Tensors that are made from constants alone."""
        for node in self.nodes:
            if all(name in self.folded for name in node.input if name):
                self.folded.update(node.output)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initializer, also behind a Cast to float."""
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer.get(name)
        if node is None or node.op_type not in ("Cast", "Identity") or self.types.get(name) != TensorProto.FLOAT:
            return None
        value = self.constant(node.input[0])
        return None if value is None else value.astype(np.float32)

    def is_constant_chain(self, name: str, through: tuple[str, ...]) -> bool:
        """An initializer, or one behind the given operators."""
        if name in self.initializers:
            return True
        node = self.producer.get(name)
        return node is not None and node.op_type in through and self.is_constant_chain(node.input[0], through)

    def name_of(self, node: onnx.NodeProto) -> str:
        if node.name:
            return node.name
        index = next(i for i, other in enumerate(self.nodes) if other is node)
        return f"(Unnamed Layer* {index}) [{LAYER_OF_OP.get(node.op_type, node.op_type).title()}]"

    @property
    def has_qdq(self) -> bool:
        return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in self.nodes)


def onnx_session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def without_type_clash(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the intermediate shapes, which no longer hold."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy


def with_all_floats_as_outputs(graph: OnnxGraph) -> tuple[onnx.ModelProto, list[str]]:
    copy = without_type_clash(graph.model)
    del copy.graph.output[:]
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    made = [name for node in graph.nodes for name in node.output if name not in graph.folded]
    names = [name for name in made if graph.types.get(name) in floats]
    copy.graph.output.extend(helper.make_tensor_value_info(name, graph.types[name], None) for name in names)
    return copy, names


def fake_quantized(graph: OnnxGraph, int8_nodes: set[int], ranges: dict[str, float]) -> onnx.ModelProto:
    """Implicit INT8: each INT8 layer reads its activations and weights through a quantizer."""
    copy = without_type_clash(graph.model)
    nodes, made = [], set()
    for index, node in enumerate(copy.graph.node):
        if index in int8_nodes and node.op_type in WEIGHTED and node.input[0] in ranges:
            source = node.input[0]
            quantized = f"{source}::int8"
            if quantized not in made:
                made.add(quantized)
                scale = np.float32(max(ranges[source], 1e-12) / 127.0)
                copy.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{source}::scale"))
                copy.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{source}::zero"))
                rest = [f"{source}::scale", f"{source}::zero"]
                nodes.append(helper.make_node("QuantizeLinear", [source, *rest], [f"{source}::q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{source}::q", *rest], [quantized]))
            node.input[0] = quantized
            weight = graph.constant(node.input[1])
            if weight is not None and weight.ndim > 1:
                axis = 1 if node.op_type in ("ConvTranspose", "MatMul") else 0
                rest_axes = tuple(i for i in range(weight.ndim) if i != axis)
                step = np.maximum(np.abs(weight).max(axis=rest_axes, keepdims=True) / 127.0, 1e-12)
                rounded = (np.rint(weight / step) * step).astype(weight.dtype)
                name = f"{node.input[1]}::int8"
                if name not in made:
                    made.add(name)
                    copy.graph.initializer.append(numpy_helper.from_array(rounded, name))
                node.input[1] = name
        nodes.append(node)
    kept = [onnx.NodeProto() for _ in nodes]
    for new, old in zip(kept, nodes):
        new.CopyFrom(old)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy
