"""Build the networks: ``edge_unet`` (ours) and ``unet`` (segmentation-models-pytorch), both at any input size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.errors import SpecError

__all__ = ["EDGE_ENCODERS", "EdgeUnet", "NetworkConfig", "PaddedNetwork", "network_from_config"]

EDGE_ENCODERS = {"efficientnet_lite0": "efficientnet_lite0", "mobilenet_v2": "mobilenetv2_100"}
"""Encoder name -> timm name. Both use ReLU6 and no squeeze-excite, which is what INT8 wants."""

STRIDE = 32


@dataclass(frozen=True)
class NetworkConfig:
    """Parameters to build a network again, stored in every checkpoint.

    Attributes:
        architecture: ``"edge_unet"`` or ``"unet"``.
        encoder: for ``edge_unet`` a key of ``EDGE_ENCODERS``; for ``unet`` any encoder of
            segmentation-models-pytorch.
        classes: number of classes.
    """

    architecture: str = "edge_unet"
    encoder: str = "efficientnet_lite0"
    classes: int = 11

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Build a configuration from what ``dataclasses.asdict`` returned.

        Raises:
            KeyError: a field is missing.
            ValueError: the number of classes is no number.
        """
        return cls(str(data["architecture"]), str(data["encoder"]), int(data["classes"]))


class EdgeUnet(nn.Module):
    """A light U-Net for INT8 on the edge.

    A timm encoder gives features at strides 4, 8, 16 and 32. Each decoder stage projects the deep and the skip
    features with 1x1 convolutions, adds them, and refines with a depthwise-separable convolution. The head works at
    stride 4 and is enlarged bilinearly. Adding instead of concatenating keeps one INT8 scale per tensor.

    Args:
        encoder: a key of ``EDGE_ENCODERS``.
        classes: number of output channels.
        decoder_channels: channels at strides 16, 8 and 4.
    """

    def __init__(self, encoder: str, classes: int, decoder_channels: tuple[int, int, int] = (128, 96, 64)) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            EDGE_ENCODERS[encoder], pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        skips = self.encoder.feature_info.channels()
        deep = skips[-1]
        stages = []
        for skip, channels in zip(reversed(skips[:-1]), decoder_channels):
            stages.append(DecoderStage(deep, skip, channels))
            deep = channels
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(deep, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits NxCxHxW from a float image Nx3xHxW; H and W are multiples of 32."""
        *skips, deep = self.encoder(image)
        for stage in self.decoder:
            deep = stage(deep, skips.pop())
        return F.interpolate(self.head(deep), scale_factor=4.0, mode="bilinear", align_corners=False)


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


class PaddedNetwork(nn.Module):
    """A network at any input size: zeros (the mean colour) right and below up to a multiple of 32, cropped off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits NxCxHxW from a float image Nx3xHxW."""
        height, width = int(image.shape[2]), int(image.shape[3])
        bottom, right = -height % STRIDE, -width % STRIDE
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom))
        logits: Tensor = self.network(image)
        return logits[:, :, :height, :width] if bottom or right else logits


def network_from_config(config: NetworkConfig) -> PaddedNetwork:
    """Build a network with random weights.

    Raises:
        SpecError: the architecture or the encoder does not exist; the message names those that do.
    """
    if config.architecture == "edge_unet":
        if config.encoder not in EDGE_ENCODERS:
            raise SpecError(f"edge_unet has no encoder {config.encoder!r}; it has {', '.join(EDGE_ENCODERS)}")
        return PaddedNetwork(EdgeUnet(config.encoder, config.classes))
    if config.architecture == "unet":
        return PaddedNetwork(_smp_unet(config))
    raise SpecError(f"no network {config.architecture!r}; there are edge_unet and unet")


def _smp_unet(config: NetworkConfig) -> nn.Module:
    import segmentation_models_pytorch as smp

    try:
        network: nn.Module = smp.Unet(config.encoder, encoder_weights=None, classes=config.classes)
    except Exception as error:  # smp and timm raise several types for unknown names
        raise SpecError(
            f"segmentation-models-pytorch has no encoder {config.encoder!r}; see smp.encoders.get_encoder_names()"
        ) from error
    return network


def _conv_bn(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )
