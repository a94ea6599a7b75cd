"""Bringing a graph to opset 13 to 17, the range that per-channel Q/DQ needs and TensorRT 8.5 reads.

Up goes ONNX's own converter. Down, most operators of newer opsets differ in types and options that a network does not
use: those are restated in the form of opset 17, those with a definition in older operators are replaced by it, and
what is left is refused by name. That the restated graph computes the same is for the caller to prove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, nested_graphs, nested_nodes
from edgeseg.compiler.importers.onnx_file import opset_of
from edgeseg.compiler.importers.torch_export import OPSET
from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = ["at_readable_opset"]

OLDEST = 13
_IR_VERSION = 8
_ENLARGING = ("Upsample", "Resize")
_HELD = "edgeseg.held"
"""Domain of what ONNX's converter shall not touch."""
_REMEDY = f"export with opset {OPSET} (torch.onnx.export(..., opset_version={OPSET}, dynamo=False))"
_REDUCTIONS = tuple(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)


def at_readable_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Bring a model to opset 13 to 17 and IR 8, and say a line if that changed it. Raises CompileError."""
    opset = opset_of(model)
    model.ir_version = _IR_VERSION  # up to IR 3, ONNX's converter wants every weight among the inputs
    if opset < OLDEST:
        model = _raised(model, opset)
    elif opset > OPSET:
        model = _lowered(model, opset)
    now = opset_of(model)
    _name_cast_types(model)
    del model.opset_import[:]
    model.opset_import.add().version = now
    return model, [] if now == opset else [f"opset {opset} -> {now}"]


def _raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converter = require("onnx.version_converter", "compile")
    try:
        sized = _with_sizes_in_inputs(model, opset)
        raised: onnx.ModelProto = converter.convert_version(sized, OLDEST)
    except Exception as error:  # the native converter raises RuntimeError and its own types
        raise CompileError(
            f"opset {opset} cannot be raised to {OLDEST} ({first_line(error)[:200]}); {_REMEDY}"
        ) from error
    OnnxGraph(raised.graph).lift_constants()
    return raised


def _with_sizes_in_inputs(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """At opset 11, every Upsample and Resize of an older one as a Resize that says how it samples.

    Before opset 11 both sample at ``x / scale``, and nearest neighbours are rounded down, as ONNX Runtime takes it.
    ONNX's converter drops that, and the newer default is half a pixel beside it.
    """
    if opset >= 11:
        return model
    found = [node for node in nested_nodes(model.graph) if node.op_type in _ENLARGING]
    for number, node in enumerate(found):
        node.op_type = f"{_HELD}{number}"
        node.domain = _HELD
    if not found:
        return model
    held = model.opset_import.add()
    held.domain, held.version = _HELD, 1
    raised: onnx.ModelProto = require("onnx.version_converter", "compile").convert_version(model, 11)
    OnnxGraph(raised.graph).lift_constants()
    originals = {node.op_type: node for node in found}
    for graph in nested_graphs(raised.graph):
        for node in graph.node:
            if node.domain == _HELD:
                _restate_enlargement(graph, node, originals[node.op_type])
    kept = [entry for entry in raised.opset_import if entry.domain != _HELD]
    del raised.opset_import[:]
    raised.opset_import.extend(kept)
    return raised


def _restate_enlargement(graph: onnx.GraphProto, node: onnx.NodeProto, original: onnx.NodeProto) -> None:
    tools = require("onnx", "compile")
    stated = {entry.name: tools.helper.get_attribute_value(entry) for entry in original.attribute}
    scales = node.input[1] if len(node.input) > 1 else f"{node.output[0]}/scales"
    if len(node.input) < 2:
        value = stated.get("scales") or [1, 1, stated.get("height_scale", 1), stated.get("width_scale", 1)]
        graph.initializer.append(tools.numpy_helper.from_array(np.array(value, np.float32), scales))
    mode = stated.get("mode", b"nearest").decode()
    del node.attribute[:]
    node.op_type, node.domain = "Resize", ""
    node.input[:] = [node.input[0], f"{node.output[0]}/roi", scales]
    graph.initializer.append(tools.numpy_helper.from_array(np.zeros(0, np.float32), node.input[1]))
    how = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest" if mode == "nearest" else "linear"}
    how.update({"nearest_mode": "floor"} if mode == "nearest" else {})
    node.attribute.extend(tools.helper.make_attribute(name, value) for name, value in how.items())


def _lowered(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    model = _with_functions_for_unknown(model, opset)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nested_nodes(model.graph):
        _restate(node, opset, weights)
    stated = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(tensor for name, tensor in weights.items() if name not in stated)
    for entry in model.opset_import:
        entry.version = OPSET if entry.domain in ("", "ai.onnx") else entry.version
    return model


def _with_functions_for_unknown(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Replace operators that opset 17 does not have by their ONNX definition, where there is one."""
    unknown = {node.op_type for node in nested_nodes(model.graph) if not _known(node)}
    if not unknown:
        return model
    inliner = require("onnx.inliner", "compile")
    for node in nested_nodes(model.graph):
        if node.op_type in unknown:
            _state_defaults(node, opset)
    keys = [("", name) for name in sorted(unknown)]
    inlined: onnx.ModelProto = inliner.inline_selected_functions(_typed(model), keys, inline_schema_functions=True)
    del inlined.graph.value_info[:]
    OnnxGraph(inlined.graph).lift_constants()
    left = {node.op_type for node in nested_nodes(inlined.graph) if not _known(node)}
    if left:
        raise CompileError(
            f"opset {opset} cannot be lowered to {OPSET}: it has no {', '.join(sorted(left))}; {_REMEDY}"
        )
    return inlined


