"""Storing the weights of a float graph as float16, for half the size, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, copied_onnx
from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = ["float16_weights", "float32_weights"]

_SUFFIX = "/float16"
_SMALLEST = 256


def float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large float32 weights as float16, cast back in the graph (runtimes fold the cast when they load)."""
    onnx = require("onnx", "compile")
    stored = copied_onnx(model)
    graph, casts = OnnxGraph(stored.graph), 0
    for tensor in stored.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= _SMALLEST:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), name + _SUFFIX))
            graph.add("Cast", [name + _SUFFIX], name, at=casts, to=onnx.TensorProto.FLOAT)
            casts += 1
    return stored


def float32_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inverse of ``float16_weights`` (the rounding stays)."""
    onnx = require("onnx", "compile")
    plain = copied_onnx(model)
    graph = OnnxGraph(plain.graph)
    graph.remove(*(node for node in graph.of("Cast") if node.input[0].endswith(_SUFFIX)))
    for tensor in plain.graph.initializer:
        if tensor.name.endswith(_SUFFIX):
            value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name[: -len(_SUFFIX)]))
    return plain
