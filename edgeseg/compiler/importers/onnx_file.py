"""Reading an ONNX file that somebody else wrote, in pure Python: whatever the bytes are, a model or one CompileError.

Nothing here hands the content to native code. ONNX's own shape inference and operators can abort the process on a
malformed graph although the ONNX checker passed it; what needs them runs in ``isolation``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from edgeseg.compiler.graph.onnx_graph import bodies_of, nested_graphs
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["check_structure", "loaded_onnx", "opset_of"]

LARGEST_BYTES = 2**31 - 1
"""What one protobuf message, and so one model with its weights inside, can hold."""
MOST_NODES = 50_000
_MOST_FUNCTIONS = 2_000
_NOT_ONNX = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run: git lfs pull",
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint or a bundle?), not ONNX; export with torch.onnx.export",
    b"\x89HDF": "an HDF5 file (a Keras model?), not ONNX; convert with tf2onnx",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
}
_TYPED_FIELDS = {
    "FLOAT": "float_data",
    "DOUBLE": "double_data",
    "INT64": "int64_data",
    "UINT32": "uint64_data",
    "UINT64": "uint64_data",
    **dict.fromkeys(("UINT8", "INT8", "UINT16", "INT16", "INT32", "BOOL", "FLOAT16", "BFLOAT16"), "int32_data"),
}
_BYTES = {"DOUBLE": 8, "INT64": 8, "UINT64": 8, "FLOAT": 4, "INT32": 4, "UINT32": 4, "UINT8": 1, "INT8": 1, "BOOL": 1}


def loaded_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with the weights that lie beside it.

    Args:
        path: of the ``.onnx`` file; external data is looked up relative to it and nowhere else.

    Returns:
        The model as the file states it, all weights inside, its structure checked (``check_structure``).

    Raises:
        CompileError: the file is missing, truncated, not ONNX, larger than 2 GB, or its weights cannot be read.
    """
    tools, message = require("onnx", "compile"), require("google.protobuf.message", "compile")
    content = _content(path)
    model: onnx.ModelProto = tools.ModelProto()
    try:
        model.ParseFromString(content)
    except message.DecodeError as error:
        raise CompileError(f"{path} is {_what_it_is(content)}") from error
    if not model.HasField("graph"):
        raise CompileError(f"{path} is {_what_it_is(content)}")
    try:
        _check_text(model)
        _read_external_data(model, path.resolve().parent)
        check_structure(model)
    except CompileError as error:
        raise CompileError(f"{path}: {error}") from error
    return model


def check_structure(model: onnx.ModelProto) -> None:
    """Refuse what is not a runnable ONNX graph with all its weights inside.

    Raises:
        CompileError: names that are no text, tensors whose data does not fill their shape, weights outside the model,
            tensors read before they are made, operators of other domains, recursion, no input, no output.
    """
    _check_text(model)
    if not model.graph.node or not model.graph.output:
        raise CompileError(f"the graph has {len(model.graph.node)} nodes and {len(model.graph.output)} outputs: empty")
    opset_of(model)
    _check_functions(model)
    if sum(len(graph.node) for graph in nested_graphs(model.graph, *model.functions)) > MOST_NODES:
        raise CompileError(f"the graph has more than {MOST_NODES} nodes; no segmentation network needs as many")
    for tensor in _tensors(model):
        _check_tensor(tensor)
    _check_operators(model)
    _check_arity(model)
    _check_order(model.graph, ())
    weights = {tensor.name for tensor in model.graph.initializer}
    if all(value.name in weights for value in model.graph.input):
        raise CompileError("the graph has no input")


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the ONNX operators. Raises CompileError when there is none or it is not known here."""
    tools = require("onnx", "compile")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = tools.defs.onnx_opset_version()
    if len(versions) != 1 or not 1 <= versions[0] <= newest:
        seen = ", ".join(map(str, versions)) or "none"
        raise CompileError(f"the graph states opset {seen}, this onnx reads 1 to {newest}; export with opset 17")
    return int(versions[0])


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise CompileError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise CompileError(f"{path} has {size / 2**30:.1f} GB; ONNX ends at 2 GB and a camera's network far below")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CompileError(f"{path} cannot be read: {error}") from error
    if not content:
        raise CompileError(f"{path} is empty; copy or export it again")
    return content


def _what_it_is(content: bytes) -> str:
    known = (what for start, what in _NOT_ONNX.items() if content.startswith(start))
    return next(known, "not an ONNX model, or truncated; copy or export it again")


def _check_text(message: Any) -> None:
    """Protobuf hands out a text field as bytes when it is no UTF-8."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting += [value] if hasattr(value, "ListFields") else value
            elif field.type == field.TYPE_STRING:
                for text in [value] if isinstance(value, (str, bytes)) else value:
                    if isinstance(text, bytes):
                        raise CompileError(
                            f"a {field.name} in the graph is no text ({text[:20]!r}): the file is damaged"
                        )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in nested_graphs(model.graph, *model.functions):
        yield from getattr(graph, "initializer", ())
        if getattr(graph, "sparse_initializer", ()):
            raise CompileError("the graph has sparse weights; export it with dense ones")
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise CompileError("the graph has sparse weights; export it with dense ones")
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _read_external_data(model: onnx.ModelProto, folder: Path) -> None:
    tools = require("onnx", "compile")
    outside = [t for t in _tensors(model) if t.data_location == tools.TensorProto.EXTERNAL]
    total = sum(_size_bytes(tensor) for tensor in outside)
    if total > LARGEST_BYTES:
        raise CompileError(
            f"the weights have {total / 2**30:.1f} GB; ONNX ends at 2 GB and a camera's network far below"
        )
    for tensor in outside:
        tensor.raw_data = _external_bytes(tensor, folder)
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _external_bytes(tensor: onnx.TensorProto, folder: Path) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, size = entries.get("location", ""), _size_bytes(tensor)
    try:
        path = (folder / location).resolve()
        if not location or folder not in path.parents:
            raise CompileError(f"weight {tensor.name!r} lies at {location!r}, outside the folder of the model")
        if not path.is_file():
            raise CompileError(
                f"weight {tensor.name!r} lies in {location!r}, which is missing; copy it beside the model"
            )
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        if length != size or offset < 0 or offset + size > path.stat().st_size:
            raise CompileError(
                f"weight {tensor.name!r} needs {size} bytes, {location!r} of {path.stat().st_size} bytes has {length} "
                f"at {offset}; copy or export both files again"
            )
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except (OSError, ValueError) as error:
        raise CompileError(f"weight {tensor.name!r} cannot be read from {location!r}: {error}") from error


