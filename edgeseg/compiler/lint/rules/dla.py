"""Rules for the deep learning accelerator; they are asked only where somebody wants to use it."""

from __future__ import annotations

from typing import Iterator

import numpy as np

from edgeseg.compiler.graph.onnx_graph import attribute, input_name, node_name
from edgeseg.compiler.lint.rule_graph import RuleGraph
from edgeseg.compiler.lint.targets import Target
from edgeseg.report_data import Finding

__all__ = [
    "dla_boards",
    "dla_concat",
    "dla_explicit_quantization",
    "dla_operators",
    "dla_resize",
    "dla_silu",
    "dla_transposed_convolution",
]


def dla_boards(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Say which boards have the accelerator; the only rule that is asked where there is none."""
    if not target.dla:
        what = f"{target} has no DLA on this platform: 10.7 was the last 10.x with one, and Thor has none"
        yield Finding("error", "dla-absent", "graph", what, "build for the GPU")
    else:
        what = f"the DLA is on {target.dla}; Orin Nano has none (cores per module are not verified)"
        yield Finding("note", "dla-boards", "graph", what, "use it where builder.num_DLA_cores is not 0")


def dla_explicit_quantization(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find Q/DQ nodes where the accelerator takes INT8 by implicit calibration only."""
    if graph.quantizers and target.implicit_int8:
        what = f"the DLA takes INT8 only by implicit calibration in {target}; Q/DQ stays on the GPU"
        fix = "build the FP32 graph with a calibration cache from the same ranges"
        yield Finding("error", "dla-qdq", "graph", what, fix)


def dla_resize(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find enlargements that fall back to the GPU."""
    for node in graph.of("Resize"):
        mode = attribute(node, "mode", "nearest")
        most = {"nearest": 32, "linear": 4}.get(mode, 0)
        factors = graph.value(input_name(node, 2))
        whole = factors is not None and factors.size == 4 and np.all(factors == np.rint(factors))
        fits = (
            whole and factors is not None and np.all(factors[:2] == 1) and 1 <= factors.min() <= factors.max() <= most
        )
        half_pixel = attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
        if not fits or (mode == "linear" and not half_pixel):
            what = (
                "Resize falls back to the GPU: the DLA takes whole constant scales, 1-32 nearest, 1-4 linear half_pixel"
            )
            yield Finding(
                "warning", "dla-resize", node_name(node), what, "upsample by 2 with nearest, by scales not sizes"
            )


def dla_concat(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find joins along another axis than the channels."""
    for node in graph.of("Concat"):
        if attribute(node, "axis", 1) != 1:
            what = "Concat falls back to the GPU: the DLA concatenates channels only"
            yield Finding("warning", "dla-concat", node_name(node), what, "concatenate along axis 1")


def dla_transposed_convolution(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find transposed convolutions with padding, groups or dilations."""
    for node in graph.of("ConvTranspose"):
        spread = any(step != 1 for step in attribute(node, "dilations", ()))
        if any(attribute(node, "pads", ())) or attribute(node, "group", 1) != 1 or spread:
            what = "ConvTranspose falls back to the GPU: on the DLA it has no padding, groups or dilations"
            yield Finding(
                "warning", "dla-conv-transpose", node_name(node), what, "kernel 2, stride 2, padding 0, group 1"
            )


def dla_silu(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find activation functions that become two layers."""
    for node in graph.of("Mul"):
        gates = [graph.maker(name, "Sigmoid") for name in node.input]
        if any(gate is not None and input_name(gate, 0) in node.input for gate in gates):
            what = "SiLU is two layers on the DLA, and its Sigmoid is FP16 in an INT8 build (not verified)"
            fix = "train with an encoder that has ReLU or ReLU6, such as efficientnet_lite0 or mobilenet_v2"
            yield Finding("warning", "dla-silu", node_name(node), what, fix)


_ON_DLA = (
    *("Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose"),
    *("Equal", "Gemm", "LeakyRelu", "LRN", "MatMul", "Max", "MaxPool", "Mul", "PRelu", "Relu", "Reshape", "Resize"),
    *("Sigmoid", "Slice", "Softmax", "Sub", "Sum", "Tanh", "Transpose", "Upsample"),
)


def dla_operators(graph: RuleGraph, target: Target) -> Iterator[Finding]:
    """Find operators that are not in the accelerator's list."""
    for node in graph.nodes:
        folded = all(graph.is_constant(name) for name in node.input)
        if not folded and node.op_type not in (*_ON_DLA, "QuantizeLinear", "DequantizeLinear"):
            what = f"{node.op_type} runs on the GPU: it is not in NVIDIA's operator list of the Orin DLA"
            fix = "allow GPU fallback; between DLA layers replace it, as every change of engine costs a copy"
            yield Finding("note", "dla-operator", node_name(node), what, fix)
