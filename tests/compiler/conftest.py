"""A small trained-looking network and its float graph, built once for all compiler tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.weights import load_start
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (72, 104), ignore_id=11)
"""Not a multiple of 32, so that padding and cropping are in the graph."""

CONFIGS = (
    NetworkConfig("edge_unet", "efficientnet_lite0"),
    NetworkConfig("edge_unet", "mobilenet_v2"),
    NetworkConfig("unet", "mobilenet_v2"),
)


def settled_network(config: NetworkConfig) -> PaddedNetwork:
    """A network whose BatchNorm statistics fit its weights, so that its tensors have natural ranges."""
    torch.manual_seed(0)
    network = network_from_config(config)
    if config.encoder == "efficientnet_lite0":
        load_start(network, "imagenet")
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(torch.randn(4, 3, 64, 96))
    return network.eval()


@pytest.fixture(scope="session", params=CONFIGS, ids=lambda config: f"{config.architecture}-{config.encoder}")
def network(request: Any) -> PaddedNetwork:
    return settled_network(request.param)


@pytest.fixture(scope="session")
def graph_and_ranges(network: PaddedNetwork) -> tuple[Any, Ranges]:
    graph = float_graph_from_module(network, SPEC)
    street = StreetDataset("demo://street?frames=16&step=30&size=104x72")
    return graph, ranges_from_frames(graph, NetworkFrames(street, SPEC))
