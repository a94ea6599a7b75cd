"""Q/DQ emitters: one set of ranges, one graph per target's arithmetic.

TensorRT wants symmetric INT8 with zero point 0, weights per channel, bias in float, one scale around a Concat, nothing
in front of Resize or MaxPool, and one Q/DQ on the residual input of an Add. ONNX Runtime on x86 wants u8 activations
everywhere (then it runs whole stretches in integers) and int32 bias; where ``vpmaddubsw`` saturates (x86 without VNNI),
dense convolutions need 7-bit weights. Depthwise kernels multiply in 16 bits and keep 8-bit weights, which is where the
accuracy is: 7-bit depthwise weights cost 2 points of mIoU, 7-bit dense weights none (benchmarks/saturation.md).
Both quantize *after* the activation function: a Clip or Relu is fused into the operator before it, and quantizing the
wide range in front of it costs tens of points of mIoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

import numpy as np

from edgeseg.compiler.ranges import Ranges
from edgeseg.errors import CompileError, require

if TYPE_CHECKING:
    import onnx

__all__ = ["cpu_qdq_onnx", "int8_convolutions", "tensorrt_qdq_onnx"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")
_CPU_OPERATORS = (*_WEIGHTED, "Add", "Mul", "Concat", "MaxPool", "GlobalAveragePool", "AveragePool", "Sigmoid", "Slice")
_TINY = 1e-8


def tensorrt_qdq_onnx(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The INT8 graph for TensorRT.

    Args:
        model: the folded FP32 graph.
        ranges: of that graph.

    Raises:
        CompileError: no operator could be quantized, or a tensor has no range.
    """
    editor = _Editor(model, ranges)
    shared = _concat_ranges(editor, ranges)
    for node in editor.nodes:
        if node.op_type in _WEIGHTED and editor.is_constant(node.input[1]):
            editor.quantize_input(node, 0, _symmetric(*shared.get(node.input[0], ranges.of(node.input[0]))))
            editor.quantize_weight(node, bits=8)
        elif node.op_type == "Add":
            residual = _residual_input(editor, node)
            if residual is not None:
                tensor = node.input[residual]
                editor.quantize_input(node, residual, _symmetric(*shared.get(tensor, ranges.of(tensor))))
        elif node.op_type == "Concat":
            for index, tensor in enumerate(node.input):
                if tensor in ranges.tensors:
                    editor.quantize_input(node, index, _symmetric(*shared.get(tensor, ranges.of(tensor))))
    return editor.finished()


def cpu_qdq_onnx(model: onnx.ModelProto, ranges: Ranges, *, dense_weight_bits: int = 7) -> onnx.ModelProto:
    """The INT8 graph for ONNX Runtime on a CPU.

    Args:
        model: the folded FP32 graph.
        ranges: of that graph.
        dense_weight_bits: 7 is right on every x86 CPU; 8 saturates on those without VNNI.

    Raises:
        CompileError: no operator could be quantized, or a tensor has no range.
    """
    editor = _Editor(model, ranges)
    for node in editor.nodes:
        if node.op_type not in _CPU_OPERATORS and not _is_nearest_resize(node):
            continue
        if node.op_type in _WEIGHTED and not editor.is_constant(node.input[1]):
            continue
        for index, tensor in enumerate(node.input):
            if tensor in ranges.tensors:
                editor.quantize_input(node, index, _asymmetric(*ranges.of(tensor)))
        if node.op_type in _WEIGHTED:
            editor.quantize_weight(node, bits=8 if editor.is_depthwise(node) else dense_weight_bits, integer_bias=True)
        editor.quantize_output(_after_activation(editor, node))
    return editor.finished()


def int8_convolutions(model: onnx.ModelProto) -> tuple[int, int]:
    """(convolutions that read quantized activations and weights, convolutions in all)."""
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    quantized = [n for n in convolutions if all(makers.get(t) == "DequantizeLinear" for t in n.input[:2])]
    integer = [node for node in model.graph.node if node.op_type == "ConvInteger"]
    return len(quantized) + len(integer), len(convolutions) + len(integer)


class _Scale:
    """Scale, zero point and integer type of an activation."""

    def __init__(self, scale: float, zero_point: int, dtype: type) -> None:
        self.scale = np.float32(max(scale, _TINY))
        self.zero_point: np.ndarray = np.array(zero_point, dtype)


def _symmetric(low: float, high: float) -> _Scale:
    return _Scale(max(abs(low), abs(high)) / 127, 0, np.int8)