def _state_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Write down the attributes that a node leaves at their defaults: the inliner does not fill them in."""
    defs = require("onnx", "compile").defs
    if not defs.has(node.op_type, opset, ""):
        return
    stated = {entry.name for entry in node.attribute}
    for name, attribute in defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in stated and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the type of every tensor, weights included, which definitions depend on."""
    tools = require("onnx", "compile")
    typed: onnx.ModelProto = tools.shape_inference.infer_shapes(model, data_prop=True)
    for tensor in typed.graph.initializer:
        value = tools.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        typed.graph.value_info.append(value)
    return typed


def _name_cast_types(model: onnx.ModelProto) -> None:
    """CastLike -> Cast to the type that its second input has: TensorRT before 10 knows only Cast.

    Definitions in older operators are full of it.
    """
    graphs = list(nested_graphs(model.graph))
    if not any(node.op_type == "CastLike" for graph in graphs for node in graph.node):
        return
    tools = require("onnx", "compile")
    types = {tensor.name: tensor.data_type for graph in graphs for tensor in graph.initializer}
    for graph in nested_graphs(tools.shape_inference.infer_shapes(model).graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            types[value.name] = value.type.tensor_type.elem_type
    for graph in graphs:
        for node in graph.node:
            kind = types.get(node.input[1], 0) if node.op_type == "CastLike" else 0
            if kind:
                node.op_type = "Cast"
                del node.input[1:]
                del node.attribute[:]
                node.attribute.append(tools.helper.make_attribute("to", kind))


def _known(node: onnx.NodeProto) -> bool:
    return bool(require("onnx", "compile").defs.has(node.op_type, OPSET, ""))


def _restate(node: onnx.NodeProto, opset: int, weights: dict[str, onnx.TensorProto]) -> None:
    """Write a node of a newer opset as opset 17 writes it."""
    defs = require("onnx", "compile").defs
    old, new = defs.get_schema(node.op_type, OPSET, ""), defs.get_schema(node.op_type, opset, "")
    if old.since_version == new.since_version:
        return
    if node.op_type in _REDUCTIONS:
        _axes_into_attribute(node, weights)
    if node.op_type == "Resize":
        _scale_all_axes(node, weights)
    for entry in list(node.attribute):
        if entry.name not in old.attributes:
            if not _says_nothing(entry, new):
                raise _not_lowered(node, opset, f"its {entry.name!r} is newer")
            node.attribute.remove(entry)
    while node.input and not node.input[-1]:
        del node.input[-1]
    if len(node.input) > old.max_input:
        raise _not_lowered(node, opset, f"its input {len(node.input)} is newer")


def _axes_into_attribute(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    tools = require("onnx", "compile")
    if len(node.input) < 2:
        return
    name = node.input[1]
    if name and name not in weights:
        raise CompileError(f"{node.op_type} {node.name!r} computes its axes while it runs; {_REMEDY}")
    axes = tools.numpy_helper.to_array(weights[name]).reshape(-1).tolist() if name else []
    del node.input[1:]
    if axes:
        node.attribute.append(tools.helper.make_attribute("axes", axes))


def _scale_all_axes(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    """Scales of rows and columns alone become scales of all four axes. Sizes of some axes stay, and are refused."""
    tools = require("onnx", "compile")
    axes = next((entry for entry in node.attribute if entry.name == "axes"), None)
    name = node.input[2] if len(node.input) > 2 else ""
    if axes is None or name not in weights or sorted(axis % 4 for axis in axes.ints) != [2, 3]:
        return
    by_axis = dict(zip((axis % 4 for axis in axes.ints), tools.numpy_helper.to_array(weights[name]).tolist()))
    node.input[2] = f"{name}/{node.output[0]}/all"
    scales = np.array([1, 1, by_axis[2], by_axis[3]], np.float32)
    weights[node.input[2]] = tools.numpy_helper.from_array(scales, node.input[2])
    node.attribute.remove(axes)


def _says_nothing(entry: onnx.AttributeProto, schema: Any) -> bool:
    """Whether an attribute states what holds without it."""
    tools = require("onnx", "compile")
    value = tools.helper.get_attribute_value(entry)
    if entry.name == "dilations":
        return bool(np.all(np.asarray(value) == 1))
    if entry.name == "num_outputs":  # without it Split divides evenly; if that is impossible the graph does not run
        return True
    default = schema.attributes[entry.name].default_value if entry.name in schema.attributes else None
    return default is not None and default.name != "" and value == tools.helper.get_attribute_value(default)


def _not_lowered(node: onnx.NodeProto, opset: int, reason: str) -> CompileError:
    return CompileError(
        f"{node.op_type} {node.name!r} of opset {opset} cannot be lowered to {OPSET}: {reason}; {_REMEDY}"
    )
