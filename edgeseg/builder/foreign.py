"""Read checkpoints that segmentation-models-pytorch's users have: find out which network it is, and build it.

A folder of ``save_pretrained`` says it. Of bare weights it is told by the names and shapes of the tensors.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, architecture_of, network_from_config
from edgeseg.builder.networks.smp import (
    WIDTHS,
    options_of,
    quiet,
    refuse_unknown_encoder,
    smp_architectures,
    smp_encoders,
)
from edgeseg.builder.weights.files import StoredWeights, read_weights
from edgeseg.builder.weights.mapping import load_stored
from edgeseg.errors import CheckpointError, SpecError, first_line, require

__all__ = ["config_of_stored", "foreign_network"]

_ACTIVATIONS = {None: None, "identity": None, "sigmoid": "sigmoid", "softmax2d": "softmax", "softmax": "softmax"}
_ACTIVATIONS["logsoftmax"] = "logsoftmax"
_PYRAMIDS = ("unet", "unetplusplus", "manet")
"""Networks with a decoder stage per stage of the encoder."""
_TAKES_ANY_SIZE = ("unet",)
"""Networks that smp runs at sizes that are no multiple of their stride. Padding would change what they predict."""


def foreign_network(path: Path, architecture: str | None = None, encoder: str | None = None) -> PaddedNetwork:
    """Build the network of a checkpoint that segmentation-models-pytorch's code wrote, and load it.

    Args:
        path: of ``torch.save`` (a state dict, also within a dict and under a prefix, as Lightning and DataParallel
            write it), of safetensors, or a folder of ``save_pretrained``.
        architecture: of the network, where the file does not tell; None finds it out.
        encoder: likewise. Encoders of timm (``tu-NAME``) have to be named for bare weights.

    Returns:
        The network in evaluation mode. Its ``config`` says what it is. It predicts what smp's own code predicts.

    Raises:
        CheckpointError: the file cannot be read, or is of no network of segmentation-models-pytorch.
        SpecError: there is no such architecture or encoder.
    """
    stored = read_weights(path)
    config = config_of_stored(stored, architecture, encoder)
    network = network_from_config(config)
    load_stored(network, stored)
    return network.eval()


def config_of_stored(
    stored: StoredWeights, architecture: str | None = None, encoder: str | None = None
) -> NetworkConfig:
    """Return what builds the network of a file again. Raises as ``foreign_network``."""
    config = _of_json(stored) if stored.about else _of_tensors(stored, architecture, encoder)
    for asked, found, name in ((architecture, config.architecture, "network"), (encoder, config.encoder, "encoder")):
        wanted = architecture_of(asked) if asked and name == "network" else asked
        if wanted not in (None, found):
            raise CheckpointError(f"{stored.path} is of {name} {found}, not {wanted}; leave `{name}` out")
    return replace(config, pads=config.architecture not in _TAKES_ANY_SIZE)


def _of_json(stored: StoredWeights) -> NetworkConfig:
    """From the config.json of ``save_pretrained``."""
    about = stored.about
    try:
        architecture = architecture_of(str(about["_model_class"]))
        if architecture not in smp_architectures():
            raise CheckpointError(f"{stored.path} is of {architecture}, not of segmentation-models-pytorch")
        encoder = str(about["encoder_name"])
        activation = about.get("activation")
        if activation not in _ACTIVATIONS:
            raise CheckpointError(
                f"{stored.path} ends with the activation {activation!r}, of which no class map can be made; save it "
                "with activation None"
            )
        allowed = options_of(architecture)
        depth = about.get("encoder_depth")
        return NetworkConfig(
            architecture,
            encoder,
            int(about.get("classes", 1)),
            in_channels=int(about.get("in_channels", 3)),
            depth=None if depth is None else int(depth),
            activation=_ACTIVATIONS[activation],
            options={name: _hashable(value) for name, value in about.items() if name in allowed},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{stored.path} has a config.json that is not of segmentation-models-pytorch "
            f"({type(error).__name__}: {first_line(error)}); save the model with smp's save_pretrained"
        ) from error


def _hashable(value: Any) -> Any:
    """A list of JSON as the tuple that it was."""
    return tuple(value) if isinstance(value, list) else value


def _of_tensors(stored: StoredWeights, architecture: str | None, encoder: str | None) -> NetworkConfig:
    """By names and shapes."""
    tensors = _without_prefix(stored)
    name = architecture_of(architecture) if architecture else _likely_architecture(tensors, stored)
    if name not in smp_architectures():
        raise CheckpointError(f"{stored.path} is no checkpoint of 'edgeseg train'; {name} is a network of its own")
    if encoder is not None:
        refuse_unknown_encoder(encoder)
    inside = {key[len("encoder.") :]: value for key, value in tensors.items() if key.startswith("encoder.")}
    heads = [value for key, value in tensors.items() if key.startswith("segmentation_head.") and value.ndim == 4]
    if not (inside and heads):
        raise CheckpointError(f"{stored.path} has no weights of an encoder or a head; save the whole state dict")
    config = NetworkConfig(
        name,
        encoder or _likely_encoder(inside, stored),
        int(heads[-1].shape[0]),
        **_decoder_of(name, tensors, int(heads[-1].shape[1])),
    )
    why = ""
    for channels in (3, 1, 4):
        of_channels = replace(config, in_channels=channels)
        misfit = _misfit(of_channels, tensors)
        if not misfit:
            return of_channels
        why = why or misfit
    raise CheckpointError(
        f"{stored.path} looks like {config.architecture} with {config.encoder}, but is not built with smp's usual "
        f"arguments ({why}); save it with save_pretrained, which stores them, or export it to ONNX"
    )


def _misfit(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> str:
    """Why tensors are not those of a network; empty where they are."""
    try:
        with torch.device("cpu" if config.encoder.startswith("mit_") or config.architecture == "dpt" else "meta"):
            own = network_from_config(config).network.state_dict()
    except SpecError as error:
        return first_line(error)
    kept = {key for key in tensors if not key.startswith("classification_head.")}
    odd = {key for key in kept ^ set(own) if not key.endswith("num_batches_tracked")}
    odd |= {key for key in kept & set(own) if tensors[key].shape != own[key].shape}
    return f"{len(odd)} tensors differ, first {min(odd)}" if odd else ""


def _without_prefix(stored: StoredWeights) -> dict[str, Tensor]:
    """The tensors from ``encoder.``, ``decoder.`` and ``segmentation_head.`` on, whatever wrapped the network."""
    names = list(stored.tensors)
    prefixes = {name[: name.index("encoder.")] for name in names if name.startswith("encoder.") or ".encoder." in name}
    for prefix in sorted(prefixes, key=len):
        tensors = {name[len(prefix) :]: stored.tensors[name] for name in names if name.startswith(prefix)}
        parts = {name.split(".")[0] for name in tensors}
        if {"encoder", "decoder", "segmentation_head"} <= parts:
            wanted = ("encoder.", "decoder.", "segmentation_head.", "classification_head.")
            return {name: value for name, value in tensors.items() if name.startswith(wanted)}
    raise CheckpointError(
        f"{stored.path} is no network of segmentation-models-pytorch (no encoder, decoder and segmentation_head in its "
        f"{len(names)} tensors, e.g. {names[0]}); export that network to ONNX and compile the .onnx"
    )


def _likely_architecture(tensors: Mapping[str, Tensor], stored: StoredWeights) -> str:
    """The network whose decoder has the most like names."""
    theirs = {name for name in tensors if name.startswith("decoder.")}
    alike = {name: len(theirs & own) / len(theirs | own) for name, own in _decoder_names().items()}
    best = max(alike, key=lambda name: alike[name])
    if alike[best] < 0.4:
        raise CheckpointError(
            f"{stored.path} has a decoder of no network of segmentation-models-pytorch (e.g. {min(theirs)}); pass its "
            "`network` and `encoder`, or export it to ONNX"
        )
    return best


@lru_cache(maxsize=1)
def _decoder_names() -> dict[str, set[str]]:
    """Names of the tensors of every network's decoder, with a small encoder."""
    found = {}
    for name, made in smp_architectures().items():
        encoder = "tu-vit_tiny_patch16_224" if name == "dpt" else "resnet18"
        with quiet(), torch.device("meta"):
            network = made(encoder, encoder_weights=None)
        found[name] = {key for key in network.state_dict() if key.startswith("decoder.")}
    return found


