"""The FP16 graph for strongly typed TensorRT (10 on request, 11 always): its types are its precision.

Everything between the frame's Cast and ArgMax becomes float16, scores included; frame and class map stay uint8. Q/DQ
nodes may be in the graph: with float16 on both sides they need opset 19, and their scales become float16 too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.edits import lift_constants
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["float16_onnx"]

_LARGEST = 65504.0
_SMALLEST = 2.0**-24
_QDQ_OPSET = 19


def float16_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """The folded FP32 graph, or a Q/DQ graph made of it, computing in float16.

    Raises:
        CompileError: a weight is too large for float16.
    """
    onnx = require("onnx", "compile")
    half = onnx.ModelProto()
    half.CopyFrom(model)
    lift_constants(half.graph)
    kept = _kept_in_float32(half.graph)
    for tensor in half.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in kept:
            value = _rounded(onnx.numpy_helper.to_array(tensor), tensor.name)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    for node in half.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    for output in half.graph.output:
        if output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del half.graph.value_info[:]
    if any(node.op_type == "QuantizeLinear" for node in half.graph.node):
        half = onnx.version_converter.convert_version(half, _QDQ_OPSET)
        del half.graph.value_info[:]  # the converter infers types before it knows float16 scales
    inferred: Any = onnx.shape_inference.infer_shapes(half, strict_mode=True, data_prop=True)
    onnx.checker.check_model(inferred)
    return inferred


def _kept_in_float32(graph: onnx.GraphProto) -> set[str]:
    """Scales of Resize are float32 by definition."""
    return {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}


def _rounded(value: np.ndarray, name: str) -> np.ndarray:
    largest = float(np.abs(value).max(initial=0))
    if largest > _LARGEST:
        raise CompileError(f"{name} holds {largest:.3g}, which float16 cannot (at most {_LARGEST:.0f}); leave FP16 out")
    rounded = value.astype(np.float16)
    # A scale must not become zero.
    return np.asarray(np.where((value > 0) & (rounded == 0), np.float16(_SMALLEST), rounded), np.float16)