def _size_bytes(tensor: onnx.TensorProto) -> int:
    tools = require("onnx", "compile")
    names = {number: name for name, number in tools.TensorProto.DataType.items()}
    kind = names.get(tensor.data_type, str(tensor.data_type))
    if kind not in _TYPED_FIELDS:
        raise CompileError(f"weight {tensor.name!r} is of type {kind}, which a float network does not have")
    if len(tensor.dims) > 16 or any(dim < 0 for dim in tensor.dims):
        raise CompileError(f"weight {tensor.name!r} has the shape {list(tensor.dims)[:16]}: the file is damaged")
    return int(math.prod(tensor.dims)) * _BYTES.get(kind, 2)


def _check_tensor(tensor: onnx.TensorProto) -> None:
    tools = require("onnx", "compile")
    if tensor.data_location == tools.TensorProto.EXTERNAL:
        raise CompileError(f"weight {tensor.name!r} lies outside the model; read it with loaded_onnx")
    expected, kind = _size_bytes(tensor), tools.TensorProto.DataType.Name(tensor.data_type)
    if tensor.HasField("raw_data"):
        seen = len(tensor.raw_data)
    else:
        seen = len(getattr(tensor, _TYPED_FIELDS[kind])) * _BYTES.get(kind, 2)
    if seen != expected:
        raise CompileError(
            f"weight {tensor.name!r} of shape {list(tensor.dims)} needs {expected} bytes and has {seen}: the file is "
            "damaged; copy or export it again"
        )


def _check_operators(model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    strange = {
        f"{node.op_type!r} of {node.domain!r}"
        for graph in nested_graphs(model.graph, *model.functions)
        for node in graph.node
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in own
    }
    if strange:
        raise CompileError(
            f"the graph uses operators that are not ONNX's: {', '.join(sorted(strange)[:5])}; "
            "export without runtime-specific optimisation or plug-ins"
        )


def _check_arity(model: onnx.ModelProto) -> None:
    """Every ONNX operator exists in the opset that the graph states, and has the inputs and outputs that it needs."""
    defs = require("onnx", "compile").defs
    opset = opset_of(model)
    for node in (node for graph in nested_graphs(model.graph) for node in graph.node):
        if node.domain not in ("", "ai.onnx"):
            continue
        if not defs.has(node.op_type, opset, ""):
            raise CompileError(f"{node.op_type!r} {node.name!r} is no operator of ONNX opset {opset}")
        schema = defs.get_schema(node.op_type, opset, "")
        inputs, outputs = len(node.input), len(node.output)
        if not (schema.min_input <= inputs <= schema.max_input and schema.min_output <= outputs <= schema.max_output):
            raise CompileError(
                f"{node.op_type} {node.name!r} has {inputs} inputs and {outputs} outputs; opset {opset} allows no such"
            )


def _check_functions(model: onnx.ModelProto) -> None:
    """Functions may call each other, but not in a circle, and not so that they unfold without end."""
    bodies = {(function.domain, function.name): function for function in model.functions}
    if len(bodies) != len(model.functions) or len(bodies) > _MOST_FUNCTIONS:
        raise CompileError(f"the graph has {len(model.functions)} functions under {len(bodies)} names")
    calls = {key: [call for call in _calls(body) if call in bodies] for key, body in bodies.items()}
    unfolded: dict[tuple[str, str], int] = {}
    while len(unfolded) < len(bodies):
        ready = [key for key in bodies if key not in unfolded and all(call in unfolded for call in calls[key])]
        if not ready:
            raise CompileError("a function of the graph calls itself")
        for key in ready:
            unfolded[key] = len(bodies[key].node) + sum(unfolded[call] for call in calls[key])
    if sum(unfolded.get(call, 0) for call in _calls(model.graph)) > MOST_NODES:
        raise CompileError(f"the functions of the graph unfold to more than {MOST_NODES} nodes")


def _calls(graph: Any) -> list[tuple[str, str]]:
    return [(node.domain, node.op_type) for body in nested_graphs(graph) for node in body.node]


def _check_order(graph: Any, outer: tuple[set[str], ...]) -> None:
    """Every tensor is made once, and before it is read."""
    made = {value.name for value in (*graph.input, *graph.initializer)}
    scopes = (*outer, made)
    for node in graph.node:
        for name in filter(None, node.input):
            if not any(name in scope for scope in scopes):
                raise CompileError(f"{node.op_type} {node.name!r} reads {name!r}, which nothing before it makes")
        for body in bodies_of(node):
            _check_order(body, scopes)
        for name in filter(None, node.output):
            if name in made:
                raise CompileError(f"{name!r} is made twice, again by {node.op_type} {node.name!r}")
            made.add(name)
    for value in graph.output:
        if not any(value.name in scope for scope in scopes):
            raise CompileError(f"the output {value.name!r} is made by no node")
