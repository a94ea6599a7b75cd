"""Rules on Q/DQ nodes: what is refused, what hinders fusion, which flags a build needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator

import numpy as np

from edgeseg.compiler.graph.onnx_graph import attribute, input_name, node_name
from edgeseg.compiler.lint.rule_graph import TO_INT8, RuleGraph
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

if TYPE_CHECKING:
    import onnx

__all__ = [
    "concat_scales",
    "float16_weights",
    "half_quantized",
    "implicit_calibration",
    "int32_bias",
    "int8_flag",
    "precision_flags",
    "quantized_before_activation",
    "quantized_before_commuting",
    "scales",
    "uint8_quantization",
    "weight_axis",
    "zero_points",
]


def zero_points(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find zero points that are not 0, and those that are left out where they are needed."""
    for node in graph.quantizers:
        zero = graph.value(input_name(node, 2))
        if zero is not None and np.any(zero):
            what = f"{node.op_type} with a zero point that is not 0: asymmetric INT8 is for CPUs"
            yield Finding("error", "zero-point", node_name(node), what, f"quantize symmetrically; {TO_INT8}")
        elif not input_name(node, 2) and not target.zero_tolerant:
            what = f"{node.op_type} without a zero point, which {target} wants as an input"
            yield Finding("error", "zero-point", node_name(node), what, "store an int8 zero point of 0")


