"""Storing the weights of a float graph as float16, for half the size, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = ["float16_weights", "float32_weights"]

_SUFFIX = "/float16"
_SMALLEST = 256


def float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large float32 weights as float16, cast back in the graph (runtimes fold the cast when they load)."""
    onnx = require("onnx", "compile")
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for tensor in stored.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= _SMALLEST:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), name + _SUFFIX))
            casts.append(onnx.helper.make_node("Cast", [name + _SUFFIX], [name], name, to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def float32_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inverse of ``float16_weights`` (the rounding stays)."""
    onnx = require("onnx", "compile")
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    kept = [node for node in plain.graph.node if not (node.op_type == "Cast" and node.input[0].endswith(_SUFFIX))]
    del plain.graph.node[:]
    plain.graph.node.extend(kept)
    for tensor in plain.graph.initializer:
        if tensor.name.endswith(_SUFFIX):
            value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name[: -len(_SUFFIX)]))
    return plain
