"""Partition a graph into the kernels that TensorRT would fuse it into: what each computes, reads and writes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Collection, Iterable, Mapping, Sequence

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, node_name
from edgeseg.errors import CompileError

if TYPE_CHECKING:
    import onnx

__all__ = ["Kernel", "fused_kernels", "input_bytes", "total_macs"]

_VIEWS = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Pad")
_SCALES = ("QuantizeLinear", "DequantizeLinear")
_SHAPES = ("Shape", "Size", "Constant", "ConstantOfShape", "Range")
_POINTWISE = frozenset(
    (
        "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "BitShift",
        "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos",
        "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
        "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod",
        "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
        "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu",
        "Where", "Xor",
    )
)  # fmt: skip
_KINDS = {
    **dict.fromkeys(("Gemm", "MatMul"), "product"),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"), "pool"),
    **dict.fromkeys(("Resize", "Upsample"), "resize"),
    **dict.fromkeys(("Slice", "Split", "Concat", "Gather", "Tile", "DepthToSpace", "SpaceToDepth"), "copy"),
    "Conv": "convolution",
    "ConvTranspose": "transposed",
}
_DENSE = ("convolution", "pointwise-convolution", "grouped", "transposed", "product")
_TAKES_POINTWISE = (*_DENSE, "depthwise", "pointwise")
_PASSES = frozenset(
    (
        "AffineGrid", "ArgMax", "ArgMin", "CenterCropPad", "Col2Im", "Compress", "CumProd", "CumSum", "EyeLike",
        "GatherElements", "GatherND", "GlobalLpPool", "GridSample", "GroupNormalization", "Hardmax",
        "InstanceNormalization", "LRN", "LayerNormalization", "LogSoftmax", "LpNormalization", "LpPool", "MaxRoiPool",
        "MaxUnpool", "MeanVarianceNormalization", "NonZero", "OneHot", "RMSNormalization", "ReduceL1", "ReduceL2",
        "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
        "ReverseSequence", "RoiAlign", "RotaryEmbedding", "Scatter", "ScatterElements", "ScatterND", "Softmax",
        "TensorScatter", "TopK", "Trilu",
    )
)  # fmt: skip
"""Operators that take as long as it takes to read and to write."""
_KNOWN = frozenset((*_VIEWS, *_SCALES, *_SHAPES, *_POINTWISE, *_KINDS, *_PASSES, "Transpose"))
"""Operators whose work is counted. A forecast without that of others would be too low."""
_FLOATS = (1, 10, 11, 16)
_WIDTHS = {2: 1, 3: 1, 9: 1, 4: 2, 5: 2, 10: 2, 16: 2}
"""ONNX element type -> bytes, where they are not four: TensorRT has 64 bits in 32."""


@dataclass(frozen=True)
class Kernel:
    """One launch on the GPU. Sizes are for the whole batch, and in values: their width is that of the precision.

    Attributes:
        name: the ONNX node that it is named after.
        kind: convolution, pointwise-convolution (1x1), grouped, depthwise, transposed, product, pointwise, pool,
            resize, copy, or the lower-case ONNX operator.
        operators: ONNX operators in it, in graph order.
        macs: multiply-adds.
        rows, columns, depth, groups: of its matrix product: output pixels, output channels and products per value, of
            each of so many groups; zeros without one.
        read, written, weights: values of activations and of weights.
        fixed_bytes: bytes of tensors that have one type in every precision, such as a uint8 frame.
        is_float: whether it stays in float in an INT8 engine: all behind the last product, where nothing is quantized,
            and products that a graph with Q/DQ leaves in float.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    macs: int = 0
    rows: int = 0
    columns: int = 0
    depth: int = 0
    groups: int = 1
    read: int = 0
    written: int = 0
    weights: int = 0
    fixed_bytes: int = 0
    is_float: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {**asdict(self), "operators": list(self.operators)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Kernel:
        """Return what ``to_json`` gave. Raises KeyError, TypeError, ValueError: it is something else."""
        numbers = {name: _count(facts[name]) for name in _NUMBERS}
        operators = tuple(map(str, facts["operators"]))
        return cls(str(facts["name"]), str(facts["kind"]), operators, **numbers, is_float=bool(facts["is_float"]))


_NUMBERS = ("macs", "rows", "columns", "depth", "groups", "read", "written", "weights", "fixed_bytes")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no count")
    return value


def total_macs(kernels: Iterable[Kernel]) -> int:
    """Return the multiply-adds of all kernels."""
    return sum(kernel.macs for kernel in kernels)


def fused_kernels(
    model: onnx.ModelProto, images: Collection[str] = (), passes: Collection[str] = ()
) -> tuple[Kernel, ...]:
    """Partition a graph as TensorRT's documented fusions do.

    A convolution or product takes the pointwise nodes behind it, with the residual that is added there. Chains of
    pointwise nodes are one kernel. Views, Q/DQ, and channels that are joined or split need none, but a tensor
    that is joined a second time is copied.

    Args:
        model: with inferred shapes; a graph with Q/DQ says itself which convolutions are INT8.
        images: inputs that are no weights. Empty means all of them.
        passes: operators besides ONNX's that take as long as it takes to read and to write.

    Raises:
        CompileError: a shape is not known, or holds a size that is not fixed; the graph computes nothing, or something
            whose work is not known here.
    """
    graph = OnnxGraph(model.graph)
    own = {node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}" for node in graph.nodes}
    strange = sorted(own - _KNOWN - {*passes})
    if strange:
        raise CompileError(f"the work of {', '.join(strange)} is not known here; export a float graph without it")
    return _Partition(graph, _constants(graph, images)).kernels()


def _constants(graph: OnnxGraph, images: Collection[str]) -> set[str]:
    """Name everything that is computed before the first frame."""
    known = set(graph.constants) | {""}
    if images:
        known |= {value.name for value in graph.proto.input if value.name not in images}
    for node in graph.nodes:
        if node.op_type in _SHAPES or all(name in known for name in node.input):
            known.update(node.output)
    return known


class _Group:
    """A kernel while nodes join it."""

    def __init__(self, kind: str, node: onnx.NodeProto) -> None:
        self.kind, self.nodes = kind, [node]


class _Partition:
    """Walk the nodes of a graph and give each to a kernel."""

    def __init__(self, graph: OnnxGraph, constants: set[str]) -> None:
        self._graph, self._constants = graph, constants
        self._origin: dict[str, str] = {}
        """View -> the tensor whose memory it is."""
        self._quantized: set[str] = set()
        self._joined: set[str] = set()
        self._groups: list[_Group] = []
        self._of: dict[str, _Group] = {}
        self._nodes = [node for node in graph.nodes if not set(node.output) <= constants]
        self._has_scales = any(node.op_type in _SCALES for node in self._nodes)
        self._inner: set[int] = set()
        """Nodes of an activation function that is written as several, without the last."""
        for node in self._nodes:
            self._take_view(node)
        self._readers = self._all_readers()
        for node in self._nodes:
            self._take_activation(node)

    def kernels(self) -> tuple[Kernel, ...]:
        """Return the kernels in graph order."""
        for node in self._nodes:
            if id(node) not in self._inner and node.output[0] not in self._origin:
                self._place(node)
        kernels = [kernel for kernel in map(self._kernel, self._groups) if kernel is not None]
        if not kernels:
            raise CompileError("the graph computes nothing; pass a network")
        last = max((at for at, kernel in enumerate(kernels) if kernel.macs), default=len(kernels))
        return (*kernels[: last + 1], *(replace(kernel, is_float=True) for kernel in kernels[last + 1 :]))

    def _inputs(self, node: onnx.NodeProto) -> list[str]:
        """Return the activations that a node reads, where their memory is."""
        return [self._home(name) for name in node.input if name not in self._constants]

    def _home(self, name: str) -> str:
        while name in self._origin:
            name = self._origin[name]
        return name

    def _take_view(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if kind == "DequantizeLinear":
            self._quantized.add(node.output[0])
        is_view = kind in (*_VIEWS, *_SCALES) or (kind in ("Split", "Slice") and self._is_of_channels(node))
        if is_view and node.input[0] not in self._constants:
            self._origin.update((name, node.input[0]) for name in node.output if name)

    def _is_of_channels(self, node: onnx.NodeProto) -> bool:
        before, after = self._shape(node.input[0]), self._shape(node.output[0])
        return before[:1] == after[:1] and before[2:] == after[2:]

    def _all_readers(self) -> dict[str, list[Any]]:
        readers: dict[str, list[Any]] = {}
        for node in self._nodes:
            if node.output[0] not in self._origin:
                for name in self._inputs(node):
                    readers.setdefault(name, []).append(node)
        for value in self._graph.proto.output:
            readers.setdefault(self._home(value.name), []).append(None)
        return readers

    def _take_activation(self, node: onnx.NodeProto) -> None:
        """Recognise f(x) * x and the like, as SiLU is exported: one function of x, whatever stands between."""
        ends = self._inputs(node)
        if node.op_type not in _POINTWISE or len(ends) != 2:
            return
        for start, end in (ends, ends[::-1]):
            chain = self._chain(start, end)
            if chain:
                self._inner.update(map(id, chain))
                readers = self._readers[end]
                self._readers[end] = [one for one in readers if one is not chain[-1] and one is not node] + [node]
                return

    def _chain(self, start: str, end: str) -> list[onnx.NodeProto]:
        """Return the pointwise nodes of one reader each that lead back from a tensor to another; else nothing."""
        chain: list[onnx.NodeProto] = []
        while start != end:
            node = self._graph.maker(start)
            before = [] if node is None else sorted(set(self._inputs(node)))
            if node is None or node.op_type not in _POINTWISE or len(before) != 1 or len(self._readers[start]) != 1:
                return []
            chain.append(node)
            start = before[0]
        return chain

    def _place(self, node: onnx.NodeProto) -> None:
        kind = self._kind(node)
        kinds = self._hosts(node, kind)
        group = self._joinable(node, kinds) if kinds else None
        if group is not None:
            group.nodes.append(node)
            self._of.update((name, group) for name in node.output)
            return
        group = _Group(kind, node)
        self._groups.append(group)
        self._of.update((name, group) for name in node.output)

    def _hosts(self, node: onnx.NodeProto, kind: str) -> Sequence[str]:
        """Return the kinds of kernels that take a node: none take a product."""
        if node.op_type == "Transpose":
            return ("pointwise",)
        if node.op_type == "Slice":
            return ("resize", "pointwise")
        return _TAKES_POINTWISE if kind == "pointwise" else ()

    def _joinable(self, node: onnx.NodeProto, kinds: Sequence[str]) -> _Group | None:
        """Return the kernel that a node joins: the last of those whose only reader it is, and that write its size."""
        size = self._size(node.output[0])
        ends = [name for name in self._inputs(node) if name in self._of]
        for name in sorted(ends, key=lambda one: self._graph.positions[one], reverse=True):
            group = self._of[name]
            is_last = self._graph.makers[name] is group.nodes[-1]
            fits = self._size(name) == size or node.op_type == "Slice"
            if group.kind in kinds and is_last and fits and len(self._readers[name]) == 1:
                return group
        return None

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type in _POINTWISE:
            return "pointwise"
        if node.op_type == "Transpose":
            return "pointwise"
        if node.op_type != "Conv":
            return _KINDS.get(node.op_type, str(node.op_type).lower())
        weight, groups = self._shape(node.input[1]), attribute(node, "group", 1)
        if groups > 1:
            return "depthwise" if weight[1] == 1 else "grouped"
        return "pointwise-convolution" if math.prod(weight[2:]) == 1 else "convolution"

    def _kernel(self, group: _Group) -> Kernel | None:
        """Return a finished kernel; None where joined channels are written in place."""
        first = group.nodes[0]
        made = {name for node in group.nodes for name in node.output}
        read = [name for node in group.nodes for name in self._reads_with_inner(node) if name not in made]
        if first.op_type == "Concat":
            read = self._copied(first, read)
            if not read:
                return None
            written = {first.output[0]: sum(map(self._size, read))}
        else:
            written = {name: self._size(name) for name in group.nodes[-1].output if name}
        weights = {name for node in group.nodes for name in node.input if name in self._constants and name}
        kernel = Kernel(
            name=node_name(first),
            kind=group.kind,
            operators=tuple(node.op_type for node in group.nodes),
            read=sum(self._size(name) for name in set(read) if self._is_float(name)),
            written=sum(size for name, size in written.items() if self._is_float(name)),
            weights=sum(map(self._size_or_none, weights)) if group.kind in (*_DENSE, "depthwise") else 0,
            fixed_bytes=sum(self._width(n) * self._size(n) for n in {*read, *written} if not self._is_float(n)),
            is_float=group.kind in (*_DENSE, "depthwise")
            and self._has_scales
            and first.input[0] not in self._quantized,
        )
        return self._with_product(kernel, first)

    def _reads_with_inner(self, node: onnx.NodeProto) -> list[str]:
        """Return what a node reads, that of an activation function's inner nodes in their place."""
        ends = []
        for name in self._inputs(node):
            maker = self._graph.maker(name)
            while maker is not None and id(maker) in self._inner:
                name = self._inputs(maker)[0]
                maker = self._graph.maker(name)
            ends.append(name)
        return ends

    def _copied(self, concat: onnx.NodeProto, read: Sequence[str]) -> list[str]:
        """Return what cannot be written in place: joined elsewhere already, the graph's input, or not by channels."""
        by_channel = attribute(concat, "axis", 1) in (1, 1 - len(self._shape(concat.output[0])))
        copied = [name for name in read if not by_channel or name in self._joined or self._home(name) not in self._of]
        self._joined.update(read)
        return copied

    def _with_product(self, kernel: Kernel, node: onnx.NodeProto) -> Kernel:
        """Add what a kernel multiplies."""
        if kernel.kind == "product":
            output = self._shape(node.output[0]) or [1]
            depth = self._shape(node.input[0])[0 if attribute(node, "transA", 0) else -1]
            columns, rows = output[-1], math.prod(output[:-1])
            return replace(kernel, macs=rows * columns * depth, rows=rows, columns=columns, depth=depth)
        if kernel.kind not in (*_DENSE, "depthwise"):
            return kernel
        weight, groups = self._shape(node.input[1]), attribute(node, "group", 1)
        moved = self._shape(node.input[0] if kernel.kind == "transposed" else node.output[0])
        rows = moved[0] * math.prod(moved[2:])
        # A transposed convolution is a product of input pixels with all taps of all outputs.
        columns = math.prod(weight[1:]) if kernel.kind == "transposed" else weight[0] // groups
        depth = weight[0] // groups if kernel.kind == "transposed" else math.prod(weight[1:])
        macs = rows * columns * depth * groups
        return replace(kernel, macs=macs, rows=rows, columns=columns, depth=depth, groups=groups)

    def _is_float(self, name: str) -> bool:
        return self._graph.types.get(name, 1) in _FLOATS or name in self._origin

    def _width(self, name: str) -> int:
        return _WIDTHS.get(self._graph.types.get(name, 1), 4)

    def _size(self, name: str) -> int:
        return math.prod(self._shape(name))

    def _size_or_none(self, name: str) -> int:
        return math.prod(self._graph.shapes.get(name, [0]))

    def _shape(self, name: str) -> list[int]:
        shape = self._graph.shapes.get(name)
        if shape is None or 0 in shape:
            seen = "not known" if shape is None else f"{shape} with 0 for what is not fixed"
            maker = self._graph.maker(name)
            of = f"{name!r}" if maker is None else f"{name!r} of {maker.op_type}"
            raise CompileError(f"the shape of {of} is {seen}; export with fixed sizes, or pass `size`")
        return shape


def input_bytes(model: onnx.ModelProto) -> tuple[int, int]:
    """Return the bytes of a graph's first input and of its outputs, for one batch."""
    graph = OnnxGraph(model.graph)
    weights = set(graph.constants)
    first = next(value.name for value in graph.proto.input if value.name not in weights)
    names = [first, *(value.name for value in graph.proto.output)]
    sizes = [math.prod(graph.shapes[name]) * (_WIDTHS.get(graph.types[name], 4)) for name in names]
    return sizes[0], sum(sizes[1:])
