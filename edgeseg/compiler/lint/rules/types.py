"""Rules on element types: uint8, INT64, and what a TensorRT has no type for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

import numpy as np

from edgeseg.compiler.graph.onnx_graph import input_name, node_name
from edgeseg.compiler.lint.rule_graph import RuleGraph
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = [
    "element_types",
    "int64_constants",
    "int64_io",
    "uint8_casts",
    "uint8_intermediates",
    "uint8_network_io",
    "uint8_readers",
]


def element_types(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find tensors of a type that the target does not have."""
    kinds = graph.kinds
    known = {0, kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8, kinds.INT32, kinds.INT64, kinds.BOOL}
    if target.int64:
        known |= {kinds.BFLOAT16, kinds.FLOAT8E4M3FN, kinds.INT4}
    names = [value.name for value in graph.inputs] + [name for node in graph.nodes for name in node.output]
    for name in names:
        if graph.type(name) not in known:
            what = f"{target} has no type {graph.type_name(name)}"
            yield Finding(
                "error", "unsupported-type", name, what, "cast to float, or int32 for indices, in the network"
            )


def uint8_network_io(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find uint8 inputs and outputs where they are not allowed."""
    for value in () if target.uint8_io else (*graph.inputs, *graph.outputs):
        if graph.type(value.name) == graph.kinds.UINT8:
            what = f"{target} has no uint8 network inputs and outputs; they came with 8.5"
            fix = "use JetPack 5.1 or newer, or feed float32 and return int32"
            yield Finding("error", "uint8-io", value.name, what, fix)


def uint8_readers(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find operators other than Cast that read a uint8 input."""
    for value in graph.inputs:
        for node in graph.readers(value.name):
            quantizer = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if (
                graph.type(value.name) == graph.kinds.UINT8
                and not quantizer
                and node.op_type not in ("Cast", "Identity")
            ):
                what = f"{node.op_type} reads uint8, which only Cast may"
                fix = f"cast to float first, then {node.op_type} (edgeseg's folded graph does so)"
                yield Finding("error", "uint8-reader", node_name(node), what, fix)


def uint8_intermediates(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find uint8 tensors inside the network."""
    outputs = {value.name for value in graph.outputs}
    for node in graph.nodes:
        for name in node.output:
            inner = name not in outputs and node.op_type not in ("Constant", "QuantizeLinear", "DynamicQuantizeLinear")
            if inner and graph.type(name) == graph.kinds.UINT8:
                what = "a uint8 tensor inside the network; only inputs and outputs may be uint8"
                fix = "cast inputs to float at once, and to uint8 only as the last node"
                yield Finding("error", "uint8-intermediate", name, what, fix)


def uint8_casts(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find conversions between uint8 and integers."""
    if target.integer_to_uint8:
        return
    integers = (graph.kinds.INT32, graph.kinds.INT64, graph.kinds.BOOL, graph.kinds.INT8)
    for node in graph.of("Cast"):
        ends = {graph.type(input_name(node, 0)), graph.type(_first_output(node))}
        if graph.kinds.UINT8 in ends and ends & set(integers):
            certain = target.integer_to_uint8 is False
            what = f"Cast between uint8 and integers; {target} converts uint8 only from and to floats"
            fix = "cast through float: ArgMax -> Cast(FLOAT) -> Cast(UINT8), exact for up to 256 classes"
            yield Finding(
                "error" if certain else "warning",
                "uint8-cast",
                node_name(node),
                what if certain else f"{what} by its documentation; its parser does not check (not verified)",
                fix,
            )


def int64_io(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find INT64 inputs and outputs."""
    for value in (*graph.inputs, *graph.outputs):
        if graph.type(value.name) != graph.kinds.INT64:
            continue
        if target.int64:
            severity, what = "note", "an INT64 network input or output moves 8 bytes a value"
        else:
            severity, what = "warning", f"INT64 in the graph, INT32 in the engine: {target} has no INT64"
        fix = "end the network in Cast to uint8 (int32 above 256 classes), and allocate by the engine's own types"
        yield Finding(severity, "int64-io", value.name, what, fix)


def int64_constants(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find INT64 constants, and those that do not fit into 32 bits."""
    for name in () if target.int64 else graph.constants_of_type(graph.kinds.INT64):
        value = graph.value(name)
        if value is not None and not np.all(_survives_int32(value)):
            what = f"an INT64 constant does not fit the INT32 to which {target} clamps it"
            yield Finding("warning", "int64-constant", name, what, "keep constants of the network below 2**31")
        else:
            what = f"INT64 constants are cast to INT32 by {target}, with a warning in its log"
            yield Finding("note", "int64-constant", name, what, "nothing to do: the values fit")


def _survives_int32(value: np.ndarray) -> np.ndarray:
    """Which values mean the same after clamping to 32 bits; the ends of INT64 mean "to the end" in Slice."""
    end = np.iinfo(np.int64).max
    return np.asarray((value >= -(2**31)) & (value < 2**31) | (value == end) | (value <= -end))


def _first_output(node: onnx.NodeProto) -> str:
    """Name of the first output; empty when there is none."""
    return "".join(node.output[:1])
