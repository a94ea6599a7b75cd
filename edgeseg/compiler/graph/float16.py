"""The FP16 graph for strongly typed TensorRT (10 on request, 11 always): its types are its precision.

Everything between the frame's Cast and ArgMax becomes float16, scores included; frame and class map stay uint8. Q/DQ
nodes may be in the graph: with float16 on both sides they need opset 19, and their scales become float16 too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, checked_onnx, copied_onnx
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["float16_onnx"]

_LARGEST = 65504.0
_SMALLEST = 2.0**-24
_QDQ_OPSET = 19


def float16_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make a folded FP32 graph, or a Q/DQ graph made of it, compute in float16.

    Raises:
        CompileError: a weight is too large for float16.
    """
    onnx = require("onnx", "compile")
    half = copied_onnx(model)
    graph = OnnxGraph(half.graph)
    graph.lift_constants()
    kept = {name for node in graph.of("Resize") for name in node.input[1:]}  # its scales are float32 by definition
    for name in graph.constants:
        if graph.types[name] == onnx.TensorProto.FLOAT and name not in kept:
            graph.set_constant(name, _rounded(graph.value(name), name))
    for node in graph.of("Cast"):
        for attribute in node.attribute:
            if attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    for output in half.graph.output:
        if output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del half.graph.value_info[:]
    if graph.of("QuantizeLinear"):
        half = onnx.version_converter.convert_version(half, _QDQ_OPSET)
        del half.graph.value_info[:]  # the converter infers types before it knows float16 scales
    return checked_onnx(half)


def _rounded(value: np.ndarray | None, name: str) -> np.ndarray:
    if value is None:
        raise CompileError(f"{name} is stored outside the graph; load it with its weights")
    largest = float(np.abs(value).max(initial=0))
    if largest > _LARGEST:
        raise CompileError(f"{name} holds {largest:.3g}, which float16 cannot (at most {_LARGEST:.0f}); leave FP16 out")
    rounded = value.astype(np.float16)
    # A scale must not become zero.
    return np.asarray(np.where((value > 0) & (rounded == 0), np.float16(_SMALLEST), rounded), np.float16)
