"""Small edits of an ONNX graph that several steps need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np

from edgeseg.errors import CompileError

if TYPE_CHECKING:
    import onnx

__all__ = ["attribute", "drop_unused_initializers", "lift_constants", "read_names", "sort_nodes", "whole_factor"]


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((a.i for a in node.attribute if a.name == name), default)


def lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initializers, so that there is one kind of constant."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    del graph.node[:]
    graph.node.extend(kept)


def read_names(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node reads, and those that the bodies of its control flow read from around it."""
    names = set(node.input)
    for entry in node.attribute:
        for body in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
            made = {value.name for value in (*body.input, *body.initializer)}
            made.update(name for inner in body.node for name in inner.output)
            read = {value.name for value in body.output}.union(*(read_names(inner) for inner in body.node))
            names |= read - made
    return names


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    used = {name for node in graph.node for name in read_names(node)}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Order the nodes so that every tensor is made before it is read. Raises CompileError when that is impossible."""
    ready = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        now = [node for node in waiting if read_names(node) <= ready]
        if not now:
            raise CompileError(f"the graph has a cycle or a missing tensor near {waiting[0].name!r}")
        ordered += now
        ready.update(output for node in now for output in node.output)
        done = {id(node) for node in now}
        waiting = [node for node in waiting if id(node) not in done]
    del graph.node[:]
    graph.node.extend(ordered)


def whole_factor(
    resize: onnx.NodeProto, constants: Mapping[str, np.ndarray], small: Sequence[int], large: Sequence[int]
) -> int:
    """The whole factor by which a Resize enlarges both axes of a map; 0 when there is none.

    A factor of 2.01 can make twice as many pixels, at other places: what counts are its ``scales``, where it has them.

    Args:
        resize: the node.
        constants: values of constants by name.
        small, large: height and width before and behind it.
    """
    factor = large[0] // small[0] if small[0] else 0
    if not factor or [side * factor for side in small] != list(large):
        return 0
    name = resize.input[2] if len(resize.input) > 2 else ""
    if not name:
        return factor if len(resize.input) > 3 and resize.input[3] else 0
    scales = constants.get(name)
    return factor if scales is not None and np.array_equal(scales, [1, 1, factor, factor]) else 0
