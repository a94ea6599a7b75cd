"""Passes that take what exporters leave in a graph out of it. Each edits in place and returns its lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, copied_onnx, nested_graphs, nested_nodes
from edgeseg.compiler.importers.ending import Ending
from edgeseg.compiler.importers.onnx_file import check_structure
from edgeseg.errors import require

if TYPE_CHECKING:
    import onnx

__all__ = [
    "bypass_identities",
    "cut_at_logits",
    "fix_input",
    "cast_to_float32",
    "inline_branches",
    "inlined_onnx",
    "has_half_floats",
    "switch_to_inference",
]


def inlined_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model without its own functions, and with one kind of constant: initializers that are no inputs."""
    inlined = copied_onnx(model)
    if model.functions:
        inlined = require("onnx.inliner", "compile").inline_local_functions(inlined)
        check_structure(inlined)
    graph = inlined.graph
    _clear_repeated_names(graph)
    OnnxGraph(graph).lift_constants()
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    return inlined


def _clear_repeated_names(graph: onnx.GraphProto) -> None:
    """A node's name may be empty, but ONNX Runtime refuses the same twice."""
    seen: set[str] = set()
    for node in graph.node:
        if node.name in seen:
            node.name = ""
        seen.add(node.name)


def inline_branches(graph: onnx.GraphProto, decided: dict[str, bool]) -> list[str]:
    """Put the taken branch in the place of every If whose condition is decided, by name of the condition."""
    kept: list[onnx.NodeProto] = []
    names = {value.name for value in (*graph.input, *graph.initializer)}
    names.update(name for node in graph.node for name in node.output)
    count = 0
    for node in graph.node:
        taken = decided.get(node.input[0]) if node.op_type == "If" else None
        branches = {entry.name: entry.g for entry in node.attribute}
        if taken is None:
            kept.append(node)
            continue
        count += 1
        body = branches["then_branch" if taken else "else_branch"]
        _rename_what_is_taken(body, names, count)
        graph.initializer.extend(body.initializer)
        kept += body.node
        kept += [
            type(node)(op_type="Identity", input=[inner.name], output=[outer])
            for inner, outer in zip(body.output, node.output)
        ]
    edited = OnnxGraph(graph)
    edited.replace_nodes(kept)
    edited.lift_constants()
    return [f"{count} If decided by the fixed size"] if count else []


def _rename_what_is_taken(body: onnx.GraphProto, names: set[str], number: int) -> None:
    """Give what a branch makes names that nothing else has: the branches of several If may use the same."""
    made = {tensor.name for tensor in body.initializer}.union(*(node.output for node in body.node))
    fresh = {name: f"{name}/if{number}" for name in made & names}
    while names.intersection(fresh.values()):
        fresh = {name: f"{new}_" for name, new in fresh.items()}
    OnnxGraph(body).rename(fresh)
    names |= (made - set(fresh)) | set(fresh.values())


def switch_to_inference(graph: onnx.GraphProto) -> list[str]:
    """BatchNormalization takes its stored statistics and Dropout does nothing, whatever mode was exported."""
    normalisations = 0
    for node in nested_nodes(graph):
        if node.op_type == "BatchNormalization" and (len(node.output) > 1 or attribute(node, "training_mode", 0)):
            normalisations += 1
            del node.output[1:]
            kept = [entry for entry in node.attribute if entry.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
        if node.op_type == "Dropout":
            del node.input[1:]
    return [f"{normalisations} BatchNormalization switched from training to inference"] if normalisations else []


def cut_at_logits(graph: onnx.GraphProto, end: Ending, output: str) -> list[str]:
    """Make the logits the only output and drop what they do not need."""
    others = [repr(value.name) for value in graph.output if value.name != output]
    before = len(graph.node)
    del graph.output[:]
    graph.output.add().name = end.tensor
    OnnxGraph(graph).drop_unused()
    lines = [f"removed behind the logits: {', '.join(end.removed)}"] if end.removed else []
    if others:
        lines.append(f"outputs left out: {', '.join(others)} (with {before - len(graph.node)} nodes)")
    return lines


def bypass_identities(graph: onnx.GraphProto) -> list[str]:
    """Remove Identity and Dropout; those inside control flow stay."""
    names: dict[str, str] = {}
    kept, removed = [], []
    for node in graph.node:
        if node.op_type in ("Identity", "Dropout"):
            names[node.output[0]] = names.get(node.input[0], node.input[0])
            removed.append(node.op_type)
        else:
            kept.append(node)
    edited = OnnxGraph(graph)
    edited.replace_nodes(kept)
    edited.rename(names)
    return [f"removed {removed.count(kind)} {kind}" for kind in ("Identity", "Dropout") if kind in removed]


def fix_input(graph: onnx.GraphProto, shape: tuple[int, ...]) -> list[str]:
    """Give the input a static shape."""
    dims = graph.input[0].type.tensor_type.shape.dim
    stated = tuple(dim.dim_value for dim in dims)
    del dims[:]
    for size in shape:
        dims.add().dim_value = size
    return [] if stated == shape else [f"input fixed to {'x'.join(map(str, shape))}"]


def has_half_floats(graph: onnx.GraphProto) -> bool:
    """Tell whether anything in the graph is float16 or bfloat16."""
    kinds = require("onnx", "compile").TensorProto
    return bool(_float_types(graph) & {kinds.FLOAT16, kinds.BFLOAT16})


def cast_to_float32(graph: onnx.GraphProto) -> list[str]:
    """Turn every other floating-point type into float32, and an image input of uint8 too."""
    tools = require("onnx", "compile")
    kinds = tools.TensorProto
    others = {kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16}
    seen = sorted(kinds.DataType.Name(kind).lower() for kind in _float_types(graph) & others)
    for body in nested_graphs(graph):
        for tensor in _constants(body):
            if tensor.data_type in others:
                value = tools.numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(tools.numpy_helper.from_array(value, tensor.name))
        for entry in _cast_types(body):
            entry.i = kinds.FLOAT if entry.i in others else entry.i
        for value in (*body.input, *body.output, *body.value_info):
            if value.type.tensor_type.elem_type in others:
                value.type.tensor_type.elem_type = kinds.FLOAT
    lines = [f"{' and '.join(seen)} became float32"] if seen else []
    if graph.input[0].type.tensor_type.elem_type == kinds.UINT8:
        graph.input[0].type.tensor_type.elem_type = kinds.FLOAT
        lines.append("the uint8 input became float32 of 0-255: the graph normalises by itself")
    return lines


def _float_types(graph: onnx.GraphProto) -> set[int]:
    types = {value.type.tensor_type.elem_type for value in graph.input}
    for body in nested_graphs(graph):
        types.update(tensor.data_type for tensor in _constants(body))
        types.update(entry.i for entry in _cast_types(body))
    return types


def _constants(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    entries = [entry for node in graph.node for entry in node.attribute]
    return [*graph.initializer, *(entry.t for entry in entries if entry.HasField("t"))]


def _cast_types(graph: onnx.GraphProto) -> list[onnx.AttributeProto]:
    casts = [node for node in graph.node if node.op_type == "Cast"]
    return [entry for node in casts for entry in node.attribute if entry.name == "to"]
