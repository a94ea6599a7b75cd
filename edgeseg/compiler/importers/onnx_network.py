"""ONNX files from elsewhere: what a graph says about itself, what has to be asked, and the network graph made of it.

``loaded_onnx`` reads a file, ``graph_facts`` states what it says, ``missing_facts`` lists what only its owner knows,
and ``network_graph_from_onnx`` makes the graph that the other steps take: float32 ``input`` 1x3xHxW, float32
``logits`` 1xCxHxW, opset 13 to 17, static, weights inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeseg.compiler.graph.onnx_graph import attribute
from edgeseg.compiler.importers.ending import CLASS_MAP, ending_of
from edgeseg.compiler.importers.isolation import network_graph_in_child
from edgeseg.compiler.importers.normalisation import OwnScaling, own_scaling
from edgeseg.compiler.importers.onnx_file import check_structure, loaded_onnx, opset_of
from edgeseg.compiler.importers.wanted import OwnerFacts, Wanted
from edgeseg.errors import CompileError, UsageError, require

if TYPE_CHECKING:
    import onnx

__all__ = [
    "GraphFacts",
    "InputFacts",
    "OutputFacts",
    "graph_facts",
    "leftovers",
    "loaded_onnx",
    "missing_facts",
    "network_graph_from_onnx",
    "stated_size_hw",
    "wanted_from_facts",
]

LAYOUTS = ("NCHW", "NHWC")
_FLOATS = ("float32", "float16", "float64", "bfloat16")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")
_DYNAMIC = ("Shape", "Size", "If", "Loop", "Scan", "NonZero", "ConstantOfShape", "Range", "Identity", "Dropout")


@dataclass(frozen=True)
class InputFacts:
    """An input as the file states it: shape with None for dynamic axes; layout None when it cannot be told."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    layout: str | None

    @property
    def channels(self) -> int | None:
        """Return how many the image has; None where the layout or the axis is not stated."""
        known = self.layout in LAYOUTS and len(self.shape) == 4
        return self.shape[str(self.layout).index("C")] if known else None

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {_sizes(self.shape)}"


