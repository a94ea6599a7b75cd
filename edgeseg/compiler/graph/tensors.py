"""A graph's identity and the tensors that INT8 is about."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = ["float_activations", "graph_sha256"]


def graph_sha256(model: onnx.ModelProto) -> str:
    """Return the digest of a model's deterministic serialisation."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def float_activations(model: onnx.ModelProto) -> list[str]:
    """Return the names of all float32 tensors that nodes compute, in graph order, but for empty ones.

    The model needs inferred shapes.
    """
    onnx = require("onnx", "compile")
    kinds = {value.name: value.type.tensor_type for value in model.graph.value_info}
    computed = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    floats = [name for name in computed if name in kinds and kinds[name].elem_type == onnx.TensorProto.FLOAT]
    return [name for name in floats if not _is_empty(kinds[name])]


def _is_empty(kind: onnx.TypeProto.Tensor) -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in kind.shape.dim)
