"""A copy of a graph into which Q/DQ pairs are inserted, and what the emitters need to know about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection

import numpy as np

from edgeseg.compiler.graph.onnx_graph import OnnxGraph, attribute, copied_onnx
from edgeseg.errors import CompileError, require
from edgeseg.ranges import SMALLEST_QDQ_SCALE, Ranges, asymmetric_scale, symmetric_scale

if TYPE_CHECKING:
    import onnx

__all__ = [
    "ACTIVATIONS",
    "ENLARGEMENT",
    "WEIGHTED",
    "QdqEditor",
    "Scale",
    "asymmetric",
    "int8_convolutions",
    "layer_names",
    "symmetric",
]

ENLARGEMENT = "class_mixtures"
"""The convolution of the CPU graph that enlarges maps bilinearly."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")


def layer_names(model: onnx.ModelProto) -> list[str]:
    """Layers that are quantized unless told otherwise, by their output tensor: those with constant weights.

    Convolutions of one pixel (squeeze-excite) are not: they cost nothing, gate whole channels, and Q/DQ around them
    adds kernels (benchmarks/tensorrt-placement.md). Nor are those along one axis (channel attention) or three. Nor are
    transposed ones with groups: all groups share the scales of a weight along its output channels, TensorRT before 10
    has no INT8 kernel for less than four channels per group (NVIDIA/TensorRT issue 1934), ONNX Runtime none at all.
    """
    graph = OnnxGraph(model.graph)
    layers = [node for node in graph.of(*WEIGHTED) if node.input[1] in graph.constants]
    return [node.output[0] for node in layers if _is_layer(node, graph.shapes.get(node.output[0]))]


def int8_convolutions(model: onnx.ModelProto) -> tuple[int, int]:
    """(convolutions that read quantized activations and weights, convolutions in all).

    An enlargement that is written as a convolution (``cpu_layout``) has no weights of its own and does not count.
    """
    graph = OnnxGraph(model.graph)
    convolutions = [node for node in graph.of("Conv", "ConvTranspose") if node.output[0] != ENLARGEMENT]
    quantized = [n for n in convolutions if all(graph.maker(t, "DequantizeLinear") for t in n.input[:2])]
    integer = graph.of("ConvInteger")
    return len(quantized) + len(integer), len(convolutions) + len(integer)


class Scale:
    """Scale, zero point and integer type of an activation."""

    def __init__(self, scale: float, zero_point: int, dtype: type) -> None:
        self.scale = np.float32(max(scale, SMALLEST_QDQ_SCALE))
        self.zero_point: np.ndarray = np.array(zero_point, dtype)


def symmetric(low: float, high: float) -> Scale:
    """int8, zero point 0."""
    return Scale(symmetric_scale(low, high), 0, np.int8)