def _asymmetric(low: float, high: float) -> _Scale:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, _TINY)
    return _Scale(scale, int(np.clip(round(-low / scale), 0, 255)), np.uint8)


class _Editor:
    """A copy of a graph into which Q/DQ pairs are inserted; a tensor is quantized once, whoever reads it."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges) -> None:
        self._onnx = require("onnx", "compile")
        self._model = self._onnx.ModelProto()
        self._model.CopyFrom(model)
        self.graph = self._model.graph
        self._lift_constant_nodes()
        self.nodes = list(self.graph.node)
        self._ranges = ranges
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._makers = {output: node for node in self.graph.node for output in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._pairs: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._scales: dict[str, np.ndarray] = {}

    def is_constant(self, tensor: str) -> bool:
        return tensor in self._constants

    def has_range(self, tensor: str) -> bool:
        return tensor in self._ranges.tensors

    def is_depthwise(self, node: onnx.NodeProto) -> bool:
        """Whether a convolution has one input and one output channel per group."""
        shape = self._constants[node.input[1]].dims
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        return node.op_type == "Conv" and groups > 1 and groups == shape[0] and shape[1] == 1

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        return self._makers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return self._readers.get(tensor, [])

    def quantize_input(self, node: onnx.NodeProto, index: int, scale: _Scale) -> None:
        """Let one input of a node read through Q/DQ."""
        node.input[index] = self._pair(node.input[index], scale)

    def quantize_output(self, tensor: str) -> None:
        """Let every reader of a tensor read through Q/DQ, if the tensor has a range."""
        if tensor not in self._ranges.tensors or tensor in {output.name for output in self.graph.output}:
            return
        pair = self._pair(tensor, _asymmetric(*self._ranges.of(tensor)))
        for reader in self.readers(tensor):
            for index, name in enumerate(reader.input):
                if name == tensor:
                    reader.input[index] = pair

    def quantize_weight(self, node: onnx.NodeProto, bits: int, *, integer_bias: bool = False) -> None:
        """Store a weight as INT8 per output channel, read through DequantizeLinear, and correct the bias for it.

        Args:
            node: reads the weight as its second input; its first input is quantized already.
            bits: of the weight.
            integer_bias: store the bias as int32 with scale = input scale x weight scale, as integer kernels add it.
        """
        name = node.input[1]
        weight = self._onnx.numpy_helper.to_array(self._constants[name])
        bias = self._bias(node)
        axis = _channel_axis(node)
        limit = 2 ** (bits - 1) - 1
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(axis=others) / limit, _TINY).astype(np.float32)
        integer_bias = integer_bias and bias is not None and bias.shape == scale.shape
        if integer_bias and bias is not None:
            # A channel of (nearly) zero weights needs a scale with which its bias stays well inside 32 bits.
            input_scale = self._scales[node.input[0]]
            scale = np.maximum(scale, np.abs(bias) / (input_scale * 2.0**29)).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        levels = np.clip(np.rint(weight / scale.reshape(shape)), -limit, limit).astype(np.int8)
        if f"{name}/dequantized" in self._scales:  # another node shares the weight
            name = f"{name}/{node.output[0]}"
        error = weight - levels * scale.reshape(shape)
        node.input[1] = self._dequantized(name, levels, scale, axis)
        if bias is None:
            return
        bias = bias + self._mean_error(node, error)
        if integer_bias:
            bias_scale = (input_scale * scale).astype(np.float32)
            node.input[2] = self._dequantized(
                f"{name}/bias", np.rint(bias / bias_scale).astype(np.int32), bias_scale, 0
            )
        else:
            node.input[2] = f"{name}/corrected_bias"
            self._initializer(node.input[2], bias.astype(np.float32))

    def _bias(self, node: onnx.NodeProto) -> np.ndarray | None:
        if len(node.input) < 3 or node.input[2] not in self._constants:
            return None
        return np.asarray(self._onnx.numpy_helper.to_array(self._constants[node.input[2]]), np.float64)

    def _mean_error(self, node: onnx.NodeProto, error: np.ndarray) -> np.ndarray | float:
        """What rounding the weights takes from each output channel of a convolution on average.

        Bias correction: the weights' error times the mean of the input (Nagel et al. 2019, section 4.2), with means
        from calibration images.
        """
        means = self._ranges.means.get(self._sources.get(node.input[0], node.input[0]))
        if node.op_type != "Conv" or means is None:
            return 0.0
        per_input = error.astype(np.float64).sum(axis=tuple(range(2, error.ndim)))
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        by_group = np.asarray(means).reshape(groups, 1, -1)
        return np.asarray((per_input.reshape(groups, -1, per_input.shape[1]) * by_group).sum(-1).ravel())

    def finished(self) -> onnx.ModelProto:
        """The edited model, sorted and checked. Raises CompileError when nothing was quantized."""
        quantized, total = int8_convolutions(self._model)
        if not quantized:
            raise CompileError(
                f"none of the graph's {total} convolutions could be quantized, so this would not be INT8"
            )
        used = {name for node in self.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:], self.graph.value_info[:]
        self.graph.initializer.extend(kept)
        _sort(self.graph)
        checked: onnx.ModelProto = self._onnx.shape_inference.infer_shapes(self._model, strict_mode=True)
        self._onnx.checker.check_model(checked)
        return checked

    def _lift_constant_nodes(self) -> None:
        """Constant nodes become initializers, so that there is one kind of constant."""
        kept = []
        for node in self.graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type != "Constant" or value is None:
                kept.append(node)
                continue
            tensor = self.graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def _pair(self, tensor: str, scale: _Scale) -> str:
        if tensor in self._scales:
            return tensor
        if tensor not in self._pairs:
            output = f"{tensor}/dequantized"
            self._initializer(f"{tensor}/scale", scale.scale)
            self._initializer(f"{tensor}/zero_point", scale.zero_point)
            parameters = [f"{tensor}/scale", f"{tensor}/zero_point"]
            self._add("QuantizeLinear", [tensor, *parameters], f"{tensor}/quantized")
            self._add("DequantizeLinear", [f"{tensor}/quantized", *parameters], output)
            self._pairs[tensor] = output
            self._sources[output] = tensor
            self._scales[output] = np.asarray(scale.scale)
        return self._pairs[tensor]

    def _dequantized(self, name: str, levels: np.ndarray, scale: np.ndarray, axis: int) -> str:
        output = f"{name}/dequantized"
        self._initializer(f"{name}/levels", levels)
        self._initializer(f"{name}/scale", scale)
        self._initializer(f"{name}/zero_point", np.zeros(scale.shape, levels.dtype))
        self._add("DequantizeLinear", [f"{name}/levels", f"{name}/scale", f"{name}/zero_point"], output, axis=axis)
        self._scales[output] = scale
        return output

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: int) -> None:
        self.graph.node.append(self._onnx.helper.make_node(operator, inputs, [output], output, **attributes))

    def _initializer(self, name: str, value: np.ndarray | np.float32) -> None:
        self.graph.initializer.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))


def _channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in a weight."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0


def _is_nearest_resize(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)


def _after_activation(editor: _Editor, node: onnx.NodeProto) -> str:
    """The tensor behind a node and the activation function that is fused into it."""
    tensor: str = node.output[0]
    readers = editor.readers(tensor)
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return str(readers[0].output[0])
    return tensor


def _residual_input(editor: _Editor, node: onnx.NodeProto) -> int | None:
    """Which input of an Add is the residual: the one that is not a convolution's own output; None for constants."""
    if not all(editor.has_range(name) for name in node.input):
        return None
    for index in (0, 1):
        maker = editor.maker(node.input[index])
        if maker is None or maker.op_type not in _WEIGHTED:
            return index
    return 0


def _concat_ranges(editor: _Editor, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """One shared range for all inputs and the output of each Concat, also where Concats are chained."""
    groups: list[set[str]] = []
    for node in editor.nodes:
        if node.op_type == "Concat":
            members = {name for name in (*node.input, *node.output) if name in ranges.tensors}
            joined = [group for group in groups if group & members]
            groups = [group for group in groups if not group & members] + [members.union(*joined)]
    return {name: _union(ranges, group) for group in groups for name in group}


def _union(ranges: Ranges, names: Iterable[str]) -> tuple[float, float]:
    pairs = [ranges.of(name) for name in names]
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def _sort(graph: onnx.GraphProto) -> None:
    """Order the nodes so that every tensor is made before it is read."""
    ready = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        now = [node for node in waiting if all(name in ready for name in node.input)]
        if not now:
            raise CompileError(f"the graph has a cycle or a missing tensor near {waiting[0].name!r}")
        ordered += now
        ready.update(output for node in now for output in node.output)
        done = {id(node) for node in now}
        waiting = [node for node in waiting if id(node) not in done]
    del graph.node[:]
    graph.node.extend(ordered)
