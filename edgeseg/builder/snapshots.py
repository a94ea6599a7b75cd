"""Average the weights of the last epochs."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice
from typing import Any, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeseg.builder.networks import PaddedNetwork

__all__ = ["Snapshots", "measure_statistics"]

_BATCHES = 50
"""From so many batches BatchNorm's statistics are measured; more change them little and take time every epoch."""


class Snapshots(nn.Module):
    """The mean of the last snapshots of a network's weights.

    Stochastic weight averaging (Izmailov et al. 2018) of networks that are moving averages themselves. BatchNorm's
    statistics are those of the mean weights, measured on training images: the mean of statistics would be of
    no network.

    Args:
        network: the network; it is copied.
        most: snapshots that are kept.

    Attributes:
        network: has the mean weights after ``average``.
    """

    def __init__(self, network: PaddedNetwork, most: int) -> None:
        super().__init__()
        self.network = deepcopy(network)
        self._most = most
        self._kept: list[list[Tensor]] = []

    def take(self, network: PaddedNetwork) -> None:
        """Keep a snapshot of the weights of a network, built as the one that was copied, and forget the oldest."""
        new = [value.detach().to("cpu", copy=True) for value in network.parameters()]
        self._kept = [*self._kept, new][-self._most :]

    def average(self, images: Iterable[Tensor]) -> None:
        """Set the mean of the snapshots, of which there must be one, and measure its BatchNorm statistics.

        Args:
            images: batches of training images, Nx3xHxW float32, on any device.
        """
        with torch.no_grad():
            # On the CPU, in one order: a resumed run has the same sums.
            for mean, values in zip(self.network.parameters(), zip(*self._kept)):
                mean.copy_(torch.stack(values).mean(0))
        measure_statistics(self.network, images)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the snapshots, for a run that is resumed."""
        return {"kept": self._kept}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take what ``get_extra_state`` returned."""
        self._kept = [list(one) for one in state["kept"]]


def measure_statistics(network: PaddedNetwork, images: Iterable[Tensor]) -> None:
    """Set BatchNorm's means and variances to those of some batches; nothing else of the network changes.

    A frozen encoder keeps its own, and so does a layer that is not run: fine-tuning for INT8 folds it with the
    statistics that it has. The network is in evaluation mode afterwards.

    Args:
        network: with any layers.
        images: batches, Nx3xHxW float32, on any device; the first 50 are used.
    """
    network.train()
    layers = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.training]
    network.eval()
    momenta = [one.momentum for one in layers]
    if not layers:
        return
    device = next(network.parameters()).device
    before = [{name: value.clone() for name, value in one.named_buffers()} for one in layers]
    for one in layers:
        one.reset_running_stats()
        one.momentum = None  # the mean over all batches
        one.train()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for batch in islice(images, _BATCHES):
            network(batch.to(device).contiguous(memory_format=torch.channels_last))
    for one, momentum, old in zip(layers, momenta, before):
        one.momentum = momentum
        one.eval()
        if not one.num_batches_tracked:
            for name, value in one.named_buffers():
                value.copy_(old[name])
