"""The probe that a device appends to the FP32 graph of a bundle to see drift; ``runtime.monitoring.drift`` runs it.

Serialised protobuf messages merge when their bytes are joined. So the probe is a model of a few reductions and nothing
else: ``fp32 + probe`` is the FP32 graph with more outputs. It takes a few kilobytes instead of a second FP32 graph, and
the device needs no package that edits ONNX.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from edgeseg.bundle import CHANNEL_MEANS, CLIPPED, Bundle
from edgeseg.errors import require
from edgeseg.ranges import Ranges
from edgeseg.recipes import FP32

if TYPE_CHECKING:
    import onnx

__all__ = ["drift_probe", "with_drift_probe"]

_TENSORS = 12
_UNBOUNDED = ("Conv", "Add", "Gemm", "ConvTranspose")
"""A tensor behind Clip never leaves its range."""


def drift_probe(model: onnx.ModelProto, ranges: Ranges) -> bytes | None:
    """Write the nodes that measure drift behind a float graph, to be appended to its serialised bytes.

    Args:
        model: the folded FP32 graph, opset 13 to 17, for any number of frames.
        ranges: of that graph.

    Returns:
        A serialised ``ModelProto`` with an output ``CLIPPED + NAME`` (share of elements beyond the calibrated range,
        float32 scalar) for at most 12 tensors, and ``CHANNEL_MEANS + NAME`` (C float32) for at most 12 others, spread
        over the depth of the graph, first and last included. None where the graph has no tensor to measure.
    """
    kinds = {name: node.op_type for node in model.graph.node for name in node.output}
    clipped = _spread([name for name, kind in kinds.items() if name in ranges.tensors and kind in _UNBOUNDED])
    shifted = _spread([name for name in kinds if name in ranges.tensors and name in ranges.means])
    if not clipped or not shifted:
        return None
    onnx = require("onnx", "compile")
    probe = onnx.ModelProto()
    for name in clipped:
        _add_clipped(onnx, probe.graph, name, ranges.of(name))
    for name in shifted:
        _add_mean(onnx, probe.graph, name, CHANNEL_MEANS + name, [0, 2, 3])
    content: bytes = probe.SerializeToString(deterministic=True)
    return content


def with_drift_probe(bundle: Bundle) -> Bundle:
    """Give a bundle that was compiled before edgeseg 0.3 its probe; any other is returned as it is.

    Raises:
        MissingDependencyError: the package onnx is missing.
    """
    if bundle.drift is not None or bundle.ranges is None or FP32 not in bundle.graphs:
        return bundle
    model = require("onnx", "tensorrt").load_model_from_string(bundle.graphs[FP32].onnx)
    return replace(bundle, drift=drift_probe(model, bundle.ranges))


def _spread(names: Sequence[str]) -> list[str]:
    """At most 12 names, evenly over the list, its first and last included."""
    picked = np.linspace(0, len(names) - 1, min(len(names), _TENSORS)).round().astype(int)
    return [names[i] for i in picked]


def _add_clipped(onnx: Any, graph: onnx.GraphProto, name: str, ends: tuple[float, float]) -> None:
    helper, kind, out = onnx.helper, onnx.TensorProto.FLOAT, CLIPPED + name
    for end, value in zip(("low", "high"), ends):
        graph.initializer.append(helper.make_tensor(f"{out}/{end}", kind, [], [value]))
    for operator, inputs, output, how in (
        ("Less", [name, f"{out}/low"], f"{out}/below", {}),
        ("Greater", [name, f"{out}/high"], f"{out}/above", {}),
        ("Or", [f"{out}/below", f"{out}/above"], f"{out}/outside", {}),
        ("Cast", [f"{out}/outside"], f"{out}/float", {"to": kind}),
    ):
        graph.node.append(helper.make_node(operator, inputs, [output], **how))
    _add_mean(onnx, graph, f"{out}/float", out, [0, 1, 2, 3])


def _add_mean(onnx: Any, graph: onnx.GraphProto, name: str, out: str, axes: list[int]) -> None:
    """Reduce inside the graph, so that no activation is copied out."""
    graph.node.append(onnx.helper.make_node("ReduceMean", [name], [out], axes=axes, keepdims=0))
    graph.output.append(onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None))
