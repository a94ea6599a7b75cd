"""The rules of the lint, one small function each; ``RULES`` and ``DLA_RULES`` at the end are the list.

An error is refused by the parser or the builder, or is outside what NVIDIA documents. A warning builds, but runs
slower, in float, or with other numbers than were calibrated. A note has to be known to build or to run the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np

from edgeseg.compiler.lint.operators import first_importer, imported_operators
from edgeseg.errors import CompileError, first_line, require
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = ["DLA_RULES", "RULES", "SEVERITIES", "Graph", "Target"]

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Target:
    """A TensorRT version and what a graph must know about it.

    Attributes:
        name: key of ``lint.TARGETS``.
        tensorrt: version, (major, minor).
        opset: the newest ONNX opset that it reads.
        product: ``"TensorRT"`` or ``"TensorRT-RTX"``, whose versions count apart.
        opset_verified: whether ``opset`` was read in NVIDIA's documentation of this version.
        uint8_io: network inputs and outputs may be uint8 (8.5 and newer).
        integer_to_uint8: Cast between integers and uint8, not only between floats and uint8; None is not verified.
        int64: INT64 is a type of its own; before 10 the parser casts it to INT32.
        strongly_typed: there are no precision flags; types are those of the graph.
        implicit_int8: INT8 from a calibration cache.
        newer_axes: axes are read where opset 18 put them: an input of reductions and Pad, an attribute of Resize.
        local_functions: functions that the graph defines are read (9 and newer).
        zero_tolerant: Q/DQ without a zero point, with a uint8 zero point of 0 or with float16 scales is read.
        dla: the boards whose deep learning accelerator it can use; empty for none.
        lacks: operators that it imports and then refuses.
    """

    name: str
    tensorrt: tuple[int, int]
    opset: int
    product: str = "TensorRT"
    opset_verified: bool = True
    uint8_io: bool = True
    integer_to_uint8: bool | None = True
    int64: bool = True
    strongly_typed: bool = False
    implicit_int8: bool = True
    newer_axes: bool = True
    local_functions: bool = True
    zero_tolerant: bool = True
    dla: str = ""
    lacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.product} {self.tensorrt[0]}.{self.tensorrt[1]}"

    def loads(self, operator: str) -> bool:
        """Whether the parser takes an operator of ONNX."""
        return operator in imported_operators(self.product, self.tensorrt) and operator not in self.lacks


Rule = Callable[["Graph", Target], Iterator[Finding]]


class Graph:
    """A model as the rules read it: nodes with those of subgraphs, who makes and reads a tensor, types, constants.

    Raises:
        CompileError: it is not valid ONNX.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        tools = require("onnx", "compile")
        try:
            graph = tools.shape_inference.infer_shapes(model).graph
        except (tools.shape_inference.InferenceError, ValueError) as error:
            raise CompileError(
                f"the graph is not valid ONNX: {first_line(error)}; export it again, or check it with onnx.checker"
            ) from error
        self.types = tools.TensorProto
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        self.functions = {function.name for function in model.functions}
        self.nodes = tuple(_nested_nodes(graph))
        self.function_nodes = tuple(node for function in model.functions for node in _nested_nodes(function))
        names = (
            name for node in self.nodes for name in (node.op_type, node.domain, node.name, *node.input, *node.output)
        )
        if not all(isinstance(name, str) for name in names):
            raise CompileError("the graph is not valid ONNX: a name in it is no text; export it again")
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value for value in graph.input if value.name not in self.initializers]
        self.outputs = list(graph.output)
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._constants = dict(self.initializers)
        for node in self.of("Constant"):
            if isinstance(attribute(node, "value", None), tools.TensorProto):
                self._constants[_output(node)] = attribute(node, "value", None)
        values = [*graph.input, *graph.output, *graph.value_info]
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._types.update({name: tensor.data_type for name, tensor in self._constants.items()})

    def of(self, *operators: str) -> list[onnx.NodeProto]:
        """The nodes of some operators."""
        return [node for node in self.nodes if node.op_type in operators]

    def maker(self, tensor: str, *operators: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of one of the operators."""
        node = self._makers.get(tensor)
        return node if node is not None and node.op_type in operators else None

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is stored in the file."""
        return tensor in self._constants

    def value(self, tensor: str) -> np.ndarray | None:
        """A constant; None for what is computed or not in this file."""
        constant = self._constants.get(tensor)
        if constant is None or constant.data_location == self.types.EXTERNAL:
            return None
        try:
            return np.asarray(require("onnx", "compile").numpy_helper.to_array(constant))
        except (ValueError, TypeError, KeyError) as error:
            raise CompileError(f"the constant {tensor!r} cannot be read: {first_line(error)}; export again") from error

    def type(self, tensor: str) -> int:
        """ONNX element type of a tensor; 0 where it is unknown."""
        return int(self._types.get(tensor, 0))

    def type_name(self, tensor: str) -> str:
        """Such as ``INT64``."""
        kind = self.type(tensor)
        return str(self.types.DataType.Name(kind)) if kind in self.types.DataType.values() else f"number {kind}"

    def constants_of_type(self, kind: int) -> Iterator[str]:
        """Names of the constants of one element type."""
        return (name for name, tensor in self._constants.items() if tensor.data_type == kind)

    @property
    def quantizers(self) -> list[onnx.NodeProto]:
        """The Q/DQ nodes."""
        return self.of("QuantizeLinear", "DequantizeLinear")


def _nested_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attr in node.attribute:
            for subgraph in (attr.g, *attr.graphs):
                yield from _nested_nodes(subgraph)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, strings decoded, which must be of the default's type (a list for a tuple; None for any).

    Raises:
        CompileError: it is of another type.
    """
    for attr in node.attribute:
        if attr.name == name:
            value = require("onnx", "compile").helper.get_attribute_value(attr)
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            expected = list if isinstance(default, tuple) else type(default)
            if default is not None and not isinstance(value, expected):
                raise CompileError(f"the graph is not valid ONNX: {name} of {_at(node)} is a {type(value).__name__}")
            return value
    return default


def _input(node: onnx.NodeProto, index: int) -> str:
    """Name of an input; empty when it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""


def _output(node: onnx.NodeProto) -> str:
    """Name of the first output; empty when there is none."""
    return "".join(node.output[:1])


def _at(node: onnx.NodeProto) -> str:
    return str(node.name or _output(node) or node.op_type)


_TO_INT8 = "compile with --int8 and take the graph int8-tensorrt"
_REFUSED = {
    operator: (why, fix)
    for operators, why, fix in (
        ("DynamicQuantizeLinear ConvInteger MatMulInteger", "is dynamic INT8, which is for CPUs", _TO_INT8),
        ("QLinearConv QLinearMatMul", "is operator-format INT8", f"{_TO_INT8}, or quantize in the Q/DQ format"),
        (
            "MaxUnpool MaxRoiPool Col2Im AffineGrid CenterCropPad",
            "has no TensorRT layer",
            "upsample with Resize or ConvTranspose, crop with Slice",
        ),
        (
            "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Compress Unique Det Bernoulli Multinomial DFT "
            "MelWeightMatrix ImageDecoder StringNormalizer StringConcat StringSplit RegexFullMatch TfIdfVectorizer",
            "has no TensorRT layer",
            "take it out of the network: do it on the CPU, before or behind",
        ),
        (
            "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
            "SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement",
            "works on sequences, TensorRT on tensors",
            "return tensors from forward() and simplify with --simplifier onnxsim",
        ),
    )
    for operator in operators.split()
}


def unsupported_operators(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in (*graph.nodes, *graph.function_nodes):
        operator = node.op_type
        if operator in graph.functions or target.loads(operator) or not _defined_in(node, _NEWEST):
            continue
        since = first_importer(operator)
        why, fix = _REFUSED.get(operator, (f"has no importer in the ONNX parser of {target}", _older_operators(node)))
        if since is not None and since > target.tensorrt and target.product == "TensorRT":
            why += f"; TensorRT {since[0]}.{since[1]} was the first to have one"
        yield Finding("error", "unsupported-operator", _at(node), f"{operator} {why}", fix)


def _older_operators(node: onnx.NodeProto) -> str:
    """How to do without an operator, which depends on whether older opsets have it."""
    first = min(schema.since_version for schema in _definitions(node.op_type))
    if first <= _OLDEST_OPSET:
        return "replace it by operators that it has"
    opset = min(first - 1, 17)
    return (
        f"export with torch.onnx.export(..., dynamo=False, opset_version={opset}), which writes it in older operators"
    )


_OLDEST_OPSET = 13
"""Below it there are no scales per channel."""


def _definitions(operator: str) -> list[Any]:
    """Every version of an operator's definition in ONNX."""
    schemas = require("onnx", "compile").defs.get_all_schemas_with_history()
    return [schema for schema in schemas if schema.name == operator and schema.domain == ""]


def local_functions(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.nodes if not target.local_functions else ():
        if node.op_type in graph.functions:
            what = f"{node.op_type} is a function that the graph defines, which {target} does not read; 9 was the first"
            yield Finding("error", "local-function", _at(node), what, "inline it: onnx.inliner.inline_local_functions")


def custom_operators(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.nodes:
        plugin = node.op_type.endswith("_TRT") or node.op_type.startswith("TRT_")
        if plugin or node.op_type in graph.functions or _defined_in(node, graph.opset):
            continue
        if _defined_in(node, _NEWEST):
            what = f"{node.op_type} came to ONNX after opset {graph.opset}; ONNX Runtime refuses the graph"
            yield Finding("warning", "custom-operator", _at(node), what, "export again, at the opset that has it")
        else:
            what = f"{node.op_type} is no ONNX operator and needs a TensorRT plugin"
            fix = "start from the graph that was exported, not from one that ONNX Runtime has optimized"
            yield Finding("error", "custom-operator", _at(node), what, fix)


def opset(graph: Graph, target: Target) -> Iterator[Finding]:
    """Only a warning: the parser reads each operator by the newest definition that it knows."""
    if graph.opset <= target.opset:
        return
    newer = [node for node in graph.nodes if _defined_in(node, graph.opset) > target.opset]
    sure = "" if target.opset_verified else ", not verified"
    what = f"opset {graph.opset} is above the {target.opset} that {target} reads{sure}"
    if newer:
        what += "; redefined since: " + ", ".join(sorted({node.op_type for node in newer}))
    fix = "export with torch.onnx.export(..., dynamo=False, opset_version=17), which every TensorRT from 8.5 reads"
    yield Finding("warning", "opset", _at(newer[0]) if newer else "graph", what, fix)


_BY_INPUT = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"
"""Reductions whose axes became an input in opset 18; those of ReduceSum did in 13."""


def unread_axes(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.nodes if not target.newer_axes else ():
        reduction = node.op_type in _BY_INPUT.split() and _input(node, 1)
        padding = node.op_type == "Pad" and _input(node, 3)
        if reduction or padding or (node.op_type == "Resize" and attribute(node, "axes", ())):
            ignored = f"{target} does not look at the axes of {node.op_type} where opset 18 has them, and takes all"
            what = f"{target} refuses Pad with axes" if padding else ignored
            yield Finding("error", "unread-axes", _at(node), what, "export with opset_version=17 or older")


_NEWEST = 10**6
"""Above every opset."""


def _defined_in(node: onnx.NodeProto, opset: int) -> int:
    """The opset whose definition of an operator is in force in ``opset``; 0 for what is no ONNX operator."""
    defs = require("onnx", "compile").defs
    known = node.domain in ("", "ai.onnx") and defs.has(node.op_type, opset, "")
    return int(defs.get_schema(node.op_type, opset, "").since_version) if known else 0


def dynamic_shapes(graph: Graph, target: Target) -> Iterator[Finding]:
    for value in graph.inputs:
        shape = value.type.tensor_type.shape
        if any(dim.dim_param or dim.dim_value <= 0 for dim in shape.dim):
            seen = "x".join(f"{dim.dim_param or dim.dim_value}" for dim in shape.dim)
            what = f"the input's shape {seen} is not fixed; the engine would need an optimization profile"
            fix = "export without dynamic_axes, at the size and batch that the camera needs (--size WIDTHxHEIGHT)"
            yield Finding("error", "dynamic-shape", value.name, what, fix)


def runtime_shapes(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Shape", "Size", "ConstantOfShape", "Range", "NonZero", "If", "Loop", "Scan"):
        if target.loads(node.op_type):
            what = f"{node.op_type} is left over: shapes or control flow are computed in every frame and hinder fusion"
            fix = "export with a fixed input shape and simplify with --simplifier onnxsim"
            yield Finding("warning", "runtime-shape", _at(node), what, fix)


def training_mode(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("BatchNormalization", "Dropout"):
        mode = graph.value(_input(node, 2)) if node.op_type == "Dropout" else attribute(node, "training_mode", 0)
        unknown = node.op_type == "Dropout" and _input(node, 2) and mode is None
        if unknown or (mode is not None and np.any(mode)):
            fix = "call module.eval() before the export"
            yield Finding("error", "training-mode", _at(node), f"{node.op_type} is in training mode", fix)


def external_data(graph: Graph, target: Target) -> Iterator[Finding]:
    for name, tensor in graph.initializers.items():
        if tensor.data_location == graph.types.EXTERNAL:
            what = "the weights are in another file, which is lost when the graph is copied or parsed from memory"
            fix = "onnx.save(onnx.load(path), path, save_as_external_data=False); a bundle holds one file"
            yield Finding("error", "external-data", name, what, fix)


def element_types(graph: Graph, target: Target) -> Iterator[Finding]:
    kinds = graph.types
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


def uint8_network_io(graph: Graph, target: Target) -> Iterator[Finding]:
    for value in () if target.uint8_io else (*graph.inputs, *graph.outputs):
        if graph.type(value.name) == graph.types.UINT8:
            what = f"{target} has no uint8 network inputs and outputs; they came with 8.5"
            fix = "use JetPack 5.1 or newer, or feed float32 and return int32"
            yield Finding("error", "uint8-io", value.name, what, fix)


def uint8_readers(graph: Graph, target: Target) -> Iterator[Finding]:
    for value in graph.inputs:
        for node in graph.readers(value.name):
            quantizer = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if (
                graph.type(value.name) == graph.types.UINT8
                and not quantizer
                and node.op_type not in ("Cast", "Identity")
            ):
                what = f"{node.op_type} reads uint8, which only Cast may"
                fix = f"cast to float first, then {node.op_type} (edgeseg's folded graph does so)"
                yield Finding("error", "uint8-reader", _at(node), what, fix)


def uint8_intermediates(graph: Graph, target: Target) -> Iterator[Finding]:
    outputs = {value.name for value in graph.outputs}
    for node in graph.nodes:
        for name in node.output:
            inner = name not in outputs and node.op_type not in ("Constant", "QuantizeLinear", "DynamicQuantizeLinear")
            if inner and graph.type(name) == graph.types.UINT8:
                what = "a uint8 tensor inside the network; only inputs and outputs may be uint8"
                fix = "cast inputs to float at once, and to uint8 only as the last node"
                yield Finding("error", "uint8-intermediate", name, what, fix)


def uint8_casts(graph: Graph, target: Target) -> Iterator[Finding]:
    if target.integer_to_uint8:
        return
    integers = (graph.types.INT32, graph.types.INT64, graph.types.BOOL, graph.types.INT8)
    for node in graph.of("Cast"):
        ends = {graph.type(_input(node, 0)), graph.type(_output(node))}
        if graph.types.UINT8 in ends and ends & set(integers):
            certain = target.integer_to_uint8 is False
            what = f"Cast between uint8 and integers; {target} converts uint8 only from and to floats"
            fix = "cast through float: ArgMax -> Cast(FLOAT) -> Cast(UINT8), exact for up to 256 classes"
            yield Finding(
                "error" if certain else "warning",
                "uint8-cast",
                _at(node),
                what if certain else f"{what} by its documentation; its parser does not check (not verified)",
                fix,
            )


def int64_io(graph: Graph, target: Target) -> Iterator[Finding]:
    for value in (*graph.inputs, *graph.outputs):
        if graph.type(value.name) != graph.types.INT64:
            continue
        if target.int64:
            severity, what = "note", "an INT64 network input or output moves 8 bytes a value"
        else:
            severity, what = "warning", f"INT64 in the graph, INT32 in the engine: {target} has no INT64"
        fix = "end the network in Cast to uint8 (int32 above 256 classes), and allocate by the engine's own types"
        yield Finding(severity, "int64-io", value.name, what, fix)


def int64_constants(graph: Graph, target: Target) -> Iterator[Finding]:
    for name in () if target.int64 else graph.constants_of_type(graph.types.INT64):
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


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")


def resize_modes(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Resize"):
        coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
        nearest = attribute(node, "nearest_mode", "round_prefer_floor")
        refused = {
            f"coordinate_transformation_mode {coordinates}": coordinates not in _COORDINATES,
            f"tf_half_pixel_for_nn with nearest_mode {nearest}": coordinates == "tf_half_pixel_for_nn"
            and nearest != "round_prefer_floor",
            "antialias": bool(attribute(node, "antialias", 0)),
            "keep_aspect_ratio_policy": attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch",
        }
        fix = "use mode nearest or linear with asymmetric, half_pixel or align_corners, without antialias"
        for seen in (name for name, wrong in refused.items() if wrong):
            yield Finding("error", "resize-mode", _at(node), f"Resize with {seen} is refused", fix)
        if attribute(node, "mode", "nearest") == "cubic":
            what = (
                "NVIDIA's operator list has Resize only for nearest and linear; cubic is parsed, but slow and untested"
            )
            yield Finding("warning", "resize-cubic", _at(node), what, fix)


def resize_sizes(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Resize"):
        scales, sizes = (_input(node, index) for index in ((2, 3) if graph.opset >= 11 else (1, 3)))
        if all(graph.is_constant(name) for name in (scales, sizes) if name):
            continue
        fed = {value.name for value in graph.inputs} & {scales, sizes}
        severity = "error" if fed or (scales and not target.int64) else "warning"
        what = "the scales or sizes of Resize are computed while it runs" if not fed else "Resize's scales are an input"
        fix = "interpolate with a constant scale_factor, or simplify a fixed-shape export with --simplifier onnxsim"
        yield Finding(severity, "resize-sizes", _at(node), what, fix)


def max_pool(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("MaxPool"):
        indices = len(node.output) > 1 and node.output[1]
        if indices or any(step != 1 for step in attribute(node, "dilations", ())):
            what = f"MaxPool with {'its indices' if indices else 'dilations'} is refused"
            fix = "pool without indices (upsample with Resize) and without dilations"
            yield Finding("error", "max-pool", _at(node), what, fix)


def zero_points(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.quantizers:
        zero = graph.value(_input(node, 2))
        if zero is not None and np.any(zero):
            what = f"{node.op_type} with a zero point that is not 0: asymmetric INT8 is for CPUs"
            yield Finding("error", "zero-point", _at(node), what, f"quantize symmetrically; {_TO_INT8}")
        elif not _input(node, 2) and not target.zero_tolerant:
            what = f"{node.op_type} without a zero point, which {target} wants as an input"
            yield Finding("error", "zero-point", _at(node), what, "store an int8 zero point of 0")


def uint8_quantization(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.quantizers:
        quantizes = node.op_type == "QuantizeLinear"
        if graph.type(_output(node) if quantizes else _input(node, 0)) != graph.types.UINT8:
            continue
        fix = f"quantize to int8 with zero point 0; {_TO_INT8}"
        if not target.zero_tolerant or (not quantizes and not graph.maker(_input(node, 0), "QuantizeLinear")):
            yield Finding("error", "uint8-quantization", _at(node), f"{node.op_type} of uint8 is refused", fix)
        else:
            what = "uint8 quantization is read as int8: whatever is above 127 steps is clipped"
            yield Finding("warning", "uint8-quantization", _at(node), what, fix)


def int32_bias(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("DequantizeLinear"):
        if graph.type(_input(node, 0)) == graph.types.INT32:
            what = "DequantizeLinear of int32 (a quantized bias) is refused"
            yield Finding("error", "int32-bias", _at(node), what, f"keep the bias in float; {_TO_INT8}")


def scales(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.quantizers:
        scale = graph.value(_input(node, 1))
        if scale is None:
            continue
        if not np.all(scale > 0):
            what = "a scale of Q/DQ is not positive: its channel or tensor was always 0, or was never calibrated"
            yield Finding("error", "scale", _at(node), what, "replace 0 by a tiny scale such as 1e-8")
        if scale.size > 1 and graph.opset < 13:
            what = f"scales per channel in opset {graph.opset}: ONNX has them from 13, and the axis is ignored before"
            yield Finding("warning", "per-channel-opset", _at(node), what, "export with opset_version=17")
        if scale.dtype == np.float16 and graph.opset < 19:
            read = "reads their bits as float32" if not target.zero_tolerant else "reads them, ONNX Runtime does not"
            what = f"float16 scales in opset {graph.opset}: ONNX has them from 19; {target} {read}"
            severity = "warning" if target.zero_tolerant else "error"
            yield Finding(severity, "float16-scale", _at(node), what, "store scales as float32")


def weight_axis(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Conv", "ConvTranspose"):
        weight = graph.maker(_input(node, 1), "DequantizeLinear")
        scale = graph.value(_input(weight, 1)) if weight else None
        if weight is None or scale is None or scale.size == 1 or graph.opset < 13:
            continue
        expected = 1 if node.op_type == "ConvTranspose" else 0
        axis = attribute(weight, "axis", 1)
        if axis % 4 != expected:
            what = f"the weight of {node.op_type} is quantized along axis {axis}, not along its output channels"
            fix = f"axis={expected}, one scale per output channel, or INT8 kernels cannot be used"
            yield Finding("warning", "weight-axis", _at(node), what, fix)


def half_quantized(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Conv", "ConvTranspose"):
        activation, weight = (graph.maker(_input(node, index), "DequantizeLinear") for index in (0, 1))
        if bool(activation) != bool(weight):
            what = f"{node.op_type} runs in float: only its {'activation' if activation else 'weight'} is quantized"
            yield Finding("warning", "half-quantized", _at(node), what, "quantize both inputs, or neither")


def quantized_before_commuting(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Resize", "Upsample", "MaxPool"):
        shared = node.op_type == "MaxPool" and len(graph.readers(_input(node, 0))) > 1
        if graph.maker(_input(node, 0), "DequantizeLinear") and not shared:
            what = f"Q/DQ straight in front of {node.op_type} hinders its fusion and adds reformatting"
            yield Finding("warning", "qdq-placement", _at(node), what, f"quantize behind the {node.op_type}")


def quantized_before_activation(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish"):
        dequantizer = graph.maker(_input(node, 0), "DequantizeLinear")
        quantizer = graph.maker(_input(dequantizer, 0), "QuantizeLinear") if dequantizer else None
        if quantizer and graph.maker(quantizer.input[0], "Conv", "ConvTranspose", "Gemm"):
            what = f"Q/DQ between a convolution and its {node.op_type} hinders their fusion and wastes the range"
            yield Finding("warning", "qdq-placement", _at(node), what, f"quantize behind the {node.op_type}")


def concat_scales(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Concat"):
        makers = [graph.maker(name, "DequantizeLinear") for name in node.input]
        values = [graph.value(_input(maker, 1)) if maker else None for maker in makers]
        if len({float(value.max()) for value in values if value is not None}) > 1:
            what = "the inputs of Concat have different scales: TensorRT adds kernels that requantize them"
            yield Finding("warning", "concat-scales", _at(node), what, "one scale, the largest, for all its inputs")


def unfolded_batch_normalization(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("BatchNormalization"):
        what = "BatchNormalization was not folded into a convolution; TensorRT cannot do it across Q/DQ"
        fix = "export from eval() with do_constant_folding, or simplify with --simplifier onnxsim"
        yield Finding("warning", "batch-normalization", _at(node), what, fix)


def int8_flag(graph: Graph, target: Target) -> Iterator[Finding]:
    if graph.quantizers and not target.strongly_typed:
        what = f"a Q/DQ graph still needs the INT8 flag in {target}, and FP16 for the layers in between"
        fix = "set BuilderFlag.INT8 and FP16, or trtexec --int8 --fp16"
        yield Finding("note", "int8-flag", "graph", what, fix)


def precision_flags(graph: Graph, target: Target) -> Iterator[Finding]:
    halves = (graph.types.FLOAT16, graph.types.BFLOAT16)
    computed = (name for node in graph.nodes for name in node.output)
    if target.strongly_typed and not any(graph.type(name) in halves for name in computed):
        part = "what is not between Q and DQ" if graph.quantizers else "all of it"
        what = f"{target} has no precision flags, so {part} runs in FP32 as the graph says"
        yield Finding("note", "precision-flags", "graph", what, "emit a graph whose float part is float16")


def implicit_calibration(graph: Graph, target: Target) -> Iterator[Finding]:
    if not graph.quantizers and not target.implicit_int8:
        what = f"{target} has no implicit calibration: a calibration cache cannot make this graph INT8"
        yield Finding("note", "implicit-calibration", "graph", what, _TO_INT8)


def float16_weights(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Cast"):
        if graph.is_constant(_input(node, 0)) and graph.type(_input(node, 0)) == graph.types.FLOAT16:
            what = "a weight is stored as float16 behind a Cast: the file is smaller, the kernel reads float32"
            yield Finding("note", "float16-weight", _at(node), what, "nothing to do: the Cast of a constant is folded")


def dla_boards(graph: Graph, target: Target) -> Iterator[Finding]:
    """Whether there is a DLA at all; the only rule that is asked where there is none."""
    if not target.dla:
        what = f"{target} has no DLA on this platform: 10.7 was the last 10.x with one, and Thor has none"
        yield Finding("error", "dla-absent", "graph", what, "build for the GPU")
    else:
        what = f"the DLA is on {target.dla}; Orin Nano has none (cores per module are not verified)"
        yield Finding("note", "dla-boards", "graph", what, "use it where builder.num_DLA_cores is not 0")


def dla_explicit_quantization(graph: Graph, target: Target) -> Iterator[Finding]:
    if graph.quantizers and target.implicit_int8:
        what = f"the DLA takes INT8 only by implicit calibration in {target}; Q/DQ stays on the GPU"
        fix = "build the FP32 graph with a calibration cache from the same ranges"
        yield Finding("error", "dla-qdq", "graph", what, fix)


def dla_resize(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Resize"):
        mode = attribute(node, "mode", "nearest")
        most = {"nearest": 32, "linear": 4}.get(mode, 0)
        factors = graph.value(_input(node, 2))
        whole = factors is not None and factors.size == 4 and np.all(factors == np.rint(factors))
        fits = (
            whole and factors is not None and np.all(factors[:2] == 1) and 1 <= factors.min() <= factors.max() <= most
        )
        half_pixel = attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
        if not fits or (mode == "linear" and not half_pixel):
            what = (
                "Resize falls back to the GPU: the DLA takes whole constant scales, 1-32 nearest, 1-4 linear half_pixel"
            )
            yield Finding("warning", "dla-resize", _at(node), what, "upsample by 2 with nearest, by scales not sizes")


def dla_concat(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Concat"):
        if attribute(node, "axis", 1) != 1:
            what = "Concat falls back to the GPU: the DLA concatenates channels only"
            yield Finding("warning", "dla-concat", _at(node), what, "concatenate along axis 1")


def dla_transposed_convolution(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("ConvTranspose"):
        spread = any(step != 1 for step in attribute(node, "dilations", ()))
        if any(attribute(node, "pads", ())) or attribute(node, "group", 1) != 1 or spread:
            what = "ConvTranspose falls back to the GPU: on the DLA it has no padding, groups or dilations"
            yield Finding("warning", "dla-conv-transpose", _at(node), what, "kernel 2, stride 2, padding 0, group 1")


def dla_silu(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.of("Mul"):
        gates = [graph.maker(name, "Sigmoid") for name in node.input]
        if any(gate is not None and _input(gate, 0) in node.input for gate in gates):
            what = "SiLU is two layers on the DLA, and its Sigmoid is FP16 in an INT8 build (not verified)"
            fix = "train with an encoder that has ReLU or ReLU6, such as efficientnet_lite0 or mobilenet_v2"
            yield Finding("warning", "dla-silu", _at(node), what, fix)


_ON_DLA = (
    *("Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose"),
    *("Equal", "Gemm", "LeakyRelu", "LRN", "MatMul", "Max", "MaxPool", "Mul", "PRelu", "Relu", "Reshape", "Resize"),
    *("Sigmoid", "Slice", "Softmax", "Sub", "Sum", "Tanh", "Transpose", "Upsample"),
)


def dla_operators(graph: Graph, target: Target) -> Iterator[Finding]:
    for node in graph.nodes:
        folded = all(graph.is_constant(name) for name in node.input)
        if not folded and node.op_type not in (*_ON_DLA, "QuantizeLinear", "DequantizeLinear"):
            what = f"{node.op_type} runs on the GPU: it is not in NVIDIA's operator list of the Orin DLA"
            fix = "allow GPU fallback; between DLA layers replace it, as every change of engine costs a copy"
            yield Finding("note", "dla-operator", _at(node), what, fix)


RULES: tuple[Rule, ...] = (
    unsupported_operators,
    local_functions,
    custom_operators,
    opset,
    unread_axes,
    dynamic_shapes,
    runtime_shapes,
    training_mode,
    external_data,
    element_types,
    uint8_network_io,
    uint8_readers,
    uint8_intermediates,
    uint8_casts,
    int64_io,
    int64_constants,
    resize_modes,
    resize_sizes,
    max_pool,
    zero_points,
    uint8_quantization,
    int32_bias,
    scales,
    weight_axis,
    half_quantized,
    quantized_before_commuting,
    quantized_before_activation,
    concat_scales,
    unfolded_batch_normalization,
    int8_flag,
    precision_flags,
    implicit_calibration,
    float16_weights,
)
DLA_RULES: tuple[Rule, ...] = (
    dla_boards,
    dla_explicit_quantization,
    dla_resize,
    dla_concat,
    dla_transposed_convolution,
    dla_silu,
    dla_operators,
)
