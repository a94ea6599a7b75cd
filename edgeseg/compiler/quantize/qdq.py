"""Q/DQ emitters: one set of ranges, one graph per target's arithmetic.

TensorRT wants symmetric INT8 with zero point 0, weights per channel, bias in float, one scale around a Concat, nothing
in front of Resize (and of MaxPool only what another reader needs anyway), and one Q/DQ on the residual input of an Add.
Where a Concat's scale is far too coarse for one of its inputs, the other readers of that input get their own.
ONNX Runtime on x86 wants u8 activations everywhere (then it runs whole stretches in integers) and int32 bias; where
``vpmaddubsw`` saturates (x86 without VNNI), dense convolutions need 7-bit weights. Depthwise kernels multiply in 16
bits and keep 8-bit weights, which is where the accuracy is: 7-bit depthwise weights cost 2 points of mIoU, 7-bit dense
weights none (benchmarks/saturation.md). Both quantize *after* the activation function: a Clip or Relu is fused into the
operator before it, and quantizing the wide range in front of it costs tens of points of mIoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Iterable

from edgeseg.compiler.graph.onnx_graph import attribute
from edgeseg.compiler.quantize.cpu_layout import cpu_layout_onnx
from edgeseg.compiler.quantize.qdq_editor import (
    WEIGHTED,
    QdqEditor,
    asymmetric,
    int8_convolutions,
    layer_names,
    symmetric,
)
from edgeseg.ranges import Ranges, amax_of

if TYPE_CHECKING:
    import onnx

__all__ = ["cpu_qdq_onnx", "int8_convolutions", "layer_names", "tensorrt_qdq_onnx"]

_MOST_WIDENED = 4
_CPU_OPERATORS = (*WEIGHTED, "Add", "Mul", "Concat", "MaxPool", "GlobalAveragePool", "AveragePool", "Sigmoid", "Slice")


def tensorrt_qdq_onnx(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    float_layers: Collection[str] = (),
    per_channel: bool = True,
    bias_correction: bool = True,
) -> onnx.ModelProto:
    """Make the INT8 graph for TensorRT.

    Args:
        model: the folded FP32 graph.
        ranges: of that graph.
        float_layers: names (see ``layer_names``) of layers that stay in float.
        per_channel: one weight scale per output channel; per tensor costs MobileNets many points.
        bias_correction: shift biases by the mean error of rounding the weights.

    Raises:
        CompileError: no operator could be quantized, or no such layer.
    """
    editor = QdqEditor(model, ranges, float_layers, per_channel=per_channel, bias_correction=bias_correction)
    shared = _concat_ranges(editor, ranges)
    for node in editor.nodes:
        if editor.is_quantizable(node):
            editor.quantize_input(node, 0, symmetric(*_read_range(node.input[0], shared, ranges)))
            editor.quantize_weight(node, bits=8)
        elif editor.follows_float(node):
            continue
        elif node.op_type == "Add":
            residual = _residual_input(editor, node)
            if residual is not None:
                tensor = node.input[residual]
                editor.quantize_input(node, residual, symmetric(*_read_range(tensor, shared, ranges)))
        elif node.op_type == "Concat":
            for index, tensor in enumerate(node.input):
                if tensor in ranges.tensors:
                    joined = shared.get(tensor, ranges.of(tensor))
                    apart = joined != _read_range(tensor, shared, ranges) and len(editor.graph.readers(tensor)) > 1
                    editor.quantize_input(node, index, symmetric(*joined), apart=apart)
    for node in editor.nodes:
        if node.op_type == "MaxPool":
            editor.read_existing_pair(node)
    return editor.finished()


def cpu_qdq_onnx(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    dense_weight_bits: int = 7,
    float_layers: Collection[str] = (),
    per_channel: bool = True,
    bias_correction: bool = True,
) -> onnx.ModelProto:
    """Make the INT8 graph for CPUs: ONNX Runtime and OpenVINO.

    Args:
        model: the folded FP32 graph.
        ranges: of that graph.
        dense_weight_bits: 7 is right on every x86 CPU; 8 saturates on those without VNNI.
        float_layers: names (see ``layer_names``) of layers that stay in float.
        per_channel: one weight scale per output channel.
        bias_correction: shift biases by the mean error of rounding the weights.

    Raises:
        CompileError: no operator could be quantized, or no such layer.
    """
    laid_out = cpu_layout_onnx(model, ranges)
    editor = QdqEditor(laid_out, ranges, float_layers, per_channel=per_channel, bias_correction=bias_correction)
    for node in editor.nodes:
        integer = _runs_in_integers(node, editor) and not editor.follows_float(node)
        if not (editor.is_quantizable(node) if node.op_type in WEIGHTED else integer):
            continue
        for index, tensor in enumerate(node.input):
            if tensor in ranges.tensors:
                editor.quantize_input(node, index, asymmetric(*ranges.of(tensor)))
        if node.op_type in WEIGHTED:
            editor.quantize_weight(node, bits=8 if editor.is_depthwise(node) else dense_weight_bits, integer_bias=True)
        behind = editor.behind_activation(node)
        if behind in ranges.tensors:
            editor.quantize_output(behind, asymmetric(*ranges.of(behind)))
    editor.take_classes_of_integers()
    return editor.finished()


def _runs_in_integers(node: onnx.NodeProto, editor: QdqEditor) -> bool:
    """Whether ONNX Runtime has an integer kernel for an operator without weights.

    It has none where one operand is a constant. Quantized all the same, a mask of -100 (Swin) or of the smallest
    number would take the range of the sums, and nothing of what it does not hide would be left.
    """
    if node.op_type in ("Add", "Mul") and editor.reads_constants(node):
        return False
    nearest = node.op_type == "Resize" and attribute(node, "mode", "") == "nearest"
    return node.op_type in _CPU_OPERATORS or nearest


def _residual_input(editor: QdqEditor, node: onnx.NodeProto) -> int | None:
    """Which input of an Add is the residual: the one that is made first; None where one is a constant.

    The other is the branch's own output, which a convolution can add to. Q/DQ there instead costs a trip through float
    (benchmarks/tensorrt-placement.md).
    """
    if not all(editor.has_range(name) for name in node.input):
        return None
    return min((0, 1), key=lambda index: editor.position(node.input[index]))


def _concat_ranges(editor: QdqEditor, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """One shared range for all inputs and the output of each Concat, also where Concats are chained."""
    groups: list[set[str]] = []
    for node in editor.nodes:
        if node.op_type == "Concat":
            members = {name for name in (*node.input, *node.output) if name in ranges.tensors}
            joined = [group for group in groups if group & members]
            groups = [group for group in groups if not group & members] + [members.union(*joined)]
    return {name: _union(ranges, group) for group in groups for name in group}


def _read_range(tensor: str, shared: dict[str, tuple[float, float]], ranges: Ranges) -> tuple[float, float]:
    """The range through which others than a Concat read a tensor: the Concat's, unless that costs two bits or more.

    A skip connection of values around 1 beside a decoder's of 10,000 would else be zero in the encoder too.
    """
    own = ranges.of(tensor)
    joined = shared.get(tensor, own)
    return joined if amax_of(*joined) <= _MOST_WIDENED * amax_of(*own) else own


def _union(ranges: Ranges, names: Iterable[str]) -> tuple[float, float]:
    pairs = [ranges.of(name) for name in names]
    return min(low for low, _ in pairs), max(high for _, high in pairs)
