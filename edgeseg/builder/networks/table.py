"""Names of networks, and what builds each."""

from __future__ import annotations

from dataclasses import replace

from edgeseg.builder.networks.config import NetworkConfig
from edgeseg.builder.networks.edge_unet import edge_unet_from_config
from edgeseg.builder.networks.names import nearest, plain
from edgeseg.builder.networks.padded import PaddedNetwork
from edgeseg.builder.networks.smp import smp_architectures, smp_from_config
from edgeseg.errors import SpecError

__all__ = ["architecture_names", "architecture_of", "network_from_config"]

_OURS = "edge_unet"


def architecture_names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return (_OURS, *smp_architectures())


def architecture_of(text: str) -> str:
    """Return the name of a network as people write it: ``U-Net``, ``Unet++`` and ``DeepLabV3+`` too.

    Raises:
        SpecError: there is none of that name; the message has the nearest.
    """
    known = {plain(name): name for name in architecture_names()}
    if plain(text) in known:
        return known[plain(text)]
    likely = nearest(text, architecture_names())
    nearby = f"nearest: {likely}; " if likely else ""
    raise SpecError(f"no network {text!r}; {nearby}there are {', '.join(architecture_names())}")


def network_from_config(config: NetworkConfig) -> PaddedNetwork:
    """Build a network with random weights.

    Raises:
        SpecError: the architecture or the encoder does not exist, or they do not go together; the message names those
            that do.
    """
    config = replace(config, architecture=architecture_of(config.architecture))
    return edge_unet_from_config(config) if config.architecture == _OURS else smp_from_config(config)
