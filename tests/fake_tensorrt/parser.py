"""The ONNX parser, and what it refuses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

from tests.fake_tensorrt.callbacks import usable
from tests.fake_tensorrt.graph import OnnxGraph
from tests.fake_tensorrt.objects import Managed, Native, stored_attribute

if TYPE_CHECKING:
    from tests.fake_tensorrt.callbacks import ILogger
    from tests.fake_tensorrt.network import INetworkDefinition
    from tests.fake_tensorrt.state import State


class ParserError(Native):
    def _setup(self, code: str, desc: str, node: int, name: str = "", op: str = "", func: str = "parseNode") -> None:
        self._fields = (getattr(self._s.ErrorCode, code), desc, node, name, op, func)

    def code(self) -> Any:
        return self._fields[0]

    def desc(self) -> str:
        return self._fields[1]

    def file(self) -> str:
        return "ModelImporter.cpp"

    def line(self) -> int:
        return 836

    def func(self) -> str:
        return self._fields[5]

    def node(self) -> int:
        return self._fields[2]

    def node_name(self) -> str:
        return self._fields[3]

    def node_operator(self) -> str:
        return self._fields[4]

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0

    def __str__(self) -> str:
        code, desc, node, name, op, func = self._fields
        where = f" (node {node} with name: {name}, operator: {op})" if op else ""
        return f"In {func}:{self.line()} [{code.value}]{where}: {desc}"

    __repr__ = __str__


class _Refused(Exception):
    def __init__(self, code: str, desc: str) -> None:
        super().__init__(desc)
        self.code, self.desc = code, desc


class OnnxParser(Managed):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._logger = usable(logger, self._s.module.ILogger)
        if not isinstance(network, self._s.module.INetworkDefinition):
            raise TypeError("__init__(): incompatible constructor arguments")
        if self._s.fails("trt.OnnxParser", logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._network = network
        self._errors: list[ParserError] = []
        self._values = {"flags": 1}
        self._s.track("parsers", self)

    flags = stored_attribute("flags", int)

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError | None:
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        self._errors.clear()

    def set_flag(self, flag: Any) -> None:
        self._values["flags"] |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._values["flags"] &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._values["flags"] >> int(flag) & 1)

    def supports_operator(self, op_name: str) -> bool:
        return op_name in self._s.importers

    def parse_from_file(self, model: str) -> bool:
        if not os.path.isfile(model):
            self._s.log(self._logger, "ERROR", f"Could not open file {model}")
            self._refuse("MODEL_DESERIALIZE_FAILED", f"Failed to open file: {model}")
            return False
        with open(model, "rb") as file:
            return self.parse(file.read(), model)

    def parse(self, model: Any, path: str | None = None) -> bool:
        data = bytes(memoryview(model))
        if self._s.fails("trt.OnnxParser.parse", self._logger):
            self._refuse("INTERNAL_ERROR", "injected failure")
            return False
        if self._network._implicit_batch:
            text = (
                "This version of the ONNX parser only supports TensorRT INetworkDefinitions with an explicit batch "
                "dimension. Please ensure the network was created using the EXPLICIT_BATCH "
                "NetworkDefinitionCreationFlag."
            )
            self._refuse("INVALID_VALUE", text)
            return False
        try:
            proto = onnx.load_model_from_string(data)
            readable = bool(proto.graph.node) or bool(proto.graph.output)
        except Exception:
            readable = False
        if not readable:
            self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse ONNX model from the given buffer")
            return False
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in proto.graph.initializer):
            if path is None:
                self._refuse("INVALID_VALUE", "Failed to open file: the weights are external and no path was given")
                return False
            onnx.load_external_data_for_model(proto, os.path.dirname(os.path.abspath(path)))
        return self._import(OnnxGraph(proto))

    def _import(self, graph: OnnxGraph) -> bool:
        opset = max((entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        info = (
            f"----------------------------------------------------------------\n"
            f"ONNX IR version:  0.0.{graph.model.ir_version}\nOpset version:    {opset}"
        )
        self._s.log(self._logger, "INFO", info)
        if self._s.version < (10,) and any(t.data_type == TensorProto.INT64 for t in graph.model.graph.initializer):
            text = (
                "onnx2trt_utils.cpp:377: Your ONNX model has been generated with INT64 weights, while TensorRT does "
                "not natively support INT64. Attempting to cast down to INT32."
            )
            self._s.log(self._logger, "WARNING", text)
        for index, node in enumerate(graph.nodes):
            try:
                _check_node(self._s, graph, node)
            except _Refused as refused:
                name = graph.name_of(node)
                self._s.log(
                    self._logger,
                    "ERROR",
                    f'ModelImporter.cpp:836: While parsing node number {index} [{node.op_type} -> "{node.output[0]}"]:',
                )
                self._refuse(refused.code, refused.desc, index, name, node.op_type)
                return False
            self._s.log(self._logger, "VERBOSE", f"Parsing node: {graph.name_of(node)} [{node.op_type}]")
        self._network._fill(graph)
        return True

    def _refuse(self, code: str, desc: str, node: int = -1, name: str = "", op: str = "") -> None:
        error = self._s.make("ParserError", code, desc, node, name, op)
        self._errors.append(error)
        self._s.log(self._logger, "ERROR", f"ModelImporter.cpp:839: ERROR: {error}")

    def supports_model(self, model: Any, path: str | None = None) -> tuple[bool, list[Any]]:
        return self._supports(model), []

    def supports_model_v2(self, model: Any, path: str | None = None) -> bool:
        return self._supports(model)

    def _supports(self, model: Any) -> bool:
        graph = OnnxGraph(onnx.load_model_from_string(bytes(memoryview(model))))
        try:
            for node in graph.nodes:
                _check_node(self._s, graph, node)
        except _Refused:
            return False
        return True


def _check_node(state: State, graph: OnnxGraph, node: onnx.NodeProto) -> None:
    """What onnx-tensorrt refuses."""
    op, old = node.op_type, state.version < (10,)
    if op not in state.importers or node.domain not in ("", "ai.onnx"):
        raise _Refused(
            "UNSUPPORTED_NODE",
            f'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?" '
            f"(No importer registered for op: {op}. Attempting to import as plugin.)",
        )
    sources = [graph.types.get(name) for name in node.input]
    if op in ("QuantizeLinear", "DequantizeLinear"):
        _check_quantizer(state, graph, node)
    elif sources and sources[0] == TensorProto.UINT8 and op != "Cast" and node.input[0] not in graph.initializers:
        raise _Refused(
            "UNSUPPORTED_NODE",
            'Assertion failed: legalUINT8 && "TensorRT does not support UINT8 types for intermediate tensors!"',
        )
    for name in node.output:
        if graph.types.get(name) != TensorProto.UINT8 or op in ("Constant", "QuantizeLinear"):
            continue
        if name not in graph.outputs:
            raise _Refused(
                "UNSUPPORTED_NODE",
                'Assertion failed: legalUINT8 && "TensorRT does not support UINT8 types for intermediate tensors!"',
            )
        if old and sources[0] not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            raise _Refused(
                "UNSUPPORTED_NODE",
                f"{graph.name_of(node)}: ICastLayer/IIdentityLayer: only FLOAT and HALF can be converted to UINT8",
            )
    if op == "Cast" and old and sources[0] == TensorProto.UINT8:
        target = graph.types.get(node.output[0])
        if target not in (TensorProto.FLOAT, TensorProto.FLOAT16) and node.input[0] not in graph.initializers:
            raise _Refused(
                "UNSUPPORTED_NODE",
                f"{graph.name_of(node)}: ICastLayer/IIdentityLayer: UINT8 can only be converted to FLOAT and HALF",
            )
    if op in ("Conv", "ConvTranspose"):
        through = (
            ("QuantizeLinear", "DequantizeLinear")
            if old
            else ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
        )
        if not graph.is_constant_chain(node.input[1], through):
            raise _Refused("UNSUPPORTED_NODE", "Assertion failed: kernel weights must be an initializer!")
    if op == "Resize":
        sizes = [name for name in list(node.input)[2:4] if name]
        through = () if old else ("Cast", "Identity")
        if not sizes or not all(graph.is_constant_chain(name, through) for name in sizes):
            raise _Refused(
                "UNSUPPORTED_NODE", 'Assertion failed: scales.is_weights() && "Resize scales must be an initializer!"'
            )


def _check_quantizer(state: State, graph: OnnxGraph, node: onnx.NodeProto) -> None:
    zero_point = node.input[2] if len(node.input) > 2 else ""
    if state.version < (10,) and not zero_point:
        raise _Refused(
            "INVALID_NODE",
            'Assertion failed: (inputs.size() == 3) && "This version of TensorRT requires 3 inputs for the '
            'DequantizeLinear operator."'
            if state.version < (8, 6)
            else f"Invalid Node - {graph.name_of(node)}\n"
            "vector::_M_range_check: __n (which is 2) >= this->size() (which is 2)",
        )
    if not graph.is_constant_chain(node.input[1], ("Cast", "Identity")):
        raise _Refused(
            "UNSUPPORTED_NODE", "Assertion failed: scale is an initializer! (dynamic scales are not supported)"
        )
    scale = graph.constant(node.input[1])
    if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
        raise _Refused(
            "INVALID_NODE", 'Assertion failed: scaleAllPositive && "Scale coefficients must all be positive"'
        )
    quantized = graph.types.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
    if quantized == TensorProto.INT32:
        raise _Refused(
            "UNSUPPORTED_NODE_DATATYPE" if state.version >= (10,) else "UNSUPPORTED_NODE",
            "Assertion failed: DequantizeLinear: INT32 input is not supported (bias has to stay in floating point)",
        )
    if quantized not in (TensorProto.INT8, None):  # stricter than 10 and later, which read a missing zero point as INT8
        name = TensorProto.DataType.Name(quantized)
        raise _Refused(
            "UNSUPPORTED_NODE_DATATYPE" if state.version >= (10,) else "UNSUPPORTED_NODE",
            f"Assertion failed: {node.op_type}: quantized type {name} is not supported, only INT8",
        )
    if zero_point:
        zero = graph.constant(zero_point)
        if zero is None or np.any(zero.astype(np.int64) != 0):
            raise _Refused(
                "INVALID_NODE",
                'Assertion failed: shiftIsAllZeros(zeroPoint) && "TRT only supports symmetric quantization - zeroPt '
                'must be all zeros"'
                if state.version < (8, 6)
                else 'Assertion failed: shiftIsAllZeros(zeroPoint) && "TensorRT only supports symmetric quantization. '
                'The zero point for the QuantizeLinear/DequantizeLinear operator must be all zeros."',
            )