def _likely_encoder(inside: Mapping[str, Tensor], stored: StoredWeights) -> str:
    """The encoder of smp's own whose tensors have these names and shapes."""
    shapes = {name: tuple(value.shape) for name, value in inside.items()}
    families: dict[Any, bool] = {}
    near = ""
    for name in smp_encoders():
        if name.startswith("tu-"):
            break
        family = _family(name)
        if not families.get(family, True):
            continue
        own = _encoder_shapes(name)
        families[family] = next(iter(own)) in shapes
        # The stem's shape hangs on the channels of the image, and a shallow network leaves deep stages out.
        stem = next((key for key, shape in own.items() if len(shape) == 4), "")
        same = all(key == stem or own.get(key) == shape for key, shape in shapes.items())
        if same and len(own) == len(shapes):
            return name
        near = near or (name if same else "")
    if near:
        return near
    raise CheckpointError(
        f"{stored.path} has an encoder that cannot be told by its tensors (e.g. {next(iter(inside))}); pass `encoder`, "
        "for one of timm as tu-NAME"
    )


def _family(name: str) -> Any:
    """The class of an encoder: its members have the same names of tensors to begin with."""
    return require("segmentation_models_pytorch", "train").encoders.encoders[name]["encoder"]


def _encoder_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's tensors by name, built without memory where that is possible."""
    smp = require("segmentation_models_pytorch", "train")
    is_transformer = name.startswith("mit_")
    with quiet(), torch.device("cpu" if is_transformer else "meta"):
        encoder: nn.Module = smp.encoders.get_encoder(name)
    return {key: tuple(value.shape) for key, value in encoder.state_dict().items()}


def _decoder_of(architecture: str, tensors: Mapping[str, Tensor], head_channels: int) -> dict[str, Any]:
    """Depth, decoder channels and options of a network, as the shapes of its decoder show them."""
    if architecture in _PYRAMIDS:
        pattern = "decoder.blocks.x_0_{}" if architecture == "unetplusplus" else "decoder.blocks.{}"
        stages = [tensors.get(f"{pattern.format(index)}.conv1.0.weight") for index in range(6)]
        widths = tuple(int(value.shape[0]) for value in stages if value is not None)
        has_attention = any(".attention1.attention." in name for name in tensors)
        options = {"decoder_attention_type": "scse"} if has_attention and architecture != "manet" else {}
        return {"depth": len(widths), "decoder_channels": widths, "options": options}
    if architecture == "fpn":
        width = int(tensors["decoder.p5.weight"].shape[0])
        return {"decoder_channels": (width,), "options": {"decoder_segmentation_channels": head_channels}}
    if architecture == "dpt" or WIDTHS.get(architecture) == "":
        return {}
    return {"decoder_channels": (head_channels,)}
