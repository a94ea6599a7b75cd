"""One class for what the compiler's steps ask of an ONNX graph and do to it, and what they ask of its nodes.

It works on protobuf messages. ``onnx-ir`` would rewrite every message when it writes a graph (names of values, order of
initializers, dropped fields), and what is emitted has to stay the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

import numpy as np

from edgeseg.errors import CompileError, first_line, require

if TYPE_CHECKING:
    import onnx

__all__ = [
    "OnnxGraph",
    "attribute",
    "checked_onnx",
    "copied_onnx",
    "dims_of",
    "input_name",
    "nested_graphs",
    "nested_nodes",
    "node_name",
    "read_names",
    "whole_factor",
    "with_outputs",
]

_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


class OnnxGraph:
    """A graph under edit, with an index of who makes and who reads each tensor.

    ``lift_constants``, ``rename``, ``drop_unused`` and ``sort`` take the index anew. Nodes that are added, removed or
    changed by hand are not in it: a step that inserts nodes goes on seeing the graph as it was.

    Args:
        proto: the graph; it is edited in place.
        bodies: count the nodes in the bodies of control flow among its own. Else a node also reads what its bodies
            read from around it.

    Attributes:
        proto: the graph.
        nodes: in graph order.
        makers: node by the tensors that it makes.
        positions: place in graph order by tensor.
        constants: initializers, and tensors of Constant nodes, by name.
        shapes: sizes by tensor, where they are stated; 0 for a size that is not fixed.
        types: ONNX element type by tensor, where it is stated.
    """

    def __init__(self, proto: onnx.GraphProto, *, bodies: bool = False) -> None:
        self.proto, self._bodies = proto, bodies
        self._index()

    def _index(self) -> None:
        graph = self.proto
        self.nodes = tuple(nested_nodes(graph)) if self._bodies else tuple(graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.positions = {name: place for place, node in enumerate(self.nodes) for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input if self._bodies else _every_read(node):
                self._readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in self.nodes:
            for entry in node.attribute if node.op_type == "Constant" else ():
                if entry.name == "value" and entry.HasField("t"):
                    self.constants.update((name, entry.t) for name in node.output[:1])
        self.shapes = {name: list(tensor.dims) for name, tensor in self.constants.items()}
        self.types = {name: tensor.data_type for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.output, *graph.value_info):
            self.shapes.setdefault(value.name, dims_of(value))
            self.types.setdefault(value.name, value.type.tensor_type.elem_type)

    def of(self, *operators: str) -> list[onnx.NodeProto]:
        """Return the nodes of some operators, in graph order."""
        return [node for node in self.nodes if node.op_type in operators]

    def maker(self, tensor: str, *operators: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor, if it is of one of the operators, or if none is named."""
        node = self.makers.get(tensor)
        return node if node is not None and (not operators or node.op_type in operators) else None

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, once per input that does."""
        return self._readers.get(tensor, [])

    def value(self, tensor: str) -> np.ndarray | None:
        """Return the value of a constant; None for what is computed or stored outside the file.

        Raises:
            CompileError: the constant is damaged.
        """
        constant = self.constants.get(tensor)
        if constant is None or constant.data_location == constant.EXTERNAL:
            return None
        try:
            return np.array(require("onnx", "compile").numpy_helper.to_array(constant))
        except (ValueError, TypeError, KeyError) as error:
            raise CompileError(f"the constant {tensor!r} cannot be read: {first_line(error)}; export again") from error

    def unused_name(self, name: str) -> str:
        """Return the name, or that name made longer, that no tensor of the graph has now, in bodies neither."""
        used = {used for node in nested_nodes(self.proto) for used in (*node.input, *node.output)}
        used |= {tensor.name for tensor in self.proto.initializer}
        while name in used:
            name += "_"
        return name

    def add(
        self, operator: str, inputs: Sequence[str], output: str, *, name: str = "", at: int | None = None, **how: Any
    ) -> str:
        """Add a node that makes one tensor, and return that tensor's name.

        Args:
            operator: of ONNX.
            inputs: tensors that it reads.
            output: the tensor; the node is called like it unless ``name`` says otherwise.
            name: of the node.
            at: place among the nodes; None for the end.
            how: its attributes.
        """
        node = require("onnx", "compile").helper.make_node(operator, inputs, [output], name or output, **how)
        self.proto.node.insert(len(self.proto.node) if at is None else at, node)
        return output

    def remove(self, *nodes: onnx.NodeProto) -> None:
        """Remove nodes."""
        for node in nodes:
            self.proto.node.remove(node)

    def add_constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """Add an initializer and return its name."""
        tensor = self.proto.initializer.add()
        tensor.CopyFrom(require("onnx", "compile").numpy_helper.from_array(np.asarray(value), name))
        self.constants[name] = tensor
        return name

    def set_constant(self, name: str, value: np.ndarray) -> None:
        """Give a constant another value, also of another shape or type."""
        self.constants[name].CopyFrom(require("onnx", "compile").numpy_helper.from_array(value, name))

    def give(self, name: str, kind: int = 1, shape: Sequence[int | str] | None = None) -> None:
        """Let the graph give a tensor of an ONNX element type (float32) and a shape (unknown)."""
        self.proto.output.append(require("onnx", "compile").helper.make_tensor_value_info(name, kind, shape))

    def lift_constants(self) -> None:
        """Turn Constant nodes of numbers and tensors into initializers, so that there is one kind of constant."""
        kept = []
        for node in self.proto.node:
            value = _constant(node) if node.op_type == "Constant" else None
            if value is None:
                kept.append(node)
            else:
                self.add_constant(node.output[0], value)
        self.replace_nodes(kept)

    def replace_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Let the graph have these nodes, in this order."""
        kept = list(nodes)
        del self.proto.node[:]
        self.proto.node.extend(kept)
        self._index()

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names, inside control flow too."""
        for body in nested_graphs(self.proto):
            for node in body.node:
                for fields in (node.input, node.output):
                    for index, name in enumerate(fields):
                        fields[index] = names.get(name, name)
            for value in (*body.initializer, *body.input, *body.output):
                value.name = names.get(value.name, value.name)
        self._index()

    def drop_unused_constants(self) -> None:
        """Remove initializers that no node reads."""
        used = {name for node in self.proto.node for name in read_names(node)}
        self._keep_constants(used)

    def drop_unused(self) -> None:
        """Remove the nodes and initializers of a sorted graph that no output needs."""
        needed = {value.name for value in self.proto.output}
        kept = []
        for node in reversed(self.proto.node):
            if not needed.isdisjoint(node.output):
                kept.append(node)
                needed |= read_names(node)
        self._keep_constants(needed)
        self.replace_nodes(kept[::-1])

    def _keep_constants(self, names: set[str]) -> None:
        kept = [tensor for tensor in self.proto.initializer if tensor.name in names]
        del self.proto.initializer[:]
        self.proto.initializer.extend(kept)
        self._index()

    def sort(self) -> None:
        """Order the nodes so that every tensor is made before it is read.

        Raises:
            CompileError: that is impossible.
        """
        ready = {value.name for value in (*self.proto.input, *self.proto.initializer)} | {""}
        waiting, ordered = [(node, read_names(node)) for node in self.proto.node], []
        while waiting:
            now = [node for node, read in waiting if read <= ready]
            if not now:
                raise CompileError(f"the graph has a cycle or a missing tensor near {waiting[0][0].name!r}")
            ordered += now
            ready.update(output for node in now for output in node.output)
            done = {id(node) for node in now}
            waiting = [(node, read) for node, read in waiting if id(node) not in done]
        self.replace_nodes(ordered)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or the default where the node does not state it.

    Args:
        node: of any operator.
        name: of the attribute.
        default: also says the type: int, float, str, tuple for a list, None for any.

    Raises:
        CompileError: the attribute is of another type.
    """
    for entry in node.attribute:
        if entry.name == name:
            value = _attribute_value(entry)
            expected = list if isinstance(default, tuple) else type(default)
            if default is not None and not isinstance(value, expected):
                raise CompileError(
                    f"the graph is not valid ONNX: {name} of {node_name(node)} is a {type(value).__name__}"
                )
            return value
    return default


