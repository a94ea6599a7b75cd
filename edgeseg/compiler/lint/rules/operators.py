"""Rules on operators, opsets and what an export left in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from edgeseg.compiler.graph.onnx_graph import attribute, input_name, node_name
from edgeseg.compiler.lint.operators import first_importer
from edgeseg.compiler.lint.rule_graph import TO_INT8, RuleGraph
from edgeseg.compiler.lint.targets import Target
from edgeseg.errors import require
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = [
    "custom_operators",
    "local_functions",
    "max_pool",
    "opset",
    "training_mode",
    "unfolded_batch_normalization",
    "unread_axes",
    "unsupported_operators",
]

_REFUSED = {
    operator: (why, fix)
    for operators, why, fix in (
        ("DynamicQuantizeLinear ConvInteger MatMulInteger", "is dynamic INT8, which is for CPUs", TO_INT8),
        ("QLinearConv QLinearMatMul", "is operator-format INT8", f"{TO_INT8}, or quantize in the Q/DQ format"),
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
            "return tensors from forward() and simplify with 'edgeseg compile --simplifier onnxsim'",
        ),
    )
    for operator in operators.split()
}

_OLDEST_OPSET = 13
"""Below it there are no scales per channel."""

_NEWEST = 10**6
"""Above every opset."""

_BY_INPUT = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"
"""Reductions whose axes became an input in opset 18; those of ReduceSum did in 13."""


def unsupported_operators(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find operators that the parser has no importer for."""
    for node in (*graph.nodes, *graph.function_nodes):
        operator = node.op_type
        if operator in graph.functions or target.loads(operator) or not _defined_in(node, _NEWEST):
            continue
        since = first_importer(operator)
        why, fix = _REFUSED.get(operator, (f"has no importer in the ONNX parser of {target}", _older_operators(node)))
        if since is not None and since > target.tensorrt and target.product == "TensorRT":
            why += f"; TensorRT {since[0]}.{since[1]} was the first to have one"
        yield Finding("error", "unsupported-operator", node_name(node), f"{operator} {why}", fix)


def _older_operators(node: onnx.NodeProto) -> str:
    """How to do without an operator, which depends on whether older opsets have it."""
    first = min(schema.since_version for schema in _definitions(node.op_type))
    if first <= _OLDEST_OPSET:
        return "replace it by operators that it has"
    opset = min(first - 1, 17)
    return (
        f"export with torch.onnx.export(..., dynamo=False, opset_version={opset}), which writes it in older operators"
    )


def _definitions(operator: str) -> list[Any]:
    """Every version of an operator's definition in ONNX."""
    schemas = require("onnx", "compile").defs.get_all_schemas_with_history()
    return [schema for schema in schemas if schema.name == operator and schema.domain == ""]


def local_functions(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find calls of functions that the graph defines, where they are not read."""
    for node in graph.nodes if not target.local_functions else ():
        if node.op_type in graph.functions:
            what = f"{node.op_type} is a function that the graph defines, which {target} does not read; 9 was the first"
            yield Finding(
                "error", "local-function", node_name(node), what, "inline it: onnx.inliner.inline_local_functions"
            )


def custom_operators(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find operators that need a plugin, or a newer opset than the graph states."""
    for node in graph.nodes:
        plugin = node.op_type.endswith("_TRT") or node.op_type.startswith("TRT_")
        if plugin or node.op_type in graph.functions or _defined_in(node, graph.opset):
            continue
        if _defined_in(node, _NEWEST):
            what = f"{node.op_type} came to ONNX after opset {graph.opset}; ONNX Runtime refuses the graph"
            yield Finding("warning", "custom-operator", node_name(node), what, "export again, at the opset that has it")
        else:
            what = f"{node.op_type} is no ONNX operator and needs a TensorRT plugin"
            fix = "start from the graph that was exported, not from one that ONNX Runtime has optimized"
            yield Finding("error", "custom-operator", node_name(node), what, fix)


def opset(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Warn of a newer opset; no error, the parser reads each operator by the newest definition that it knows."""
    if graph.opset <= target.opset:
        return
    newer = [node for node in graph.nodes if _defined_in(node, graph.opset) > target.opset]
    sure = "" if target.opset_verified else ", not verified"
    what = f"opset {graph.opset} is above the {target.opset} that {target} reads{sure}"
    if newer:
        what += "; redefined since: " + ", ".join(sorted({node.op_type for node in newer}))
    fix = "export with torch.onnx.export(..., dynamo=False, opset_version=17), which every TensorRT from 8.5 reads"
    yield Finding("warning", "opset", node_name(newer[0]) if newer else "graph", what, fix)


def unread_axes(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find axes where opset 18 put them, which the parser ignores or refuses."""
    for node in graph.nodes if not target.newer_axes else ():
        reduction = node.op_type in _BY_INPUT.split() and input_name(node, 1)
        padding = node.op_type == "Pad" and input_name(node, 3)
        if reduction or padding or (node.op_type == "Resize" and attribute(node, "axes", ())):
            ignored = f"{target} does not look at the axes of {node.op_type} where opset 18 has them, and takes all"
            what = f"{target} refuses Pad with axes" if padding else ignored
            yield Finding("error", "unread-axes", node_name(node), what, "export with opset_version=17 or older")


def _defined_in(node: onnx.NodeProto, opset: int) -> int:
    """The opset whose definition of an operator is in force in ``opset``; 0 for what is no ONNX operator."""
    defs = require("onnx", "compile").defs
    known = node.domain in ("", "ai.onnx") and defs.has(node.op_type, opset, "")
    return int(defs.get_schema(node.op_type, opset, "").since_version) if known else 0


def training_mode(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find normalisation and dropout that work as in training."""
    for node in graph.of("BatchNormalization", "Dropout"):
        mode = graph.value(input_name(node, 2)) if node.op_type == "Dropout" else attribute(node, "training_mode", 0)
        unknown = node.op_type == "Dropout" and input_name(node, 2) and mode is None
        if unknown or (mode is not None and np.any(mode)):
            fix = "call module.eval() before the export"
            yield Finding("error", "training-mode", node_name(node), f"{node.op_type} is in training mode", fix)


def unfolded_batch_normalization(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find normalisation that was not folded into a convolution."""
    for node in graph.of("BatchNormalization"):
        what = "BatchNormalization was not folded into a convolution; TensorRT cannot do it across Q/DQ"
        fix = "export from eval() with do_constant_folding, or simplify with 'edgeseg compile --simplifier onnxsim'"
        yield Finding("warning", "batch-normalization", node_name(node), what, fix)


def max_pool(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find pooling with indices or dilations."""
    for node in graph.of("MaxPool"):
        indices = len(node.output) > 1 and node.output[1]
        if indices or any(step != 1 for step in attribute(node, "dilations", ())):
            what = f"MaxPool with {'its indices' if indices else 'dilations'} is refused"
            fix = "pool without indices (upsample with Resize) and without dilations"
            yield Finding("error", "max-pool", node_name(node), what, fix)
