"""Every network and encoder of segmentation-models-pytorch, by name."""

from __future__ import annotations

import inspect
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Iterator, Mapping

from torch import nn

from edgeseg.builder.networks.config import NetworkConfig
from edgeseg.builder.networks.names import nearest
from edgeseg.builder.networks.padded import PaddedNetwork
from edgeseg.errors import SpecError, first_line, require

__all__ = [
    "WIDTHS",
    "options_of",
    "quiet",
    "refuse_unknown_encoder",
    "smp_architectures",
    "smp_encoders",
    "smp_from_config",
    "timm_name",
    "weight_sets",
]

WIDTHS = {
    "fpn": "decoder_pyramid_channels",
    "linknet": "",
    "pspnet": "psp_out_channels",
    "segformer": "decoder_segmentation_channels",
    "dpt": "decoder_fusion_channels",
}
"""What a network calls the width of its decoder, empty for none; all others call it ``decoder_channels``."""
_OURS = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "encoder_depth", "aux_params")


@lru_cache(maxsize=None)
def smp_architectures() -> Mapping[str, Any]:
    """Return the networks of segmentation-models-pytorch: name in lower case -> class."""
    smp = require("segmentation_models_pytorch", "train")
    found: dict[str, Any] = smp.MODEL_ARCHITECTURES_MAPPING
    return found


@lru_cache(maxsize=None)
def smp_encoders() -> tuple[str, ...]:
    """Return the names of encoders: those of segmentation-models-pytorch, and timm's as ``tu-NAME``."""
    smp, timm = require("segmentation_models_pytorch", "train"), require("timm", "train")
    return (*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models()))


def refuse_unknown_encoder(name: str) -> None:
    """Raise SpecError, with the nearest names, unless there is such an encoder."""
    known = smp_encoders()
    # timm names weights behind a dot (tu-resnet18.a1_in1k), and smp takes older names (timm-regnetx_002) for tu-.
    base = name.split(".")[0]
    if name in known or (name.startswith("tu-") and base in known) or _renamed(base) in known:
        return
    likely = nearest(name, known) or nearest(name.split("_")[0].split("-")[0], known)
    remedy = f"nearest: {likely}" if likely else "see smp.encoders.get_encoder_names(), and timm's as tu-NAME"
    raise SpecError(f"segmentation-models-pytorch has no encoder {name!r}; {remedy}")


def weight_sets(encoder: str) -> tuple[str, ...]:
    """Return the names of an encoder's pretrained weights, such as ``imagenet`` and ``ssl``; none where it has none."""
    name = timm_name(encoder)
    if name is not None:
        return ("imagenet",) if require("timm", "train").models.is_model_pretrained(name) else ()
    smp = require("segmentation_models_pytorch", "train")
    return tuple(smp.encoders.encoders[encoder]["pretrained_settings"])


def timm_name(encoder: str) -> str | None:
    """Return what timm calls an encoder that segmentation-models-pytorch takes from there; None for its own."""
    if encoder in require("segmentation_models_pytorch", "train").encoders.get_encoder_names():
        return None
    name = _renamed(encoder)
    return name[len("tu-") :] if name.startswith("tu-") else None


def smp_from_config(config: NetworkConfig) -> PaddedNetwork:
    """Build a network of segmentation-models-pytorch with random weights.

    Raises:
        SpecError: there is no such encoder or option, or the network cannot be built so.
    """
    refuse_unknown_encoder(config.encoder)
    arguments = _arguments(config)
    try:
        with quiet():
            network = smp_architectures()[config.architecture](
                config.encoder,
                encoder_weights=None,
                in_channels=config.in_channels,
                classes=config.classes,
                **arguments,
            )
    except Exception as error:  # smp and timm raise many types for what does not go together
        raise SpecError(
            f"{config.architecture} cannot be built with {config.encoder} ({first_line(error)[:200]}); choose another "
            "encoder, depth or decoder channels"
        ) from error
    return PaddedNetwork(network, config, _stride(network))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep advice of smp and timm about renamed encoders from the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _arguments(config: NetworkConfig) -> dict[str, Any]:
    """What a network's class takes beside encoder, weights, channels and classes. Raises SpecError."""
    known = _parameters(config.architecture)
    allowed = options_of(config.architecture)
    wrong = [one for one in config.options if one not in allowed]
    if wrong:
        raise SpecError(f"{config.architecture} has no option {wrong[0]!r}; it has {', '.join(allowed)}")
    arguments = dict(config.options)
    if config.depth is not None:
        arguments["encoder_depth"] = config.depth
    arguments.update(_decoder(config, known))
    if config.architecture == "dpt" and config.encoder.startswith("tu-vit"):
        arguments["dynamic_img_size"] = True  # else it takes the one size that its weights were made for
    return arguments


def options_of(architecture: str) -> list[str]:
    """Return what a network's class takes beside encoder, weights, channels, classes, depth and activation."""
    return [name for name in _parameters(architecture) if name not in ("self", "kwargs", *_OURS)]


def _parameters(architecture: str) -> Mapping[str, Any]:
    return inspect.signature(smp_architectures()[architecture].__init__).parameters


def _decoder(config: NetworkConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """The width of the decoder, as the network's class calls it; as many stages as the encoder is deep."""
    name = WIDTHS.get(config.architecture, "decoder_channels")
    default = known[name].default if name else None
    is_many = isinstance(default, tuple)
    channels = config.decoder_channels
    if name in config.options:
        return {}
    if channels is None:
        # A shorter encoder needs fewer decoder stages; smp asks for them by hand.
        return {name: default[: config.depth]} if isinstance(default, tuple) and config.depth is not None else {}
    if not name:
        raise SpecError(f"{config.architecture} takes its decoder channels from the encoder; leave them out")
    if not is_many and len(channels) != 1:
        raise SpecError(f"{config.architecture} has one number of decoder channels, got {len(channels)}")
    stages = config.depth or known["encoder_depth"].default
    if is_many and len(channels) != stages:
        raise SpecError(
            f"{config.architecture} has {stages} decoder stages, one per stage of the encoder, got {len(channels)} "
            "decoder channels"
        )
    return {name: tuple(channels) if is_many else channels[0]}


def _stride(network: nn.Module) -> int:
    """The multiple of pixels that the network takes."""
    strides = getattr(network.encoder, "output_strides", None)
    if strides is not None:
        return 2 * int(max(strides))  # a ViT, whose deepest map DPT halves once more
    return int(network.encoder.output_stride)  # type: ignore[union-attr, arg-type]


def _renamed(name: str) -> str:
    """The name of a timm encoder in smp before 0.5 (timm-regnetx_002) as it is called now (tu-regnetx_002)."""
    if not name.startswith("timm-"):
        return name
    rest = name[len("timm-") :]
    return f"tu-tf_{rest}" if rest.startswith("mobilenetv3") else f"tu-{rest}"