def _attribute_value(entry: onnx.AttributeProto) -> Any:
    try:
        value = require("onnx", "compile").helper.get_attribute_value(entry)
    except ValueError as error:
        raise CompileError(f"the graph is not valid ONNX: {first_line(error)}; export it again") from error
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _constant(node: onnx.NodeProto) -> np.ndarray | None:
    """The value of a Constant node; None where it is a text or sparse."""
    tools = require("onnx", "compile")
    for entry in node.attribute:
        if entry.name == "value" and entry.HasField("t"):
            return np.asarray(tools.numpy_helper.to_array(entry.t))
        if entry.name in _NUMBERS:
            return np.array(tools.helper.get_attribute_value(entry), _NUMBERS[entry.name])
    return None


def input_name(node: onnx.NodeProto, index: int) -> str:
    """Return the name of an input; empty when it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""


def node_name(node: onnx.NodeProto) -> str:
    """Return what people find a node by: its name, else its first output, else its operator."""
    return str(node.name or "".join(node.output[:1]) or node.op_type)


def dims_of(value: onnx.ValueInfoProto) -> list[int]:
    """Return the shape that is stated for a tensor, 0 for sizes that are not fixed."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def nested_graphs(*graphs: Any) -> Iterator[Any]:
    """Yield graphs or functions, and the bodies of the control flow inside them."""
    waiting = list(graphs)
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [body for node in graph.node for body in bodies_of(node)]