@dataclass(frozen=True)
class OutputFacts:
    """An output as the file states it.

    Attributes:
        name, dtype, shape: with None for dynamic axes; the shape is empty when the file does not state it.
        class_count: number of channels of its logits, None when it cannot be told.
        kind: ``"logits"``, ``"probabilities"``, ``"class-map"`` or None when it cannot be told.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    class_count: int | None
    kind: str | None

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {_sizes(self.shape)}" + (f" ({self.kind})" if self.kind else "")


@dataclass(frozen=True)
class GraphFacts:
    """What an ONNX graph says about itself; ``scaling`` is how it normalises its image by itself, None where not."""

    inputs: tuple[InputFacts, ...]
    outputs: tuple[OutputFacts, ...]
    opset: int
    producer: str
    scaling: OwnScaling | None = None


def graph_facts(model: onnx.ModelProto) -> GraphFacts:
    """Read what a model states, without running it. Raises CompileError when its structure is broken."""
    check_structure(model)
    graph, opset = model.graph, opset_of(model)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    return GraphFacts(
        tuple(InputFacts(v.name, _dtype(v), _shape(v), _input_layout(graph, v.name, _shape(v))) for v in inputs),
        tuple(_output_facts(graph, value, opset) for value in graph.output),
        opset,
        " ".join(f"{model.producer_name} {model.producer_version}".split()),
        own_scaling(graph, inputs[0].name, _dtype(inputs[0])),
    )


def missing_facts(
    facts: GraphFacts,
    *,
    class_count: int | None,
    size_hw: tuple[int, int] | None,
    layout: str | None,
    output: str | None,
    normalisation: bool,
    channel_order: bool,
) -> list[str]:
    """Return what only the owner of a graph can say: one line per field that has to be said.

    Args:
        facts: of the graph.
        class_count: how many class names are known; None for none yet.
        size_hw: as in ``OwnerFacts``.
        layout: as in ``OwnerFacts``.
        output: as in ``OwnerFacts``.
        normalisation: mean and std are known.
        channel_order: RGB or BGR is known.
    """
    source = facts.inputs[0]
    lines = []
    if layout is None and source.layout is None:
        lines.append(f"`layout` NCHW or NHWC (the input is {source})")
    if size_hw is None and None in _size_hw(source.shape, layout or source.layout or "NCHW"):
        lines.append(f"`size` WIDTHxHEIGHT (the input is {source})")
    if output is None and len(facts.outputs) > 1:
        lines.append("`output` NAME (the graph gives " + ", ".join(map(str, facts.outputs)) + ")")
    if class_count is None:
        chosen = [o for o in facts.outputs if len(facts.outputs) == 1 or o.name == output]
        counted = (
            f"the graph gives {chosen[0].class_count} channels" if chosen and chosen[0].class_count else "their names"
        )
        lines.append(f"`classes` FILE ({counted})")
    if not normalisation and not (facts.scaling is not None and facts.scaling.takes == 255):
        lines.append("`mean` R,G,B and `std` R,G,B (how its training scaled images; a graph does not tell)")
    if not channel_order and source.channels != 1:
        lines.append("`channel_order` RGB or BGR (a graph does not tell)")
    return lines


def network_graph_from_onnx(model: onnx.ModelProto, owner: OwnerFacts) -> tuple[onnx.ModelProto, list[str]]:
    """Any exporter's segmentation graph -> the network graph that ``simplified_onnx`` and ``folded_onnx`` take.

    Args:
        model: as ``loaded_onnx`` gives it. One that takes uint8 normalises by itself: its spec needs mean 0, std 1/255.
        owner: what only its owner knows.

    Returns:
        The graph and a line for people per thing that was changed. Its logits equal the original's on random input
        in ONNX Runtime, and its operators neither crash nor hang there: all of that happens in a child process.

    Raises:
        UsageError: something has to be said that the graph does not, or contradicts the graph.
        CompileError: the graph is malformed, quantized, gives no logits, or does not run.
    """
    return network_graph_in_child(model, wanted_from_facts(model, owner))


def wanted_from_facts(model: onnx.ModelProto, owner: OwnerFacts) -> Wanted:
    """Decide what to make of a graph, by what it and its owner say. Raises as ``network_graph_from_onnx``."""
    facts = graph_facts(model)
    source = _only_input(facts)
    missing = missing_facts(
        facts,
        class_count=owner.class_count,
        size_hw=owner.size_hw,
        layout=owner.layout,
        output=owner.output,
        normalisation=True,
        channel_order=True,
    )
    if missing:
        raise UsageError("the graph does not tell everything; pass " + "; ".join(missing))
    _refuse_quantized(model)
    layout = _agreed_layout(source, owner.layout)
    return Wanted(
        input=source.name,
        dtype=source.dtype,
        layout=layout,
        size_hw=_agreed_size(source, layout, owner.size_hw),
        output=_agreed_output(model, facts, owner.output),
        class_count=owner.class_count,
        channels=source.shape[layout.index("C")] or 3,
        channel_order=owner.channel_order,
        sigmoids=owner.sigmoids,
        scores=owner.scores,
    )


def stated_size_hw(facts: GraphFacts, layout: str | None = None) -> tuple[int, int] | None:
    """Height and width of a graph's input in pixels, None where they are dynamic or the layout is not known."""
    source = facts.inputs[0]
    height, width = _size_hw(source.shape, layout or source.layout)
    return None if height is None or width is None else (height, width)


def leftovers(model: onnx.ModelProto) -> list[str]:
    """Operators that a static network does not need and that simplification did not remove, with their number."""
    seen = [node.op_type for node in model.graph.node if node.op_type in _DYNAMIC]
    return [f"{seen.count(operator)} {operator}" for operator in _DYNAMIC if operator in seen]


def _only_input(facts: GraphFacts) -> InputFacts:
    if len(facts.inputs) != 1:
        raise CompileError(
            f"the graph takes {len(facts.inputs)} inputs ({', '.join(map(str, facts.inputs))}), but a camera gives one "
            "image; export with one input"
        )
    source = facts.inputs[0]
    if source.dtype not in ("float32", "float16", "float64", "uint8"):
        raise CompileError(f"the input is {source}; export with a float or uint8 image as input")
    if len(source.shape) != 4:
        raise CompileError(f"the input is {source}; an image network takes 4 axes: batch, channels, height, width")
    if source.shape[0] not in (None, 1):
        raise CompileError(f"the input is {source}: a fixed batch; export with batch 1 or a dynamic batch axis")
    return source


def _agreed_layout(source: InputFacts, layout: str | None) -> str:
    agreed = layout or source.layout
    if agreed not in LAYOUTS:
        raise UsageError(f"a layout is NCHW or NHWC, got {agreed!r}")
    if source.layout is not None and agreed != source.layout:
        raise UsageError(f"`layout` says {agreed}, but the input {source} is {source.layout}")
    channels = source.shape[agreed.index("C")]
    if channels not in (None, 1, 3):
        raise CompileError(
            f"the input {source} has {channels} channels; a camera gives 3, or 1 of grey. Export it for 3: a fourth "
            "channel of ones (RGBA) can be made inside the network, but depth or infrared does not come with a frame"
        )
    return agreed


