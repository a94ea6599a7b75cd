"""Ranges: the source of truth of INT8. Every INT8 graph is emitted from them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping

import numpy as np

from edgeseg.errors import CompileError, require
from edgeseg.images import Dataset
from edgeseg.preprocess import resized_frame

if TYPE_CHECKING:
    import onnx

__all__ = ["MINIMUM_FRAMES", "Ranges", "ranges_from_frames"]

SCHEMA = 1
MINIMUM_FRAMES = 16
"""Fewer calibration images than this are refused."""


@dataclass(frozen=True)
class Ranges:
    """Tensor name -> (low, high) over a calibration set.

    Attributes:
        tensors: range of every float activation of the folded FP32 graph.
        means: mean per channel of every convolution's input, from which the bias correction follows.
        calibrator: how they were taken: ``"minmax"``.
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
            return cls(
                tensors,
                means,
                *(data[key] for key in ("calibrator", "images", "graph_sha256", "data_sha256", "data")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CompileError(f"ranges are malformed: {type(error).__name__}: {error}") from error


def ranges_from_frames(
    model: onnx.ModelProto,
    frames: Dataset,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Ranges:
    """Minimum and maximum of every float activation, and convolution inputs' channel means, over a calibration set.

    They are reduced inside the graph, so memory does not grow with images or tensors.

    Args:
        model: the folded FP32 graph.
        frames: calibration images; resized by the one ``preprocess``.
        report: called with (images done, images in all).

    Raises:
        CompileError: too few images, or a tensor that is not finite.
    """
    if len(frames) < MINIMUM_FRAMES:
        raise CompileError(
            f"{len(frames)} calibration images are too few, at least {MINIMUM_FRAMES} are needed and a few hundred "
            "are usual; pass a larger folder to --calib"
        )
    ort = require("onnxruntime", "")
    names, inputs = float_activations(model), _convolution_inputs(model)
    reduced = _with_reductions(model, names, inputs)
    session = ort.InferenceSession(reduced.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0]
    size_hw = (feed.shape[1], feed.shape[2])
    outputs = [f"{name}/{end}" for name in names for end in ("min", "max")] + [f"{name}/mean" for name in inputs]
    sums: list[np.ndarray] = [np.zeros(1)] * len(inputs)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    digest = hashlib.sha256()
    for index in range(len(frames)):
        network_input = np.ascontiguousarray(resized_frame(frames[index].frame, size_hw)[None])
        digest.update(network_input.tobytes())
        values = [np.asarray(value) for value in session.run(outputs, {feed.name: network_input})]
        extrema = np.array([float(value.ravel()[0]) for value in values[: 2 * len(names)]])
        low, high = np.minimum(low, extrema[0::2]), np.maximum(high, extrema[1::2])
        sums = [total + value.astype(np.float64) for total, value in zip(sums, values[2 * len(names) :])]
        report(index + 1, len(frames))
    broken = [name for name, lo, hi in zip(names, low, high) if not np.isfinite(lo + hi)]
    if broken:
        raise CompileError(f"{len(broken)} tensors are not finite on the calibration images, first {broken[0]!r}")
    return Ranges(
        tensors={name: (float(lo), float(hi)) for name, lo, hi in zip(names, low, high)},
        means={name: tuple(float(v) for v in total / len(frames)) for name, total in zip(inputs, sums)},
        calibrator="minmax",
        images=len(frames),
        graph_sha256=graph_sha256(model),
        data_sha256=digest.hexdigest(),
        data=frames.description,
    )


def graph_sha256(model: onnx.ModelProto) -> str:
    """Digest of a model's deterministic serialisation."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def float_activations(model: onnx.ModelProto) -> list[str]:
    """Names of all float32 tensors that nodes compute, in graph order. The model needs inferred shapes."""
    onnx = require("onnx", "compile")
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    computed = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    return [name for name in computed if types.get(name) == onnx.TensorProto.FLOAT]


def _convolution_inputs(model: onnx.ModelProto) -> list[str]:
    """Names of the float tensors that convolutions read."""
    activations = set(float_activations(model))
    return sorted({node.input[0] for node in model.graph.node if node.op_type == "Conv"} & activations)


def _with_reductions(model: onnx.ModelProto, names: list[str], inputs: list[str]) -> onnx.ModelProto:
    """The model with ``NAME/min``, ``NAME/max`` and, for convolutions' inputs, ``NAME/mean`` per channel as outputs."""
    onnx = require("onnx", "compile")
    extended = onnx.ModelProto()
    extended.CopyFrom(model)

    def add(operator: str, name: str, end: str, **how: Any) -> None:
        output = f"{name}/{end}"
        extended.graph.node.append(onnx.helper.make_node(operator, [name], [output], output, keepdims=0, **how))
        extended.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))

    for name in names:
        add("ReduceMin", name, "min")
        add("ReduceMax", name, "max")
    for name in inputs:
        add("ReduceMean", name, "mean", axes=[0, 2, 3])
    return extended