def asymmetric(low: float, high: float) -> Scale:
    """uint8 over [low, high], zero included."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(asymmetric_scale(low, high), SMALLEST_QDQ_SCALE)
    return Scale(scale, int(np.clip(round(-low / scale), 0, 255)), np.uint8)


class QdqEditor:
    """Inserts Q/DQ pairs; a tensor is quantized once, whoever reads it.

    Args:
        model: the folded FP32 graph.
        ranges: of that graph.
        float_layers: names (see ``layer_names``) of layers that stay in float.
        per_channel: one weight scale per output channel, else one per weight.
        bias_correction: shift biases by the mean error of rounding the weights.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Ranges,
        float_layers: Collection[str],
        *,
        per_channel: bool,
        bias_correction: bool,
    ) -> None:
        self._onnx = require("onnx", "compile")
        self._layers = set(layer_names(model))
        unknown = set(float_layers) - self._layers
        if unknown:
            raise CompileError(f"the graph has no layer {sorted(unknown)[0]!r} to leave in float")
        self._model = copied_onnx(model)
        self.graph = OnnxGraph(self._model.graph)
        self.graph.lift_constants()
        self.nodes = self.graph.nodes
        self._ranges, self._float_layers = ranges, frozenset(float_layers)
        self._per_channel, self._bias_correction = per_channel, bias_correction
        self._constants = frozenset(self.graph.constants)
        self._pairs: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._scales: dict[str, np.ndarray] = {}

    def has_range(self, tensor: str) -> bool:
        """Tell whether a tensor was measured in calibration."""
        return tensor in self._ranges.tensors

    def is_quantizable(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node is a layer that is not to stay in float."""
        layer = node.op_type in WEIGHTED and node.output[0] in self._layers
        return layer and not self.stays_float(node) and self.has_range(self._sources.get(node.input[0], node.input[0]))

    def stays_float(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node is a layer that stays in float: one that was named, or that cannot be quantized."""
        return node.op_type in WEIGHTED and (node.output[0] in self._float_layers or node.output[0] not in self._layers)

    def follows_float(self, node: onnx.NodeProto) -> bool:
        """Tell whether all layers that feed an operator without weights stay in float, so that it does too."""
        feeding, waiting, seen = [], [node], set()
        while waiting:
            for name in waiting.pop().input:
                maker = self.graph.maker(self._sources.get(name, name))
                if maker is None or id(maker) in seen:
                    continue
                seen.add(id(maker))
                if maker.op_type in WEIGHTED:
                    feeding.append(maker)
                else:
                    waiting.append(maker)
        return bool(feeding) and all(self.stays_float(maker) for maker in feeding)

    def reads_constants(self, node: onnx.NodeProto) -> bool:
        """Tell whether one of a node's inputs is a constant."""
        return any(name in self._constants for name in node.input)

    def is_depthwise(self, node: onnx.NodeProto) -> bool:
        """Tell whether a convolution has one input and one output channel per group."""
        shape, groups = self.graph.shapes[node.input[1]], int(attribute(node, "group", 1))
        return node.op_type == "Conv" and groups > 1 and groups == shape[0] and shape[1] == 1

    def position(self, tensor: str) -> int:
        """Return when a tensor is made, in graph order."""
        return self.graph.positions.get(self._sources.get(tensor, tensor), -1)

    def read_existing_pair(self, node: onnx.NodeProto) -> None:
        """Let a node read its first input through the Q/DQ pair that another reader has there, if one has."""
        node.input[0] = self._pairs.get(node.input[0], node.input[0])

    def take_classes_of_integers(self) -> None:
        """Let ArgMax compare the quantized logits themselves: the largest stays the largest."""
        argmax = self.graph.of("ArgMax")[0]
        reader = self.graph.maker(argmax.input[0], "Reshape") or argmax
        source = self._sources.get(reader.input[0])
        if source is not None:
            reader.input[0] = f"{source}/quantized"

    def behind_activation(self, node: onnx.NodeProto) -> str:
        """Return the tensor behind a node and the activation function that is fused into it."""
        tensor: str = node.output[0]
        readers = self.graph.readers(tensor)
        if len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            return str(readers[0].output[0])
        return tensor

    def quantize_input(self, node: onnx.NodeProto, index: int, scale: Scale, *, apart: bool = False) -> None:
        """Let one input of a node read through Q/DQ: through one that others read too, or through its own."""
        tensor = node.input[index]
        node.input[index] = self._pair_named(f"{tensor}/apart", tensor, scale) if apart else self._pair(tensor, scale)

    def quantize_output(self, tensor: str, scale: Scale) -> None:
        """Let every reader of a tensor read through Q/DQ, but for layers that stay in float."""
        if tensor in {output.name for output in self._model.graph.output}:
            return
        pair = self._pair(tensor, scale)
        for reader in self.graph.readers(tensor):
            if self.stays_float(reader):
                continue
            for index, name in enumerate(reader.input):
                if name == tensor:
                    reader.input[index] = pair

    def quantize_weight(self, node: onnx.NodeProto, bits: int, *, integer_bias: bool = False) -> None:
        """Store a weight as INT8, read through DequantizeLinear, and correct the bias for the rounding.

        Args:
            node: reads the weight as its second input; its first input is quantized already.
            bits: of the weight.
            integer_bias: store the bias as int32 with scale = input scale x weight scale, as integer kernels add it.
        """
        name = node.input[1]
        weight = self.graph.value(name)
        assert weight is not None, "layers have constant weights"
        bias = self._bias(node)
        axis, limit = _channel_axis(node), 2 ** (bits - 1) - 1
        scale = self._weight_scale(weight, axis, limit)
        input_scale = self._scales[node.input[0]]
        integer_bias = integer_bias and bias is not None and bias.shape == scale.shape
        if integer_bias and bias is not None:
            # A channel of (nearly) zero weights needs a scale with which its bias stays well inside 32 bits.
            scale = np.maximum(scale, np.abs(bias) / (input_scale * 2.0**29)).astype(np.float32)
        along = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        levels = np.clip(np.rint(weight / along), -limit, limit).astype(np.int8)
        if f"{name}/dequantized" in self._scales:  # another node shares the weight
            name = f"{name}/{node.output[0]}"
        node.input[1] = self._dequantized(name, levels, scale, axis)
        if bias is None:
            return
        bias = bias + self._mean_error(node, weight - levels * along)
        if integer_bias:
            bias_scale = (input_scale * scale).astype(np.float32)
            levels32 = np.rint(bias / bias_scale).astype(np.int32)
            node.input[2] = self._dequantized(f"{name}/bias", levels32, bias_scale, 0)
        else:
            node.input[2] = f"{name}/corrected_bias"
            self.graph.add_constant(node.input[2], bias.astype(np.float32))

    def finished(self) -> onnx.ModelProto:
        """Return the edited model, sorted and checked. Raises CompileError when nothing was quantized."""
        quantized, total = int8_convolutions(self._model)
        products = any(node.op_type == "Gemm" and node.input[1] in self._scales for node in self.nodes)
        if not quantized and not products:
            raise CompileError(
                f"none of the graph's {total} convolutions could be quantized, so this would not be INT8"
            )
        self.graph.drop_unused_constants()
        del self._model.graph.value_info[:]
        self.graph.sort()
        checked: onnx.ModelProto = self._onnx.shape_inference.infer_shapes(self._model, strict_mode=True)
        self._onnx.checker.check_model(checked)
        return checked

    def _weight_scale(self, weight: np.ndarray, axis: int, limit: int) -> np.ndarray:
        """float32 of one scale per output channel."""
        others = tuple(i for i in range(weight.ndim) if i != axis)
        amax = np.abs(weight).max(axis=others)
        if not self._per_channel:
            amax = np.full_like(amax, amax.max())
        return np.asarray(np.maximum(amax / limit, SMALLEST_QDQ_SCALE), np.float32)

    def _bias(self, node: onnx.NodeProto) -> np.ndarray | None:
        if len(node.input) < 3 or node.input[2] not in self._constants:
            return None
        return np.asarray(self.graph.value(node.input[2]), np.float64)

    def _mean_error(self, node: onnx.NodeProto, error: np.ndarray) -> np.ndarray | float:
        """What rounding the weights takes from each output channel of a convolution on average.

        Bias correction: the weights' error times the mean of the input (Nagel et al. 2019, section 4.2), with means
        from calibration images.
        """
        means = self._ranges.means.get(self._sources.get(node.input[0], node.input[0]))
        if not self._bias_correction or node.op_type != "Conv" or means is None:
            return 0.0
        per_input = error.astype(np.float64).sum(axis=tuple(range(2, error.ndim)))
        groups = attribute(node, "group", 1)
        by_group = np.asarray(means).reshape(groups, 1, -1)
        return np.asarray((per_input.reshape(groups, -1, per_input.shape[1]) * by_group).sum(-1).ravel())

    def _pair(self, tensor: str, scale: Scale) -> str:
        if tensor in self._scales:
            return tensor
        if tensor not in self._pairs:
            self._pairs[tensor] = self._pair_named(tensor, tensor, scale)
        return self._pairs[tensor]

    def _pair_named(self, name: str, tensor: str, scale: Scale) -> str:
        output = f"{name}/dequantized"
        if output in self._scales:
            return output
        parameters = [
            self.graph.add_constant(f"{name}/scale", scale.scale),
            self.graph.add_constant(f"{name}/zero_point", scale.zero_point),
        ]
        self.graph.add("QuantizeLinear", [tensor, *parameters], f"{name}/quantized")
        self.graph.add("DequantizeLinear", [f"{name}/quantized", *parameters], output)
        self._sources[output] = tensor
        self._scales[output] = np.asarray(scale.scale)
        return output

    def _dequantized(self, name: str, levels: np.ndarray, scale: np.ndarray, axis: int) -> str:
        output = f"{name}/dequantized"
        inputs = [
            self.graph.add_constant(f"{name}/levels", levels),
            self.graph.add_constant(f"{name}/scale", scale),
            self.graph.add_constant(f"{name}/zero_point", np.zeros(scale.shape, levels.dtype)),
        ]
        self.graph.add("DequantizeLinear", inputs, output, axis=axis)
        self._scales[output] = scale
        return output


def _is_layer(node: onnx.NodeProto, shape: list[int] | None) -> bool:
    """Whether an operator with weights gives a map of more than a pixel, or is a matrix product."""
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1:
        return False
    if shape is None or node.op_type == "Gemm":
        return True
    return len(shape) == 4 and shape[2] * shape[3] != 1


def _channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in a weight."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 0
