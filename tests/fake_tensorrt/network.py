"""Networks with their layers and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fake_tensorrt.objects import Dims, Managed, Native, stored_attribute
from tests.fake_tensorrt.operators import BEFORE_8_6, BROADCASTING, LAYER_OF_OP, WEIGHT_INPUTS

if TYPE_CHECKING:
    from tests.fake_tensorrt.builder import Builder
    from tests.fake_tensorrt.graph import OnnxGraph


class ITensor(Native):
    def _setup(self, network: INetworkDefinition, name: str, dtype: Any, shape: Sequence[int]) -> None:
        self._network, self._onnx_name, self._name = network, name, name
        self._dtype, self._shape, self._range = dtype, tuple(shape), None
        self._dtype_set = False
        self._values = {
            "allowed_formats": 8191,
            "location": self._s.TensorLocation.DEVICE,
            "broadcast_across_batch": False,
        }

    allowed_formats = stored_attribute("allowed_formats", int)
    location = stored_attribute("location")
    broadcast_across_batch = stored_attribute("broadcast_across_batch")

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = str(value)

    @property
    def shape(self) -> Dims:
        return Dims(self._shape)

    @shape.setter
    def shape(self, value: Sequence[int]) -> None:
        self._shape = tuple(int(size) for size in value)

    @property
    def dtype(self) -> Any:
        return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        if not isinstance(value, self._s.DataType):
            raise TypeError("incompatible function arguments: expected tensorrt.tensorrt.DataType")
        self._dtype, self._dtype_set = value, True

    @property
    def is_network_input(self) -> bool:
        return any(tensor is self for tensor in self._network._inputs)

    @property
    def is_network_output(self) -> bool:
        return any(tensor is self for tensor in self._network._outputs)

    is_shape_tensor = property(lambda self: False)
    is_execution_tensor = property(lambda self: True)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        if self._s.fails("trt.ITensor.set_dynamic_range", self._network._logger):
            return False
        if not (np.isfinite(min) and np.isfinite(max)) or min > max:
            self._s.log(self._network._logger, "ERROR", f"Invalid dynamic range for tensor {self._name}")
            return False
        self._range = (float(min), float(max))
        return True

    @property
    def dynamic_range(self) -> tuple[float, float] | None:
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, value: Sequence[float]) -> None:
        if len(value) != 2:
            raise ValueError("Dynamic range must contain exactly 2 elements")
        if not self.set_dynamic_range(*value):
            raise RuntimeError("Error in set dynamic range")

    def reset_dynamic_range(self) -> None:
        self._range = None


class ILayer(Native):
    def _setup(
        self, network: INetworkDefinition, node: onnx.NodeProto, inputs: list[ITensor], outputs: list[ITensor]
    ) -> None:
        self._network, self._index, self._node = network, len(network._layers), node
        graph = network._graph
        assert graph is not None
        self._name = node.name or graph.name_of(node)
        kind = LAYER_OF_OP.get(node.op_type, "ELEMENTWISE")
        self._type = self._s.LayerType.__members__.get(kind) or getattr(self._s.LayerType, BEFORE_8_6[kind])
        self._inputs, self._outputs = inputs, outputs
        self._precision: Any = None
        self._output_types: dict[int, Any] = {}
        imported = any(node is other for other in graph.nodes)
        self._values = {"metadata": f"[ONNX Layer: {self._name}]" if imported else ""}

    metadata = stored_attribute("metadata", str)

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = str(value)

    type = property(lambda self: self._type)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index: int) -> ITensor | None:
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None

    def get_output_type(self, index: int) -> Any:
        return self._output_types.get(index, self._outputs[index]._dtype)

    @property
    def precision(self) -> Any:
        return self._s.DataType.FLOAT if self._precision is None else self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision = value

    precision_is_set = property(lambda self: self._precision is not None)

    def reset_precision(self) -> None:
        self._precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._output_types[index] = dtype

    def output_type_is_set(self, index: int) -> bool:
        return index in self._output_types

    def reset_output_type(self, index: int) -> None:
        self._output_types.pop(index, None)


class INetworkDefinition(Managed):
    def _setup(self, builder: Builder, flags: int) -> None:
        self._builder, self._logger, self._flags = builder, builder._logger, flags
        self._graph: OnnxGraph | None = None
        self._tensors: dict[str, ITensor] = {}
        self._layers: list[ILayer] = []
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._values = {"name": "Unnamed Network 0", "error_recorder": None}

    name = stored_attribute("name", str)
    error_recorder = stored_attribute("error_recorder")
    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    flags = property(lambda self: self._flags)
    builder = property(lambda self: self._builder)
    has_implicit_batch_dimension = property(lambda self: self._implicit_batch)
    _implicit_batch = property(lambda self: self._s.version < (10,) and not self._flags & 1)

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def _tensor(self, name: str) -> ITensor:
        if name not in self._tensors:
            graph = self._graph
            assert graph is not None
            dtype = self._s.dtype_of_onnx(graph.types.get(name, TensorProto.FLOAT))
            self._tensors[name] = self._s.make("ITensor", self, name, dtype, graph.shapes.get(name, ()))
        return self._tensors[name]

    def _fill(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._inputs = [self._tensor(name) for name in graph.inputs]
        for node in graph.nodes:
            if node.op_type != "Constant":
                sources = self._sources(graph, node)
                made = [self._tensor(name) for name in node.output if name]
                if node.op_type == "Gemm" and len(sources) > 2:
                    sources = self._multiplied(graph, node, sources)
                    node = helper.make_node("Add", node.input[2:], node.output, f"{graph.name_of(node)}_bias")
                self._layers.append(self._s.make("ILayer", self, node, sources, made))
        self._outputs = [self._operand(graph, name) for name in graph.outputs]
        self._values["name"] = graph.model.graph.name or "Unnamed Network 0"

    def _multiplied(self, graph: OnnxGraph, node: onnx.NodeProto, sources: list[ITensor]) -> list[ITensor]:
        """Of a Gemm the product, which nobody named, and the bias, which another layer adds."""
        name, shape = self._unnamed("Matrix Multiply", graph.name_of(node)), graph.shapes.get(node.output[0], ())
        made = self._tensors[name] = self._s.make("ITensor", self, name, sources[0]._dtype, shape)
        self._layers.append(self._s.make("ILayer", self, node, sources[:2], [made]))
        return [made, self._with_rank(graph, sources[2], len(shape))]

    def _sources(self, graph: OnnxGraph, node: onnx.NodeProto) -> list[ITensor]:
        """What the layer of a node reads; the parser adds layers for constants and for lower ranks before it."""
        kept = WEIGHT_INPUTS.get(node.op_type, ())
        names = [name for i, name in enumerate(node.input) if name and not (i in kept and name in graph.initializers)]
        sources = [self._operand(graph, name) for name in names]
        if node.op_type in BROADCASTING and all(name in graph.shapes for name in names):
            rank = max(len(source._shape) for source in sources)
            sources = [self._with_rank(graph, source, rank) for source in sources]
        return sources

    def _operand(self, graph: OnnxGraph, name: str) -> ITensor:
        """A tensor; an initializer becomes one through a CONSTANT layer of its name, made at its first use."""
        if name not in graph.initializers or name in self._tensors:
            return self._tensor(name)
        made = self._tensor(name)
        made._name = self._unnamed("Constant", name)
        node = helper.make_node("Constant", [], [name], name)
        self._layers.append(self._s.make("ILayer", self, node, [], [made]))
        return made

    def _with_rank(self, graph: OnnxGraph, source: ITensor, rank: int) -> ITensor:
        """``source``, behind a SHUFFLE layer that puts ones before its shape where it has fewer dimensions."""
        if len(source._shape) == rank:
            return source
        layer = f"(Unnamed Layer* {len(self._layers)}) [Shuffle]"
        if self._s.version >= (10,):
            count = sum(other._name.startswith("ONNXTRT_Broadcast") for other in self._layers)
            layer = f"ONNXTRT_Broadcast_{count}" if count else "ONNXTRT_Broadcast"
        name = self._unnamed("Shuffle", layer)
        shape = (1,) * (rank - len(source._shape)) + source._shape
        made = self._tensors[name] = self._s.make("ITensor", self, name, source._dtype, shape)
        node = helper.make_node("Reshape", [source._onnx_name], [name], layer)
        self._layers.append(self._s.make("ILayer", self, node, [source], [made]))
        return made

    def _unnamed(self, kind: str, layer: str) -> str:
        """What a tensor that nobody named is called: after its layer's number in 8.x, after its name from 10.1 on."""
        if self._s.version < (10,):
            return f"(Unnamed Layer* {len(self._layers)}) [{kind}]_output"
        return f"{layer}_output"

    def get_layer(self, index: int) -> ILayer | None:
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def get_input(self, index: int) -> ITensor | None:
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int, /) -> ILayer:
        return self._layers[index]

    def mark_output(self, tensor: ITensor) -> None:
        if not any(other is tensor for other in self._outputs):
            self._outputs.append(tensor)

    def unmark_output(self, tensor: ITensor) -> None:
        self._outputs = [other for other in self._outputs if other is not tensor]

    @property
    def _strongly_typed(self) -> bool:
        if self._s.version >= (11,):
            return True
        return self._s.version >= (10,) and bool(self._flags & 2)