def _agreed_size(source: InputFacts, layout: str, size_hw: tuple[int, int] | None) -> tuple[int, int]:
    fixed = _size_hw(source.shape, layout)
    height, width = size_hw or fixed
    if not height or not width or min(height, width) < 1:
        raise UsageError(f"a size has a height and a width, got {height} and {width} for {source}")
    if fixed[0] not in (None, height) or fixed[1] not in (None, width):
        raise UsageError(
            f"`size` says {width}x{height}, but the graph is fixed at {_sizes(fixed[::-1])}; leave `size` out, or "
            "export with that size or with dynamic axes"
        )
    return height, width


def _agreed_output(model: onnx.ModelProto, facts: GraphFacts, output: str | None) -> str:
    named = output or facts.outputs[0].name
    inside = {name for node in model.graph.node for name in node.output if name}
    if named not in inside:
        raise UsageError(f"`output` {named!r} is not in the graph, which gives {', '.join(map(str, facts.outputs))}")
    end = ending_of(model.graph, named, facts.opset)
    declared = next((value for value in facts.outputs if value.name == named), None)
    integer = declared is not None and declared.dtype not in (*_FLOATS, "?") and end.kind != CLASS_MAP
    if end.kind_at_cut == CLASS_MAP or integer:
        inner = end.before_class_map
        instead = f"pass `output` {inner!r} if that holds the logits, or " if inner else ""
        raise CompileError(
            f"the output {named!r} is a class map, not logits, and INT8 cannot be judged or repaired on classes alone; "
            f"{instead}export without arg-max, threshold and rounding"
        )
    return named


def _refuse_quantized(model: onnx.ModelProto) -> None:
    seen = sorted({node.op_type for node in model.graph.node if node.op_type in _QUANTIZED})
    if seen:
        raise CompileError(f"the graph is quantized already ({', '.join(seen)}); hand over the float graph")


def _output_facts(graph: onnx.GraphProto, value: onnx.ValueInfoProto, opset: int) -> OutputFacts:
    end = ending_of(graph, value.name, opset)
    dtype, shape = _dtype(value), _shape(value)
    class_count = end.class_count
    if class_count is None and end.kind != CLASS_MAP and end.channel_axis is not None and len(shape) == 4:
        class_count = shape[end.channel_axis] if not end.removed else None
    kind = end.kind if dtype in (*_FLOATS, "?") else CLASS_MAP
    return OutputFacts(value.name, dtype, shape, class_count, kind)


def _input_layout(graph: onnx.GraphProto, name: str, shape: tuple[int | None, ...]) -> str | None:
    """From the axis that has three channels, or one, else from the first operators that read the input.

    Raises:
        CompileError: the columns come before the rows.
    """
    if len(shape) != 4:
        return None
    order = _first_order(graph, name)
    for channels in (3, 1):
        if shape[1] == channels != shape[3]:
            return "NCHW"
        if shape[3] == channels != shape[1]:
            if order == (0, 3, 2, 1):
                raise CompileError(
                    f"the input {name!r} has its columns before its rows (1xWxHxC): its first operator is a Transpose "
                    "by 0,3,2,1; export the network with an input of 1xHxWxC or 1xCxHxW"
                )
            return "NHWC"
    layouts: dict[tuple[int, ...], str] = {(0, 3, 1, 2): "NHWC", (0, 2, 3, 1): "NCHW", (0, 1, 2, 3): "NCHW"}
    return layouts.get(order)


def _first_order(graph: onnx.GraphProto, name: str) -> tuple[int, ...]:
    """Return how the first operators behind an input turn its axes; empty where they do neither that nor convolve."""
    names = {name}
    for node in graph.node:
        if not node.input or node.input[0] not in names:
            continue
        if node.op_type == "Conv":
            return 0, 1, 2, 3
        if node.op_type == "Transpose":
            return tuple(attribute(node, "perm", ()))
        if node.op_type in ("Identity", "Cast", "Sub", "Add", "Mul", "Div", "Pad"):
            names.update(node.output)
    return ()


def _size_hw(shape: tuple[int | None, ...], layout: str | None) -> tuple[int | None, int | None]:
    if layout not in LAYOUTS or len(shape) != 4:
        return None, None
    return shape[layout.index("H")], shape[layout.index("W")]


def _dtype(value: onnx.ValueInfoProto) -> str:
    tools = require("onnx", "compile")
    kind = value.type.tensor_type.elem_type
    names: dict[int, Any] = {number: name for name, number in tools.TensorProto.DataType.items()}
    return {"FLOAT": "float32", "DOUBLE": "float64", "UNDEFINED": "?"}.get(names.get(kind, "?"), "") or (
        names.get(kind, "?").lower()
    )


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)


def _sizes(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "of no stated shape"
