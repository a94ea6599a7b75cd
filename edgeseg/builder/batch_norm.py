"""Let BatchNorm take its statistics from the whole batch, of which each process has a share."""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeseg.builder.processes import count, gathered
from edgeseg.errors import UsageError

__all__ = ["synchronise_batch_norm"]

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let all layers of BatchNorm of a network share their statistics. Names and values of its state stay.

    Raises:
        UsageError: a layer is of a kind that cannot be replaced.
    """
    layers = [one for one in network.modules() if isinstance(one, _BatchNorm)]
    for layer in layers:
        if type(layer) not in _KNOWN or not (layer.affine and layer.track_running_stats):
            raise UsageError(
                f"the network has a {type(layer).__name__}, which several processes cannot compute together; train "
                "with one process"
            )
    if torch.cuda.is_available():
        convert_sync_batchnorm(network)  # PyTorch's own conversion would lose the activations in timm's layers
        return
    for layer in layers:
        layer.__class__ = _OnCpuWithActivation if isinstance(layer, BatchNormAct2d) else _OnCpu


def _normalised(layer: _BatchNorm, images: Tensor) -> Tensor:
    """Do in training what ``nn.SyncBatchNorm`` does, which refuses tensors of a CPU.

    Args:
        layer: its statistics are updated.
        images: NxCx... of any float type, this process's share.
    """
    assert layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None
    values, pixels = images.float(), [0, *range(2, images.ndim)]
    own = torch.stack([values.mean(pixels), values.var(pixels, unbiased=False)])
    means, variances = gathered(own).unbind(1)
    # Shares are equal, so that the variance is the mean of theirs plus that of their means.
    mean, variance = means.mean(0), variances.mean(0) + means.var(0, unbiased=False)
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        share = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        number = count() * values.numel() // values.shape[1]
        layer.running_mean.lerp_(mean, share)
        layer.running_var.lerp_(variance * number / (number - 1), share)
    shape = [1, -1, *[1] * (images.ndim - 2)]
    scale = layer.weight * (variance + layer.eps).rsqrt()
    return ((values - mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)).to(images.dtype)


class _OnCpu(nn.BatchNorm2d):
    """A layer for any number of dimensions, which another ``forward`` alone distinguishes from PyTorch's."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        return _normalised(self, input) if self.training else super().forward(input)


class _OnCpuWithActivation(BatchNormAct2d):
    """timm's layer, which another ``forward`` alone distinguishes from it."""

    def forward(self, input: Tensor) -> Tensor:
        found = self.act(self.drop(_normalised(self, input))) if self.training else super().forward(input)
        assert isinstance(found, Tensor)
        return found
