"""The saved weights are the mean of the last averages, and their BatchNorm statistics are their own."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeseg.builder.batches import training_batches, usable_crops
from edgeseg.builder.checkpoint import SafetensorsIO, load_checkpoint
from edgeseg.builder.networks import NetworkConfig, PaddedNetwork, network_from_config
from edgeseg.builder.recipe import EpochResult, TrainOptions, TrainRecipe
from edgeseg.builder.snapshots import Snapshots, measure_statistics
from edgeseg.builder.training import train
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import CheckpointError
from edgeseg.spec import ModelSpec

CONFIG = NetworkConfig("edge_unet", "mobilenet_v2")
SPEC = ModelSpec(CLASSES, PALETTE, (64, 64), ignore_id=11)
DATA = StreetDataset("demo://street?frames=8&step=60&size=64x64")
RECIPE = TrainRecipe(epochs=3, batch=2, crop=64, workers=0, snapshots=2, learning_rate=0.01)


def small(seed: int) -> PaddedNetwork:
    """A network of one BatchNorm, one dropout and two convolutions."""
    torch.manual_seed(seed)
    inner = nn.Sequential()
    inner.add_module("encoder", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)))
    inner.add_module("head", nn.Conv2d(4, 2, 1))
    return PaddedNetwork(inner, NetworkConfig(classes=2), stride=1)


IMAGES = [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(index)) + index for index in range(5)]


def encoder(network: PaddedNetwork) -> nn.Sequential:
    found = network.network.encoder
    assert isinstance(found, nn.Sequential)
    return found


def test_weights_are_the_mean_of_the_last_ones_and_the_oldest_is_forgotten() -> None:
    networks = [small(seed) for seed in range(5)]
    snapshots = Snapshots(networks[0], 3)
    for count, network in enumerate(networks, 1):
        snapshots.take(network)
        snapshots.average(IMAGES)
        last = networks[max(0, count - 3) : count]
        for mean, *values in zip(snapshots.network.parameters(), *(one.parameters() for one in last)):
            torch.testing.assert_close(mean, sum(values) / len(values))
    before = [value.clone() for value in snapshots.network.parameters()]
    with torch.no_grad():
        encoder(networks[-1])[0].weight.fill_(9)  # type: ignore[union-attr,operator]
    assert all(torch.equal(one, other) for one, other in zip(before, snapshots.network.parameters())), "a copy"


def test_statistics_are_those_of_the_mean_weights_on_the_images_given() -> None:
    """The mean over batches of mean and unbiased variance, as PyTorch's own update_bn has them."""
    snapshots = Snapshots(small(0), 2)
    networks = [small(1), small(2)]
    for network in networks:
        snapshots.take(network)
    snapshots.average(IMAGES)
    convolution, norm, _ = encoder(snapshots.network)
    with torch.no_grad():
        maps = [convolution(images) for images in IMAGES]
    torch.testing.assert_close(norm.running_mean, torch.stack([one.mean((0, 2, 3)) for one in maps]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([one.var((0, 2, 3)) for one in maps]).mean(0))
    assert norm.momentum == 0.1 and not any(one.training for one in snapshots.network.modules())
    theirs = [encoder(one)[1].running_mean for one in networks]
    assert all(torch.equal(one, torch.zeros(4)) for one in theirs), "no other network changes"  # type: ignore[arg-type]


def test_a_frozen_encoder_keeps_its_statistics() -> None:
    network = small(0)
    with torch.no_grad():
        encoder(network)[1].running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
    network.freeze_encoder()
    measure_statistics(network, IMAGES)
    assert torch.equal(encoder(network)[1].running_mean, torch.full((4,), 3.0))  # type: ignore[arg-type]


def test_a_layer_that_is_not_run_keeps_its_statistics() -> None:
    """As those of a network that is fine-tuned for INT8, which runs a graph with BatchNorm folded."""

    class Folded(PaddedNetwork):
        def forward(self, image: Tensor) -> Tensor:
            return image

    network = Folded(small(0).network, NetworkConfig(classes=2), stride=1)
    norm = encoder(network)[1]
    with torch.no_grad():
        norm.running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
        norm.running_var.fill_(2.0)  # type: ignore[union-attr,operator]
        norm.num_batches_tracked.fill_(7)  # type: ignore[union-attr,operator]
    snapshots = Snapshots(network, 2)
    snapshots.take(network)
    snapshots.average(IMAGES)
    kept = dict(encoder(snapshots.network)[1].named_buffers())
    assert torch.equal(kept["running_mean"], torch.full((4,), 3.0)) and int(kept["num_batches_tracked"]) == 7
    assert torch.equal(kept["running_var"], torch.full((4,), 2.0))


def test_a_network_without_batchnorm_asks_for_no_image() -> None:
    network = small(0)
    network.network.encoder = nn.Conv2d(3, 4, 3)

    def never() -> Tensor:
        raise AssertionError("an image was asked for")

    measure_statistics(network, (never() for _ in range(1)))


def run(folder: Path, recipe: TrainRecipe = RECIPE, resume: bool = False, stop_after: int = 9) -> list[EpochResult]:
    results: list[EpochResult] = []

    def report(result: EpochResult) -> None:
        results.append(result)
        if len(results) == stop_after:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    options = TrainOptions(resume=resume, report=report)
    train(network_from_config(CONFIG), CONFIG, SPEC, [DATA], DATA, recipe, folder, options)
    return results


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs, of which the last two are averaged."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    run(folder)
    return folder


def test_a_run_saves_the_mean_of_its_last_averages(tmp_path: Path, straight: Path) -> None:
    """The same run without snapshots saves the averages themselves, epoch by epoch."""
    plain = replace(RECIPE, snapshots=0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plain, stop_after=2)
    second = load_checkpoint(tmp_path / "last.safetensors").network
    run(tmp_path, plain, resume=True)
    third = load_checkpoint(tmp_path / "last.safetensors").network
    saved = load_checkpoint(straight / "last.safetensors").network
    for value, one, other in zip(saved.parameters(), second.parameters(), third.parameters()):
        torch.testing.assert_close(value, (one + other) / 2)
    assert not all(torch.allclose(value, other) for value, other in zip(saved.parameters(), third.parameters()))
    again = deepcopy(saved)
    _, crops = usable_crops([DATA], SPEC, RECIPE)
    measure_statistics(again, (batch[0] for batch in training_batches(crops, RECIPE, RECIPE.epochs - 1)))
    for name, value in again.state_dict().items():
        torch.testing.assert_close(saved.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_resumed_run_is_the_run_and_workers_change_nothing(tmp_path: Path, straight: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=2)
    assert [one.epoch for one in run(tmp_path, replace(RECIPE, workers=1), resume=True)] == [2, 3]
    one, other = (load_checkpoint(folder / "last.safetensors") for folder in (straight, tmp_path))
    assert one.training["val_miou"] == other.training["val_miou"]
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
    kept = SafetensorsIO().load_checkpoint(tmp_path / "resume.safetensors")["state_dict"]["snapshots._extra_state"]
    assert len(kept["kept"]) == 2


def test_epochs_that_are_not_validated_are_in_the_mean(tmp_path: Path, straight: Path) -> None:
    run(tmp_path, replace(RECIPE, validate_every=9))
    one, other = (load_checkpoint(folder / "last.safetensors").network for folder in (straight, tmp_path))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_another_number_of_snapshots_is_another_run(straight: Path) -> None:
    with pytest.raises(CheckpointError, match="is of another run: snapshots was 2 and is 0"):
        run(straight, replace(RECIPE, snapshots=0, epochs=4), resume=True)
