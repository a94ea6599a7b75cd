"""Find the convolutions of a network in its compiled graph, and fold their BatchNorm as the compiler does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeseg.ranges import LEVELS, SMALLEST_QDQ_SCALE
from edgeseg.spec import Preprocess

__all__ = ["FoldedLayer", "folded_layers", "matching_layer", "rounded_weight"]

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution of a network and the BatchNorm behind it, by their names in the network.

    Attributes:
        convolution: an ``nn.Conv2d`` or ``nn.ConvTranspose2d``.
        norm: the BatchNorm; empty for none.
        reads_frames: it reads centred BGR frames of 0-255: scale and order of the channels are in its weights.
    """

    convolution: str
    norm: str
    reads_frames: bool = False

    def weight_and_bias(self, network: nn.Module, preprocess: Preprocess) -> tuple[Tensor, Tensor | None]:
        """Compute the weight and bias of the compiled convolution from the network's parameters, with gradients.

        BatchNorm has its running statistics, which stay as they are: statistics of batches would be of a graph that
        is never compiled (Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 3.2.2).
        """
        convolution: Any = network.get_submodule(self.convolution)
        weight, bias = convolution.weight, convolution.bias
        if self.norm:
            norm: Any = network.get_submodule(self.norm)
            factor = norm.weight if norm.weight is not None else torch.ones_like(norm.running_var)
            factor = factor / torch.sqrt(norm.running_var + norm.eps)
            axis = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
            weight = weight * factor.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
            bias = (0 if bias is None else bias) - norm.running_mean
            bias = bias * factor + (0 if norm.bias is None else norm.bias)
        if self.reads_frames:
            scale = torch.from_numpy(preprocess.scale_and_offset()[0]).to(weight)
            weight = weight / scale.view(1, 3, 1, 1)
            weight = weight.flip(1) if preprocess.channel_order == "RGB" else weight
        return weight, bias

    def store_weight(self, network: nn.Module, preprocess: Preprocess, weight: Tensor) -> None:
        """Give the convolution the weight with which ``weight_and_bias`` gives this folded weight, where one does."""
        convolution: Any = network.get_submodule(self.convolution)
        with torch.no_grad():
            ones = nn.Parameter(torch.ones_like(convolution.weight))
            weights, convolution.weight = convolution.weight, ones
            factor, _ = self.weight_and_bias(network, preprocess)
            convolution.weight = weights
            if self.reads_frames and preprocess.channel_order == "RGB":
                weight, factor = weight.flip(1), factor.flip(1)
            weights.copy_(torch.where(factor == 0, weights, weight / factor))


def folded_layers(network: nn.Module, image: Tensor) -> list[FoldedLayer]:
    """Return the convolutions that run for an image, each with the BatchNorm that reads what it gives.

    Args:
        network: in evaluation mode.
        image: 1x3xHxW float32.
    """
    names = {module: name for name, module in network.named_modules()}
    given: list[tuple[Tensor, str]] = []
    norms: dict[str, list[str]] = {}

    def ran(module: nn.Module, _: Any, output: Tensor) -> None:
        given.append((output, names[module]))  # the tensor is kept, so that no other has its identity
        norms.setdefault(names[module], [])

    def reads(module: nn.Module, inputs: Any) -> None:
        maker = next((name for tensor, name in reversed(given) if tensor is inputs[0]), None)
        if maker is not None:
            norms[maker].append(names[module])

    hooks = [
        module.register_forward_hook(ran)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
        else module.register_forward_pre_hook(reads)
        for module in names
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, _BatchNorm))
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [FoldedLayer(name, norm) for name, behind in norms.items() for norm in (*dict.fromkeys(behind), "")]


def matching_layer(
    weight: np.ndarray, layers: Sequence[FoldedLayer], values: Mapping[FoldedLayer, np.ndarray]
) -> FoldedLayer | None:
    """Return the layer whose folded weight a compiled convolution has; None where there is none.

    Args:
        weight: of the compiled convolution.
        layers: to choose from, the first that fits is taken.
        values: layer -> its folded weight.
    """
    scale = float(np.abs(weight).max())
    for layer in layers:
        value = values[layer]
        if value.shape == weight.shape and float(np.abs(value - weight).max()) <= _TOLERANCE * scale:
            return layer
    return None


def rounded_weight(weight: Tensor, axis: int, *, per_channel: bool) -> Tensor:
    """Round a weight to int8 levels and back, as the compiler stores it; the gradient passes as it is.

    Args:
        weight: float32 of any shape.
        axis: of the output channels.
        per_channel: one scale per output channel, else one for all.
    """
    with torch.no_grad():
        others = [place for place in range(weight.ndim) if place != axis]
        amax = weight.abs().amax(others, keepdim=True) if per_channel else weight.abs().amax()
        scale = torch.clamp(amax / LEVELS, min=SMALLEST_QDQ_SCALE)
        error = torch.clamp(torch.round(weight / scale), -LEVELS, LEVELS) * scale - weight
    return weight + error
