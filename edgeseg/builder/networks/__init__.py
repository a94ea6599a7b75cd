"""Build networks: ``edge_unet`` (ours) and all of segmentation-models-pytorch, at any input size."""

from edgeseg.builder.networks.config import ACTIVATIONS, NetworkConfig
from edgeseg.builder.networks.edge_unet import EDGE_ENCODERS, EdgeUnet
from edgeseg.builder.networks.padded import PaddedNetwork
from edgeseg.builder.networks.table import architecture_names, architecture_of, network_from_config

__all__ = [
    "ACTIVATIONS",
    "EDGE_ENCODERS",
    "EdgeUnet",
    "NetworkConfig",
    "PaddedNetwork",
    "architecture_names",
    "architecture_of",
    "network_from_config",
]
