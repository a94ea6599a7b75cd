"""Build a network with the weights that it starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from typing_extensions import TypedDict, Unpack

from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import UsageError, require

if TYPE_CHECKING:
    from edgeseg.builder.networks import NetworkConfig, PaddedNetwork

__all__ = ["build", "config_of_training", "started_network"]


class NetworkShape(TypedDict, total=False):
    """What a network may be built with beside its names.

    Attributes:
        in_channels: of the image: 1, 3 (default) or 4. A network of one also takes RGB, and sees its brightness.
        decoder_channels: of the decoder's stages, deepest first, or its one width; else the architecture's own.
        depth: stages of the encoder; else the architecture's own.
        activation: ``"sigmoid"``, ``"softmax"`` or ``"logsoftmax"`` at the end; else it gives logits.
        options: other arguments of the network's class in segmentation-models-pytorch.
    """

    in_channels: int
    decoder_channels: int | Sequence[int] | None
    depth: int | None
    activation: str | None
    options: Mapping[str, Any]


def build(
    architecture: str,
    encoder: str,
    classes: int,
    *,
    weights: str | Path | None = "imagenet",
    keep: str = "all",
    freeze_encoder: bool = False,
    **shape: Unpack[NetworkShape],
) -> PaddedNetwork:
    """Build a network with weights to start from, as a torch module for training or ``compile_model``.

    Args:
        architecture: ``"edge_unet"`` (ours), or one of segmentation-models-pytorch such as ``"unet"``, ``"unet++"``,
            ``"fpn"`` or ``"deeplabv3+"``.
        encoder: one of the architecture's, such as ``"mobilenet_v2"`` or ``"resnet18"``; of timm as ``"tu-NAME"``.
        classes: number of output channels.
        weights: ``"imagenet"`` or another set of the encoder (``"ssl"``, ``"swsl"``), None for random weights, the name
            of a package that ships them, a file (safetensors, ``torch.save``), or a folder of ``save_pretrained``.
        keep: what is taken of a file of weights: ``"all"``, ``"body"`` (all but the head, for other classes) or
            ``"encoder"``.
        freeze_encoder: keep the encoder's weights and its BatchNorm statistics in training.
        **shape: ``in_channels`` (1, 3 or 4), ``decoder_channels`` (deepest first, or one width), ``depth``,
            ``activation`` (``"sigmoid"``, ``"softmax"``, ``"logsoftmax"``; else logits), ``options`` of smp's class.

    Returns:
        A module from Nx``in_channels``xHxW float32 to Nx``classes``xHxW float32, at any height and width. Its
        ``config`` says how it was built. With one channel it also takes RGB, and sees its brightness.

    Raises:
        SpecError: there is no such architecture or encoder, or they do not go together.
        CheckpointError: the weights cannot be fetched or read, or do not fit.
        MissingDependencyError: torch, or the package with the weights, is not installed.
        UsageError: there are no weights of that name.
    """
    require("torch", "train")
    from edgeseg.builder.networks import NetworkConfig, architecture_of

    given: dict[str, Any] = dict(shape)
    channels = given.pop("decoder_channels", None)
    channels = (channels,) if isinstance(channels, int) else channels
    config = NetworkConfig(
        architecture_of(architecture),
        encoder,
        classes,
        decoder_channels=None if channels is None else tuple(channels),
        **given,
    )
    return started_network(config, weights, keep, freeze_encoder=freeze_encoder)[0]


def config_of_training(config: TrainConfig, classes: int) -> NetworkConfig:
    """Return what builds the network of a training.

    Raises:
        UsageError, SpecError: there is none such.
    """
    from edgeseg.builder.networks import NetworkConfig, architecture_of

    if config.in_channels == 4:
        raise UsageError("`in_channels` is 1 or 3 here: an image file has no fourth; build and train it in Python")
    return NetworkConfig(
        architecture_of(config.network),
        config.encoder,
        classes,
        in_channels=config.in_channels,
        decoder_channels=_numbers(config.decoder_channels),
        depth=config.depth,
        options=dict(_option(text) for text in config.network_options),
    )


def started_network(
    config: NetworkConfig,
    weights: str | Path | None,
    keep: str = "all",
    *,
    freeze_encoder: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[PaddedNetwork, str]:
    """Return a network and where its weights are from, as text for people. Raises as ``build``."""
    from edgeseg.builder.networks import network_from_config
    from edgeseg.builder.weights import load_start

    network = network_from_config(config)
    origin = load_start(network, None if weights is None else str(weights), keep=keep, report=report)
    if freeze_encoder:
        network.freeze_encoder()
        origin += ", encoder frozen"
    return network, origin


def _numbers(text: str) -> tuple[int, ...] | None:
    """Read ``256,128,64`` as numbers, and nothing as None. Raises UsageError."""
    if not text.strip():
        return None
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"`decoder_channels` are whole numbers such as 256,128,64,32,16, got {text!r}") from None


def _option(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``; the value is what JSON reads (true, 3, null), else the text. Raises UsageError."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip().isidentifier() or not value.strip():
        raise UsageError(f"`network_options` are NAME=VALUE, as in decoder_attention_type=scse, got {text!r}")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()
