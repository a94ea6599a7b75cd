"""The network of our own, ``edge_unet``."""

from __future__ import annotations

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.builder.networks.config import NetworkConfig
from edgeseg.builder.networks.names import nearest
from edgeseg.builder.networks.padded import PaddedNetwork
from edgeseg.errors import SpecError

__all__ = ["EDGE_ENCODERS", "EdgeUnet", "edge_unet_from_config"]

EDGE_ENCODERS = {
    "efficientnet_lite0": "efficientnet_lite0",
    "efficientnet_lite1": "efficientnet_lite1",
    "efficientnet_lite2": "efficientnet_lite2",
    "mobilenet_v2": "mobilenetv2_100",
}
"""Encoder name -> timm name. All use ReLU6 and no squeeze-excite, which is what INT8 wants."""

_STAGES = 3


class EdgeUnet(nn.Module):
    """A light U-Net for INT8 on the edge.

    A timm encoder gives features at strides 4, 8, 16 and 32. Each decoder stage projects the deep and the skip
    features with 1x1 convolutions, adds them, and refines with a depthwise-separable convolution. The head works at
    stride 4 and is enlarged bilinearly. Adding instead of concatenating keeps one INT8 scale per tensor.

    Args:
        encoder: a key of ``EDGE_ENCODERS``.
        classes: number of output channels.
        decoder_channels: channels at strides 16, 8 and 4.
        in_channels: of the image.
        context: whether the deepest features go through ``StripContext``.
    """

    def __init__(
        self,
        encoder: str,
        classes: int,
        decoder_channels: tuple[int, ...] = (128, 96, 64),
        in_channels: int = 3,
        context: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            EDGE_ENCODERS[encoder], pretrained=False, features_only=True, out_indices=(1, 2, 3, 4), in_chans=in_channels
        )
        skips = self.encoder.feature_info.channels()
        deep = skips[-1]
        self.context = StripContext(deep) if context else nn.Identity()
        stages = []
        for skip, channels in zip(reversed(skips[:-1]), decoder_channels):
            stages.append(DecoderStage(deep, skip, channels))
            deep = channels
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(deep, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits NxCxHxW from a float image NxIxHxW; H and W are multiples of 32."""
        *skips, deep = self.encoder(image)
        deep = self.context(deep)
        for stage in self.decoder:
            deep = stage(deep, skips.pop())
        return F.interpolate(self.head(deep), scale_factor=4.0, mode="bilinear", align_corners=False)


class StripContext(nn.Module):
    """Context for the deepest features: what stands far to the sides, above and below, and in the image as a whole.

    Long depthwise strips (Hou et al. 2020, "Strip Pooling", with learned weights in place of the mean) and the global
    mean are added to a narrow copy of the features, whose projection is added to them. It begins as the identity.

    Args:
        channels: of the features.
        width: channels of the copy.
        length: of the strips, in cells of stride 32.
    """

    def __init__(self, channels: int, width: int = 96, length: int = 11) -> None:
        super().__init__()
        self.narrow = nn.Sequential(_conv_bn(channels, width, 1), nn.ReLU6(inplace=True))
        self.across = nn.Conv2d(width, width, (1, length), padding=(0, length // 2), groups=width)
        self.along = nn.Conv2d(width, width, (length, 1), padding=(length // 2, 0), groups=width)
        self.everywhere = nn.Conv2d(width, width, 1)
        self.wide = _conv_bn(width, channels, 1)
        nn.init.zeros_(self.wide.get_parameter("1.weight"))

    def forward(self, features: Tensor) -> Tensor:
        """Compute NxCxHxW from NxCxHxW."""
        narrow = self.narrow(features)
        whole = self.everywhere(narrow.mean((2, 3), keepdim=True))
        seen = F.relu6(narrow + self.across(narrow) + self.along(narrow) + whole)
        added: Tensor = features + self.wide(seen)
        return added


class DecoderStage(nn.Module):
    """Decoder stage that doubles the deep features, adds the skip features of that size, and refines the sum."""

    def __init__(self, deep: int, skip: int, channels: int) -> None:
        super().__init__()
        self.from_deep = _conv_bn(deep, channels, 1)
        self.from_skip = _conv_bn(skip, channels, 1)
        self.refine = nn.Sequential(
            nn.ReLU6(inplace=True),
            _conv_bn(channels, channels, 3, groups=channels),
            nn.ReLU6(inplace=True),
            _conv_bn(channels, channels, 1),
            nn.ReLU6(inplace=True),
        )

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """Compute NxCx2Hx2W from deep features NxDxHxW and skip features NxSx2Hx2W."""
        doubled = F.interpolate(self.from_deep(deep), scale_factor=2.0, mode="nearest")
        refined: Tensor = self.refine(doubled + self.from_skip(skip))
        return refined


def edge_unet_from_config(config: NetworkConfig) -> PaddedNetwork:
    """Build an ``edge_unet`` with random weights.

    Raises:
        SpecError: it has no such encoder, depth, number of decoder stages or option.
    """
    if config.encoder not in EDGE_ENCODERS:
        likely = nearest(config.encoder, EDGE_ENCODERS)
        hint = f"nearest: {likely}; it has" if likely else "it has"
        raise SpecError(f"edge_unet has no encoder {config.encoder!r}; {hint} {', '.join(EDGE_ENCODERS)}")
    channels = config.decoder_channels or (128, 96, 64)
    if len(channels) != _STAGES:
        raise SpecError(f"edge_unet has {_STAGES} decoder stages (strides 16, 8, 4), got {len(channels)} channels")
    if config.depth not in (None, 5):
        raise SpecError(f"edge_unet has no depth to choose, got {config.depth}")
    options = dict(config.options)
    context = options.pop("context", False)
    if options or not isinstance(context, bool):
        raise SpecError(f"edge_unet has one option, context=true or false; got {dict(config.options)}")
    return PaddedNetwork(EdgeUnet(config.encoder, config.classes, channels, config.in_channels, context), config)


def _conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )
