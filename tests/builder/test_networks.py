"""Networks by name: what they compute, what they are told, and what wrong names are answered."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeseg.builder.networks import (
    EDGE_ENCODERS,
    NetworkConfig,
    architecture_names,
    architecture_of,
    network_from_config,
)
from edgeseg.builder.networks.names import nearest
from edgeseg.errors import SpecError

CONFIGS = [
    *(NetworkConfig("edge_unet", encoder, 5) for encoder in EDGE_ENCODERS),
    NetworkConfig("edge_unet", "mobilenet_v2", 5, options={"context": True}),
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


def test_context_begins_as_nothing_and_then_sees_the_whole_image() -> None:
    without = network_from_config(NetworkConfig(encoder="mobilenet_v2")).eval()
    network = network_from_config(NetworkConfig(encoder="mobilenet_v2", options={"context": True})).eval()
    added = network.load_state_dict(without.state_dict(), strict=False)
    assert added.missing_keys and {name.split(".")[1] for name in added.missing_keys} == {"context"}
    image = torch.randn(1, 3, 64, 480)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), without(image))
        nn.init.ones_(network.network.context.wide[1].weight)
        changed = image.clone()
        changed[..., :32] = 0
        far = network.network.context(_deepest(network, image)) - network.network.context(_deepest(network, changed))
    assert far[..., -1].abs().max() > 0, "the right end knows of the left one"


def _deepest(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Features of stride 32, all 0 but in the left column, where they are the image's."""
    features = network.network.encoder(image)[-1].clone()
    features[..., 1:] = 0
    return features


