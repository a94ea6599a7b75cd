"""What builds a network again, stored in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping

from edgeseg.errors import SpecError

__all__ = ["ACTIVATIONS", "CHANNELS", "NetworkConfig"]

ACTIVATIONS = ("sigmoid", "softmax", "logsoftmax")
CHANNELS = (1, 3, 4)
"""Channels of an image: grey, colour, colour with a fourth."""
_FIRST = ("architecture", "encoder", "classes")


@dataclass(frozen=True)
class NetworkConfig:
    """Parameters to build a network again, stored in every checkpoint.

    Attributes:
        architecture: ``"edge_unet"``, or a network of segmentation-models-pytorch such as ``"unet"`` or ``"fpn"``.
        encoder: for ``edge_unet`` a key of ``EDGE_ENCODERS``; else any encoder of segmentation-models-pytorch.
        classes: number of classes, which is that of output channels.
        in_channels: of the image: 1, 3 or 4.
        decoder_channels: of the decoder's stages, deepest first, or its one width; None for the architecture's own.
        depth: stages of the encoder; None for the architecture's own.
        activation: of ``ACTIVATIONS`` at the end; None gives logits, which training and the compiler work with.
        pads: the image is padded to a multiple of the stride. False for a network that takes any size by itself, and
            was trained elsewhere so.
        options: other arguments of the network's class in segmentation-models-pytorch.

    Raises:
        SpecError: a number or the activation is out of range.
    """

    architecture: str = "edge_unet"
    encoder: str = "efficientnet_lite0"
    classes: int = 11
    in_channels: int = 3
    decoder_channels: tuple[int, ...] | None = None
    depth: int | None = None
    activation: str | None = None
    pads: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise SpecError(f"a network has one class or more, got {self.classes}")
        if self.in_channels not in CHANNELS:
            raise SpecError(f"an image has 1 channel (grey), 3 or 4, got in_channels {self.in_channels}")
        if self.activation not in (None, *ACTIVATIONS):
            raise SpecError(
                f"no activation {self.activation!r}; there are {', '.join(ACTIVATIONS)}, or none for logits"
            )
        if self.decoder_channels is not None and not (self.decoder_channels and min(self.decoder_channels) > 0):
            raise SpecError(f"decoder channels are positive numbers, got {self.decoder_channels}")
        if self.depth is not None and not 1 <= self.depth <= 6:
            raise SpecError(f"an encoder has 1 to 6 stages, got depth {self.depth}")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict that ``from_json`` turns back; what has its default is left out of it."""
        plain = type(self)()
        kept = {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}
        return {**{name: getattr(self, name) for name in _FIRST}, **kept}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Build a configuration from what ``to_json`` returned.

        Raises:
            KeyError: a field is missing.
            TypeError, ValueError: a field is of another type.
            SpecError: a field is out of range.
        """
        more = {one.name: data[one.name] for one in fields(cls) if one.name not in _FIRST and one.name in data}
        channels, depth = more.get("decoder_channels"), more.get("depth")
        if channels is not None:
            more["decoder_channels"] = tuple(int(one) for one in channels)
        more.update({} if depth is None else {"depth": int(depth)})
        more["in_channels"] = int(more.get("in_channels", 3))
        more["options"] = dict(more.get("options", {}))
        return cls(str(data["architecture"]), str(data["encoder"]), int(data["classes"]), **more)
