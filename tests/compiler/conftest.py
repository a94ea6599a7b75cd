"""Small trained-looking networks and their float graphs, each built once for all compiler tests."""

from __future__ import annotations

import fcntl
import os
import pickle
from typing import Any, Callable

import pytest
import torch

from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.weights import load_start
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.steps.float_graph import float_graph_from_module
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.images import InMemory
from edgeseg.preprocess import NetworkFrames
from edgeseg.ranges import Ranges
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (72, 104), ignore_id=11)
"""Not a multiple of 32, so that padding and cropping are in the graph."""

_RENDERED = StreetDataset("demo://street?frames=16&step=30&size=104x72")
STREET = InMemory([_RENDERED[index] for index in range(16)], _RENDERED.description)
"""Rendered once: calibration reads each frame several times."""

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


def compiled_network(config: NetworkConfig) -> tuple[PaddedNetwork, Any, Ranges]:
    """A settled network, its float graph, and its ranges on the rendered street."""
    network = settled_network(config)
    graph = float_graph_from_module(network, SPEC)
    return network, graph, ranges_from_frames(graph, NetworkFrames(STREET, SPEC))


def named(config: NetworkConfig) -> str:
    return f"{config.architecture}-{config.encoder}"


one_network = pytest.mark.parametrize("config", CONFIGS[1:2], ids=named, indirect=True)
"""For a test of what does not hang on the network: the smallest one."""


@pytest.fixture(params=CONFIGS, ids=named)
def config(request: Any) -> NetworkConfig:
    made: NetworkConfig = request.param
    return made


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[NetworkConfig], tuple[PaddedNetwork, Any, Ranges]]:
    """``compiled_network``, of which all processes of a run make each but once."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    read: dict[str, tuple[PaddedNetwork, Any, Ranges]] = {}

    def made(config: NetworkConfig) -> tuple[PaddedNetwork, Any, Ranges]:
        name = named(config)
        if name not in read:
            path = folder / f"{name}.pickle"
            with open(folder / f"{name}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    path.write_bytes(pickle.dumps(compiled_network(config)))
                read[name] = pickle.loads(path.read_bytes())
        return read[name]

    return made


@pytest.fixture
def network(config: NetworkConfig, made_once: Any) -> PaddedNetwork:
    """Shared by all tests, as is the graph: they change copies."""
    network: PaddedNetwork = made_once(config)[0]
    return network


@pytest.fixture
def graph_and_ranges(config: NetworkConfig, made_once: Any) -> tuple[Any, Ranges]:
    _, graph, ranges = made_once(config)
    return graph, ranges
