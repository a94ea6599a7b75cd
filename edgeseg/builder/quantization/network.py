"""A network that computes as its INT8 graph does, with gradients."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from edgeseg.builder.networks import PaddedNetwork
from edgeseg.builder.quantization.folding import FoldedLayer, folded_layers, matching_layer, rounded_weight
from edgeseg.builder.quantization.operators import OPERATORS
from edgeseg.errors import CompileError, require
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizedNetwork", "TrainedGraph"]

_CENTRED = "frame_centred"
"""The node of a folded graph whose output is the frame without its mean."""


@dataclass(frozen=True)
class TrainedGraph:
    """The graphs of one input size.

    Attributes:
        size_hw: height and width of the frame in pixels.
        folded: the folded FP32 graph of one frame.
        quantized: what the compiler emits of it for TensorRT, biases uncorrected.
    """

    size_hw: tuple[int, int]
    folded: onnx.ModelProto
    quantized: onnx.ModelProto


class QuantizedNetwork(PaddedNetwork):
    """A network whose forward runs the compiled INT8 graph in torch, rounding with straight-through gradients.

    The graph is the one that the compiler emits. So the same tensors are rounded with the same scales, BatchNorm is
    folded, and a placement is never written twice. Weights are those of the network: its state dict stays as it was.

    Args:
        network: with the weights to start from. Its inner network is used, not copied.
        spec: preprocessing of the network.
        graphs: one for every size of images that will come.
        ranges: that the graphs were emitted from.
        per_channel: the graphs have one weight scale per output channel, else one per weight.

    Attributes:
        ranges: that the network is trained with.
        trained: weights of convolutions that are trained, and all in the graphs.

    Raises:
        CompileError: the graph holds an operator that is not computed here.
    """

    def __init__(
        self,
        network: PaddedNetwork,
        spec: ModelSpec,
        graphs: Sequence[TrainedGraph],
        ranges: Ranges,
        *,
        per_channel: bool = True,
    ) -> None:
        super().__init__(network.network, network.config, network.stride)
        self._encoder_is_frozen = network._encoder_is_frozen
        self.ranges: Ranges = ranges
        self._preprocess, self._per_channel = spec.preprocess, per_channel
        self._first = int(spec.has_sigmoids)  # the graph has a channel for class 0 in front, which no weight makes
        network.eval()
        candidates = folded_layers(network, torch.zeros(1, 3, *graphs[0].size_hw))
        self._programs = {one.size_hw: _Program(one, _Candidates(network, spec, candidates)) for one in graphs}
        first = self._programs[graphs[0].size_hw]
        self.trained = (len(first.layers), first.convolutions)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits NxCxHxW from a float image Nx3xHxW of a size that the graphs have.

        Raises:
            CompileError: there is no graph of that size.
        """
        size_hw = int(image.shape[2]), int(image.shape[3])
        if size_hw not in self._programs:
            raise CompileError(f"no INT8 graph was made for images of {size_hw[1]}x{size_hw[0]}")
        program = self._programs[size_hw]
        # Levels of 8 bits are not to be computed with the 8 bits of bfloat16.
        with torch.autocast(image.device.type, enabled=False):
            values = dict(self._live_values(program))
            values[program.start] = self._centred(image.float())
            return program.run(values)[:, self._first :]

    def take_biases(self, corrected: onnx.ModelProto) -> None:
        """Start from the biases of a graph in which they make up for the mean error of rounded weights.

        Training per tensor would else begin where hardly a class is right (Nagel et al. 2019, "Data-Free Quantization
        Through Weight Equalization and Bias Correction", section 4.2).

        Args:
            corrected: emitted from the network as it is.
        """
        read = require("onnx", "compile").numpy_helper.to_array
        constants = {tensor.name: tensor for tensor in corrected.graph.initializer}
        layers = next(iter(self._programs.values())).layers
        taken: set[FoldedLayer] = set()
        for node in corrected.graph.node:
            live = layers.get(node.output[0])
            if live is None or live.layer in taken or len(node.input) < 3:
                continue
            owner: Any = self.get_submodule(live.layer.norm or live.layer.convolution)
            with torch.no_grad():
                _, bias = live.layer.weight_and_bias(self, self._preprocess)
                if bias is not None and owner.bias is not None:
                    owner.bias += torch.from_numpy(np.array(read(constants[node.input[2]]))) - bias
            taken.add(live.layer)

    def computed_names(self, size_hw: tuple[int, int]) -> list[str]:
        """Return the names of the float tensors that the graph of a size computes, as the compiler names them."""
        return [step.output for step in self._programs[size_hw].steps if step.operator != "QuantizeLinear"]

    def worst_step(self, image: Tensor, tensors: Mapping[str, np.ndarray]) -> tuple[str, float]:
        """Return the operator that computes most differently from the compiled graph, and how much.

        Every operator gets what the compiled graph gave to it: a value on the edge of two levels would else fall to
        either side, and be another tensor further on.

        Args:
            image: 1x3xHxW float32.
            tensors: those of ``computed_names``, as the compiled graph gave them for this image.

        Returns:
            The name of its output, and the mean difference relative to the standard deviation.
        """
        program = self._programs[int(image.shape[2]), int(image.shape[3])]
        worst = ("", 0.0)
        with torch.no_grad():
            given = {name: torch.from_numpy(value) for name, value in tensors.items()}
            given.update(self._live_values(program))
            given[program.start] = self._centred(image)
            for name, value in program.computed(given, forced=True):
                if name in tensors:
                    spread = float(tensors[name].std()) + 1e-3 * float(np.abs(tensors[name]).max()) + 1e-30
                    found = float(np.abs(value.numpy() - tensors[name]).mean()) / spread
                    worst = max(worst, (name, found), key=lambda one: one[1])
        return worst

    def as_float(self) -> PaddedNetwork:
        """Return a copy that computes in float with the rounded weights, as it is kept and exported.

        The compiler rounds them to the same levels again. Unrounded weights would be those of another network: trained
        per tensor, small ones are right only when they are rounded to 0.
        """
        plain = PaddedNetwork(copy.deepcopy(self.network), self.config, self.stride).eval()
        plain.ranges = self.ranges
        stored: set[str] = set()
        for live in next(iter(self._programs.values())).layers.values():
            if live.is_rounded and live.layer.convolution not in stored:
                with torch.no_grad():
                    weight, _ = live.layer.weight_and_bias(self, self._preprocess)
                    rounded = rounded_weight(weight, live.axis, per_channel=self._per_channel)
                live.layer.store_weight(plain, self._preprocess, rounded)
                stored.add(live.layer.convolution)
        return plain

    def _centred(self, image: Tensor) -> Tensor:
        scale = torch.from_numpy(self._preprocess.scale_and_offset()[0]).to(image).view(1, 3, 1, 1)
        image = image * scale
        return image.flip(1) if self._preprocess.channel_order == "RGB" else image

    def _live_values(self, program: _Program) -> Iterator[tuple[str, Tensor]]:
        for output, live in program.layers.items():
            weight, bias = live.layer.weight_and_bias(self, self._preprocess)
            if live.is_rounded:
                weight = rounded_weight(weight, live.axis, per_channel=self._per_channel)
            yield f"{output}/weight", weight
            if bias is not None:
                yield f"{output}/bias", bias