def uint8_quantization(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find quantization to uint8."""
    for node in graph.quantizers:
        quantizes = node.op_type == "QuantizeLinear"
        if graph.type(_first_output(node) if quantizes else input_name(node, 0)) != graph.kinds.UINT8:
            continue
        fix = f"quantize to int8 with zero point 0; {TO_INT8}"
        if not target.zero_tolerant or (not quantizes and not graph.maker(input_name(node, 0), "QuantizeLinear")):
            yield Finding("error", "uint8-quantization", node_name(node), f"{node.op_type} of uint8 is refused", fix)
        else:
            what = "uint8 quantization is read as int8: whatever is above 127 steps is clipped"
            yield Finding("warning", "uint8-quantization", node_name(node), what, fix)


def int32_bias(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find quantized biases."""
    for node in graph.of("DequantizeLinear"):
        if graph.type(input_name(node, 0)) == graph.kinds.INT32:
            what = "DequantizeLinear of int32 (a quantized bias) is refused"
            yield Finding("error", "int32-bias", node_name(node), what, f"keep the bias in float; {TO_INT8}")


def scales(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find scales that are not positive, or of an opset or type that is not read."""
    for node in graph.quantizers:
        scale = graph.value(input_name(node, 1))
        if scale is None:
            continue
        if not np.all(scale > 0):
            what = "a scale of Q/DQ is not positive: its channel or tensor was always 0, or was never calibrated"
            yield Finding("error", "scale", node_name(node), what, "replace 0 by a tiny scale such as 1e-8")
        if scale.size > 1 and graph.opset < 13:
            what = f"scales per channel in opset {graph.opset}: ONNX has them from 13, and the axis is ignored before"
            yield Finding("warning", "per-channel-opset", node_name(node), what, "export with opset_version=17")
        if scale.dtype == np.float16 and graph.opset < 19:
            read = "reads their bits as float32" if not target.zero_tolerant else "reads them, ONNX Runtime does not"
            what = f"float16 scales in opset {graph.opset}: ONNX has them from 19; {target} {read}"
            severity = "warning" if target.zero_tolerant else "error"
            yield Finding(severity, "float16-scale", node_name(node), what, "store scales as float32")


def weight_axis(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find weights that are not quantized along their output channels."""
    for node in graph.of("Conv", "ConvTranspose"):
        weight = graph.maker(input_name(node, 1), "DequantizeLinear")
        scale = graph.value(input_name(weight, 1)) if weight else None
        if weight is None or scale is None or scale.size == 1 or graph.opset < 13:
            continue
        expected = 1 if node.op_type == "ConvTranspose" else 0
        axis = attribute(weight, "axis", 1)
        if axis % 4 != expected:
            what = f"the weight of {node.op_type} is quantized along axis {axis}, not along its output channels"
            fix = f"axis={expected}, one scale per output channel, or INT8 kernels cannot be used"
            yield Finding("warning", "weight-axis", node_name(node), what, fix)


def half_quantized(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find convolutions of which only one side is quantized."""
    for node in graph.of("Conv", "ConvTranspose"):
        activation, weight = (graph.maker(input_name(node, index), "DequantizeLinear") for index in (0, 1))
        if bool(activation) != bool(weight):
            what = f"{node.op_type} runs in float: only its {'activation' if activation else 'weight'} is quantized"
            yield Finding("warning", "half-quantized", node_name(node), what, "quantize both inputs, or neither")


def quantized_before_commuting(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find Q/DQ in front of an operator that it should stand behind."""
    for node in graph.of("Resize", "Upsample", "MaxPool"):
        shared = node.op_type == "MaxPool" and len(graph.readers(input_name(node, 0))) > 1
        if graph.maker(input_name(node, 0), "DequantizeLinear") and not shared:
            what = f"Q/DQ straight in front of {node.op_type} hinders its fusion and adds reformatting"
            yield Finding("warning", "qdq-placement", node_name(node), what, f"quantize behind the {node.op_type}")


def quantized_before_activation(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find Q/DQ between a convolution and its activation function."""
    for node in graph.of("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish"):
        dequantizer = graph.maker(input_name(node, 0), "DequantizeLinear")
        quantizer = graph.maker(input_name(dequantizer, 0), "QuantizeLinear") if dequantizer else None
        if quantizer and graph.maker(quantizer.input[0], "Conv", "ConvTranspose", "Gemm"):
            what = f"Q/DQ between a convolution and its {node.op_type} hinders their fusion and wastes the range"
            yield Finding("warning", "qdq-placement", node_name(node), what, f"quantize behind the {node.op_type}")


def concat_scales(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find joins of tensors with different scales."""
    for node in graph.of("Concat"):
        makers = [graph.maker(name, "DequantizeLinear") for name in node.input]
        values = [graph.value(input_name(maker, 1)) if maker else None for maker in makers]
        if len({float(value.max()) for value in values if value is not None}) > 1:
            what = "the inputs of Concat have different scales: TensorRT adds kernels that requantize them"
            yield Finding(
                "warning", "concat-scales", node_name(node), what, "one scale, the largest, for all its inputs"
            )


def int8_flag(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Say which flags a build of a Q/DQ graph needs."""
    if graph.quantizers and not target.strongly_typed:
        what = f"a Q/DQ graph still needs the INT8 flag in {target}, and FP16 for the layers in between"
        fix = "set BuilderFlag.INT8 and FP16, or trtexec --int8 --fp16"
        yield Finding("note", "int8-flag", "graph", what, fix)


def precision_flags(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Say what runs in FP32 where there are no precision flags."""
    halves = (graph.kinds.FLOAT16, graph.kinds.BFLOAT16)
    computed = (name for node in graph.nodes for name in node.output)
    if target.strongly_typed and not any(graph.type(name) in halves for name in computed):
        part = "what is not between Q and DQ" if graph.quantizers else "all of it"
        what = f"{target} has no precision flags, so {part} runs in FP32 as the graph says"
        yield Finding("note", "precision-flags", "graph", what, "emit a graph whose float part is float16")


def implicit_calibration(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Say where a calibration cache cannot make a float graph INT8."""
    if not graph.quantizers and not target.implicit_int8:
        what = f"{target} has no implicit calibration: a calibration cache cannot make this graph INT8"
        yield Finding("note", "implicit-calibration", "graph", what, TO_INT8)


def float16_weights(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Say that weights are stored as float16."""
    for node in graph.of("Cast"):
        if graph.is_constant(input_name(node, 0)) and graph.type(input_name(node, 0)) == graph.kinds.FLOAT16:
            what = "a weight is stored as float16 behind a Cast: the file is smaller, the kernel reads float32"
            yield Finding(
                "note", "float16-weight", node_name(node), what, "nothing to do: the Cast of a constant is folded"
            )


def _first_output(node: onnx.NodeProto) -> str:
    """Name of the first output; empty when there is none."""
    return "".join(node.output[:1])
