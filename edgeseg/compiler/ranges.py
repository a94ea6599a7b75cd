"""Ranges: the source of truth of INT8. Every INT8 graph is emitted from them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Mapping

from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["SCHEMA", "Ranges", "float_activations", "graph_sha256"]

SCHEMA = 1


@dataclass(frozen=True)
class Ranges:
    """Tensor name -> (low, high) over a calibration set.

    Attributes:
        tensors: range of every float activation of the folded FP32 graph.
        means: mean per channel of every convolution's input, from which the bias correction follows.
        calibrator: how they were taken, e.g. ``"minmax"``.
        images: how many calibration images were seen.
        graph_sha256: digest of the graph they belong to.
        data_sha256: digest of the network inputs, in order.
        data: description of the calibration set.
    """

    tensors: Mapping[str, tuple[float, float]]
    means: Mapping[str, tuple[float, ...]]
    calibrator: str
    images: int
    graph_sha256: str
    data_sha256: str
    data: str

    def amax(self, tensor: str) -> float:
        """Largest magnitude: the symmetric range. Raises CompileError for a tensor without a range."""
        low, high = self.of(tensor)
        return max(abs(low), abs(high))

    def of(self, tensor: str) -> tuple[float, float]:
        """(low, high) of a tensor. Raises CompileError when it has none."""
        if tensor not in self.tensors:
            raise CompileError(f"tensor {tensor!r} has no calibrated range; the ranges belong to another graph")
        return self.tensors[tensor]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that ``from_json`` turns back into equal ranges."""
        tensors = {name: [low, high] for name, (low, high) in self.tensors.items()}
        means = {name: list(values) for name, values in self.means.items()}
        return {"schema": SCHEMA, **asdict(self), "tensors": tensors, "means": means}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ranges:
        """Inverse of ``to_json``. Raises CompileError when it is newer or malformed."""
        try:
            if data["schema"] > SCHEMA:
                raise CompileError(f"ranges have schema {data['schema']}, this edgeseg reads up to {SCHEMA}")
            tensors = {str(name): (float(low), float(high)) for name, (low, high) in data["tensors"].items()}
            means = {str(name): tuple(map(float, values)) for name, values in data["means"].items()}
            if not all(low <= high and math.isfinite(high - low) for low, high in tensors.values()):
                raise CompileError("ranges are malformed: a range is not finite or ends before it begins")
            names = ("calibrator", "graph_sha256", "data_sha256", "data")
            calibrator, graph, inputs, description = (str(data[name]) for name in names)
            return cls(tensors, means, calibrator, int(data["images"]), graph, inputs, description)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CompileError(f"ranges are malformed: {type(error).__name__}: {first_line(error)}") from error


def graph_sha256(model: onnx.ModelProto) -> str:
    """Digest of a model's deterministic serialisation."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def float_activations(model: onnx.ModelProto) -> list[str]:
    """Names of all float32 tensors that nodes compute, in graph order, but for empty ones.

    The model needs inferred shapes.
    """
    onnx = require("onnx", "compile")
    kinds = {value.name: value.type.tensor_type for value in model.graph.value_info}
    computed = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    floats = [name for name in computed if name in kinds and kinds[name].elem_type == onnx.TensorProto.FLOAT]
    return [name for name in floats if not _is_empty(kinds[name])]


def _is_empty(kind: onnx.TypeProto.Tensor) -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in kind.shape.dim)