@dataclass(frozen=True)
class _Live:
    """A convolution of a graph whose weight is the network's."""

    layer: FoldedLayer
    axis: int
    is_rounded: bool


class _Candidates:
    """The folded weights of a network's layers."""

    def __init__(self, network: PaddedNetwork, spec: ModelSpec, layers: Sequence[FoldedLayer]) -> None:
        self._network = network
        both = [*layers]
        for one in layers:
            convolution: Any = network.get_submodule(one.convolution)
            if convolution.weight.shape[1] == 3:
                both.append(FoldedLayer(one.convolution, one.norm, reads_frames=True))
        self._layers = both
        with torch.no_grad():
            folded = {one: one.weight_and_bias(network, spec.preprocess) for one in both}
        self._weights = {one: weight.detach().cpu().numpy() for one, (weight, _) in folded.items()}
        self.has_bias = {one: bias is not None for one, (_, bias) in folded.items()}

    def layer_of(self, weight: np.ndarray) -> FoldedLayer | None:
        return matching_layer(weight, self._layers, self._weights)


@dataclass(frozen=True)
class _Step:
    operator: str
    inputs: tuple[str, ...]
    output: str
    how: Mapping[str, Any]


class _Program:
    """The steps from a centred frame to the logits. It never changes, so that copies of a network share it."""

    def __init__(self, graph: TrainedGraph, candidates: _Candidates) -> None:
        onnx = require("onnx", "compile")
        read = onnx.numpy_helper.to_array
        nodes = graph.quantized.graph.node
        constants = {tensor.name: read(tensor) for tensor in graph.quantized.graph.initializer}
        folded = {tensor.name: read(tensor) for tensor in graph.folded.graph.initializer}
        weights = {node.output[0]: folded.get(node.input[1]) for node in graph.folded.graph.node if len(node.input) > 1}
        makers = {node.output[0]: node for node in nodes}
        self.start = next(node.output[0] for node in nodes if node.name == _CENTRED)
        self._end = next(node.input[0] for node in nodes if node.op_type == "ArgMax")
        self.layers: dict[str, _Live] = {}
        self.convolutions = 0
        steps = []
        for node in nodes:
            inputs, output = list(node.input), node.output[0]
            if node.op_type in ("Conv", "ConvTranspose"):
                self.convolutions += 1
                weight = weights.get(output)
                layer = None if weight is None else candidates.layer_of(weight)
                if layer is not None:
                    maker = makers.get(inputs[1])
                    is_rounded = maker is not None and maker.op_type == "DequantizeLinear"
                    self.layers[output] = _Live(layer, int(node.op_type == "ConvTranspose"), is_rounded)
                    inputs[1:] = [f"{output}/weight", *([f"{output}/bias"] if candidates.has_bias[layer] else [])]
            how = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            steps.append(_Step(node.op_type, tuple(inputs), output, how))
        self.steps = self._needed(steps)
        used = {name for step in self.steps for name in step.inputs}
        self._constants = {name: torch.from_numpy(np.array(value)) for name, value in constants.items() if name in used}
        self._on: dict[torch.device, dict[str, Tensor]] = {}

    def __deepcopy__(self, memo: Any) -> _Program:
        return self

    def run(self, values: dict[str, Tensor]) -> Tensor:
        device = values[self.start].device
        if device not in self._on:
            # Shapes and places are wanted on the CPU, and so are single numbers, such as the bounds of Clip.
            moves = {name: one.ndim and one.dtype is not torch.int64 for name, one in self._constants.items()}
            self._on[device] = {n: one.to(device) if moves[n] else one for n, one in self._constants.items()}
        return dict(self.computed({**self._on[device], **values}))[self._end]

    def computed(self, values: Mapping[str, Tensor], *, forced: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of every step; ``forced`` lets no step read what was computed where a value is given."""
        found = {**self._constants, **values}
        for step in self.steps:
            inputs = [found[name] if name else None for name in step.inputs]
            made = OPERATORS[step.operator](inputs, step.how)
            if not forced or step.output not in values:
                found[step.output] = made
            yield step.output, made

    def _needed(self, steps: Sequence[_Step]) -> list[_Step]:
        """Leave out what stands before the centred frame and behind the logits. Raises CompileError."""
        wanted, kept = {self._end}, []
        for step in reversed(steps):
            if step.output in wanted and step.output != self.start:
                kept.append(step)
                wanted.update(step.inputs)
        unknown = sorted({step.operator for step in kept} - set(OPERATORS))
        if unknown:
            raise CompileError(
                f"the graph holds {', '.join(unknown)}, which fine-tuning does not compute; train without `qat`"
            )
        return kept[::-1]