def nested_nodes(graph: Any) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph or function, each followed by those of its bodies."""
    for node in graph.node:
        yield node
        for body in bodies_of(node):
            yield from nested_nodes(body)


def bodies_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node of control flow runs."""
    single = [entry.g for entry in node.attribute if entry.HasField("g")]
    return single + [body for entry in node.attribute for body in entry.graphs]


def read_names(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that a node reads, and those that its bodies read from around it."""
    return set(_every_read(node))


def _every_read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for body in bodies_of(node):
        made = {value.name for value in (*body.input, *body.initializer)}
        made.update(name for inner in body.node for name in inner.output)
        read = {value.name for value in body.output}.union(*(read_names(inner) for inner in body.node))
        yield from sorted(read - made)


def copied_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model."""
    copy: onnx.ModelProto = type(model)()
    copy.CopyFrom(model)
    return copy


def checked_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with the type and shape of every tensor, inferred anew and checked.

    Raises:
        onnx.shape_inference.InferenceError, onnx.checker.ValidationError: the model is not valid.
    """
    tools = require("onnx", "compile")
    inferred: onnx.ModelProto = tools.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    tools.checker.check_model(inferred)
    return inferred


def with_outputs(model: onnx.ModelProto, names: Sequence[str], *, only: bool = False) -> onnx.ModelProto:
    """Return a copy of a model that gives tensors from inside, float32, behind its outputs or instead of them."""
    copy = copied_onnx(model)
    if only:
        del copy.graph.output[:]
    graph, stated = OnnxGraph(copy.graph), {value.name for value in copy.graph.output}
    for name in names:
        if name not in stated:
            graph.give(name)
    return copy


def whole_factor(graph: OnnxGraph, resize: onnx.NodeProto) -> int:
    """Return the whole factor by which a Resize enlarges both axes of a map; 0 when there is none.

    A factor of 2.01 can make twice as many pixels, at other places: what counts are its ``scales``, where it has them.
    """
    small, large = graph.shapes[resize.input[0]][2:], graph.shapes[resize.output[0]][2:]
    factor = large[0] // small[0] if small[0] else 0
    if not factor or [side * factor for side in small] != large:
        return 0
    if not input_name(resize, 2):
        return factor if input_name(resize, 3) else 0
    scales = graph.value(resize.input[2])
    return factor if scales is not None and np.array_equal(scales, [1, 1, factor, factor]) else 0
