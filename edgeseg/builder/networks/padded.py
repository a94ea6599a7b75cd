"""A network at any input size, that also reads colour images where it takes grey ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.builder.networks.config import NetworkConfig
from edgeseg.errors import SpecError
from edgeseg.ranges import Ranges

__all__ = ["PaddedNetwork"]

_BRIGHTNESS_RGB = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as OpenCV takes it."""


class PaddedNetwork(nn.Module):
    """A network at any input size: zeros (the mean colour) right and below up to a multiple of the stride, cropped off.

    A network of one channel also takes colour images (Nx3xHxW, RGB), and sees their brightness.

    Args:
        network: with an ``encoder``, and a head whose logits have the image's size.
        config: what built it.
        stride: the multiple, in pixels.

    Attributes:
        ranges: of INT8, that the network was trained with; None for a network trained in float.
    """

    ranges: Ranges | None = None

    def __init__(self, network: nn.Module, config: NetworkConfig, stride: int = 32) -> None:
        super().__init__()
        self.network = network
        self.config, self.stride = config, stride
        self._encoder_is_frozen = False

    @property
    def in_channels(self) -> int:
        """Return how many channels its image has."""
        return self.config.in_channels

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits NxCxHxW, or what the activation makes of them, from a float image NxIxHxW."""
        if self.config.in_channels == 1 and image.shape[1] == 3:
            image = (image * image.new_tensor(_BRIGHTNESS_RGB).view(1, 3, 1, 1)).sum(1, keepdim=True)
        height, width = int(image.shape[2]), int(image.shape[3])
        bottom, right = (-height % self.stride, -width % self.stride) if self.config.pads else (0, 0)
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom))
        logits: Tensor = self.network(image)
        if bottom or right:
            logits = logits[:, :, :height, :width]
        return _activated(logits, self.config.activation)

    def as_float(self) -> PaddedNetwork:
        """Return the network as it is kept and exported: itself, where it computes in float."""
        return self

    def freeze_encoder(self) -> None:
        """Keep the encoder's weights and its BatchNorm statistics from now on, also in training mode."""
        self._encoder_is_frozen = True
        self._encoder().requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> PaddedNetwork:
        """Set the training mode, of all but a frozen encoder."""
        super().train(mode)
        if self._encoder_is_frozen:
            self._encoder().eval()
        return self

    def _encoder(self) -> nn.Module:
        encoder = self.network.encoder
        if not isinstance(encoder, nn.Module):
            raise SpecError(f"{type(self.network).__name__} has no encoder that is a module")
        return encoder


def _activated(logits: Tensor, activation: str | None) -> Tensor:
    if activation == "sigmoid":
        return logits.sigmoid()
    if activation == "softmax":
        return logits.softmax(1)
    return torch.log_softmax(logits, 1) if activation == "logsoftmax" else logits