@pytest.mark.parametrize("architecture", ["edge_unet", "unet", "deeplabv3plus", "pspnet"])
def test_padding_does_not_change_what_needs_none(architecture: str) -> None:
    """The stride of a network is its own: 8 for PSPNet, 16 for DeepLabV3+."""
    encoder = "mobilenet_v2"
    network = network_from_config(NetworkConfig(architecture, encoder, 3)).eval()
    image = torch.randn(1, 3, 3 * network.stride, 4 * network.stride)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network.network(image))
        assert network(image[:, :, 1:]).shape == (1, 3, 3 * network.stride - 1, 4 * network.stride)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (NetworkConfig("edge_unet", "resnet18"), "edge_unet has no encoder 'resnet18'; it has efficientnet_lite0, "),
        (NetworkConfig("edge_unet", "mobilnetv2"), "nearest: mobilenet_v2; it has"),
        (NetworkConfig("unnet"), "no network 'unnet'; nearest: unet, .*; there are edge_unet, unet, "),
        (NetworkConfig("deeplab", "resnet18"), "nearest: deeplabv3, deeplabv3plus"),
        (NetworkConfig("unet", "mobilnet_v2"), "nearest: mobilenet_v2, "),
        (NetworkConfig("unet", "efficientnet-lite0"), "nearest: tu-efficientnet_lite0, "),
        (NetworkConfig("unet", "mobilenetv3_large_100"), "nearest: tu-mobilenetv3_large_100, "),
        (NetworkConfig("unet", "nothing at all"), "timm's as tu-NAME"),
        (NetworkConfig("unet", "tu-hf-hub:someone/else"), "has no encoder"),
        (NetworkConfig("dpt", "resnet18"), r"dpt cannot be built with resnet18 \(Only Timm encoders"),
        (NetworkConfig("linknet", "mit_b0"), "linknet cannot be built with mit_b0"),
        (NetworkConfig("unet", "resnet18", decoder_channels=(8, 8)), "5 decoder stages, .* got 2 decoder channels"),
        (NetworkConfig("fpn", "resnet18", decoder_channels=(8, 8)), "fpn has one number of decoder channels, got 2"),
        (NetworkConfig("linknet", "resnet18", decoder_channels=(8,)), "takes its decoder channels from the encoder"),
        (NetworkConfig("edge_unet", decoder_channels=(8, 8)), r"3 decoder stages \(strides 16, 8, 4\), got 2"),
        (NetworkConfig("edge_unet", depth=3), "edge_unet has no depth"),
        (NetworkConfig("edge_unet", options={"kontext": True}), "edge_unet has one option, context=true or false"),
        (NetworkConfig("edge_unet", options={"context": "yes"}), "edge_unet has one option, context=true or false"),
        (NetworkConfig("unet", "resnet18", options={"pretrained": True}), "unet has no option 'pretrained'; it has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_built_is_one_line_that_says_what_can(config: NetworkConfig, said: str) -> None:
    with pytest.raises(SpecError, match=said) as refused:
        network_from_config(config)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"in_channels": 2}, r"1 channel \(grey\), 3 or 4, got in_channels 2"),
        ({"activation": "argmax"}, "no activation 'argmax'; there are sigmoid, softmax, logsoftmax"),
        ({"classes": 0}, "one class or more, got 0"),
        ({"decoder_channels": ()}, "decoder channels are positive"),
        ({"decoder_channels": (8, -8)}, "decoder channels are positive"),
        ({"depth": 0}, "1 to 6 stages, got depth 0"),
    ],
)
def test_a_configuration_is_within_its_bounds(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        NetworkConfig(**wrong)  # type: ignore[arg-type]


def test_a_configuration_survives_json_and_says_only_what_is_not_usual() -> None:
    assert NetworkConfig().to_json() == {"architecture": "edge_unet", "encoder": "efficientnet_lite0", "classes": 11}
    config = NetworkConfig(
        "unet", "resnet18", 3, 1, (64, 32, 16), 3, "sigmoid", False, {"decoder_attention_type": "scse"}
    )
    assert NetworkConfig.from_json(config.to_json()) == config
    assert NetworkConfig.from_json({"architecture": "fpn", "encoder": "x", "classes": "4"}).classes == 4


def test_networks_are_known_as_people_write_them() -> None:
    written = {"U-Net": "unet", "Unet++": "unetplusplus", "DeepLabV3+": "deeplabv3plus", "PSPNet": "pspnet"}
    assert {text: architecture_of(text) for text in written} == written
    assert architecture_of("edge-unet") == "edge_unet" and set(architecture_names()) >= {"upernet", "dpt"}


def test_nearest_names_begin_with_the_most_alike() -> None:
    names = ("resnet18", "resnet50", "tu-resnet18", "vgg11")
    assert nearest("restnet18", names) == "resnet18, tu-resnet18, resnet50"
    assert nearest("ResNet-18", names).startswith("resnet18, ") and nearest("swin", names) == ""


def test_decoder_channels_and_depth_are_those_asked_for() -> None:
    network = network_from_config(NetworkConfig("unet", "resnet18", 2, decoder_channels=(64, 32, 16), depth=3)).network
    widths = [block.conv1[0].out_channels for block in network.decoder.blocks]  # type: ignore[union-attr]
    assert widths == [64, 32, 16]
    assert network_from_config(NetworkConfig("unet", "resnet18", 2, depth=4)).stride == 16
    fpn = network_from_config(NetworkConfig("fpn", "resnet18", 2, decoder_channels=(48,))).network
    assert fpn.decoder.p5.out_channels == 48  # type: ignore[union-attr]
    edge = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 2, decoder_channels=(24, 16, 8))).network
    assert edge.head.in_channels == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["edge_unet", "unet"])
def test_one_channel_is_the_brightness_of_a_colour_image_and_four_are_four(architecture: str) -> None:
    torch.manual_seed(0)
    grey = network_from_config(NetworkConfig(architecture, "mobilenet_v2", 3, in_channels=1)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        brightness = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]
        torch.testing.assert_close(grey(image), grey(brightness))
        assert not torch.equal(grey(image), grey(image.flip(1))), "red and blue do not weigh the same"
        four = network_from_config(NetworkConfig(architecture, "mobilenet_v2", 3, in_channels=4)).eval()
        assert four(torch.rand(1, 4, 50, 64)).shape == (1, 3, 50, 64) and four.in_channels == 4


def test_activations_are_those_of_torch() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 32)
    usual = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 3)).eval()
    expected = {"sigmoid": torch.sigmoid, "softmax": nn.Softmax(1), "logsoftmax": nn.LogSoftmax(1)}
    for name, function in expected.items():
        network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 3, activation=name)).eval()
        network.load_state_dict(usual.state_dict())
        with torch.inference_mode():
            torch.testing.assert_close(network(image), function(usual(image)))


@pytest.mark.parametrize("architecture", ["edge_unet", "unet"])
def test_a_frozen_encoder_keeps_weights_and_statistics(architecture: str) -> None:
    network = network_from_config(NetworkConfig(architecture, "mobilenet_v2", 3))
    network.freeze_encoder()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    network.train()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not [name for name in moved if name.startswith("network.encoder.")]
    assert any("running_mean" in name for name in moved), "the decoder's statistics are learned"
