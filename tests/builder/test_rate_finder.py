"""The learning-rate finder."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest
import torch

from edgeseg.app.train import find_rate as find_rate_of
from edgeseg.app.train_config import TrainConfig
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.rate_finder import rate_search
from edgeseg.builder.recipe import TrainRecipe
from edgeseg.builder.task import SegmentationTask
from edgeseg.errors import TrainingError
from edgeseg.spec import IGNORE_ID, ModelSpec
from tests.cli.test_cli import edgeseg
from tests.cli.test_train import SMALL, data_set

SPEC = ModelSpec(("dark", "light"), ((0, 0, 0), (255, 255, 255)), (32, 32))


class Line(torch.nn.Module):
    """Logits w * x of the first channel: the loss is a function of one weight, that of the 'encoder' apart."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Conv2d(3, 1, 1)
        self.head = torch.nn.Conv2d(1, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits Nx2xHxW."""
        return self.head(self.encoder(image))  # type: ignore[no-any-return]


class Padded(torch.nn.Module):
    """As ``PaddedNetwork`` has its network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Line()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits Nx2xHxW."""
        return self.network(image)  # type: ignore[no-any-return]


def task() -> SegmentationTask:
    torch.manual_seed(0)
    recipe = TrainRecipe(optimizer="sgd", class_weights="none", encoder_rate=1.0)
    return SegmentationTask(Padded(), SPEC, recipe, torch.ones(2))  # type: ignore[arg-type]


def test_the_rate_is_a_tenth_of_that_with_the_lowest_loss() -> None:
    labels = torch.randint(0, 2, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    images = (labels[:, None] * 2.0 - 1).expand(-1, 3, -1, -1)
    found = rate_search(task(), repeat((images, labels)), 60)
    lowest = found.losses.index(min(found.losses))
    assert found.rate == pytest.approx(found.rates[lowest] / 10)
    assert found.rates[0] == pytest.approx(1e-6) and found.rates[1] / found.rates[0] == pytest.approx(10 ** (6 / 59))
    assert found.losses[lowest] < found.losses[0] and 1e-4 < found.rate <= 0.1


def test_batches_of_nothing_but_void_are_left_out() -> None:
    labels = torch.full((1, 8, 8), IGNORE_ID)
    with pytest.raises(TrainingError, match="no learning rate was found"):
        rate_search(task(), repeat((torch.ones(1, 3, 8, 8), labels)), 5)


def test_a_command_says_a_rate_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data_set(tmp_path, "train", 4, 1)
    before = sorted(tmp_path.rglob("*"))
    done = edgeseg("train", "train", "--val", "train", "--classes", "ground,disc", *SMALL, "--find-lr", 8, "--json",
                   "--crop", 32, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 1e-7 < told["learning_rate"] < 1 and len(told["rates"]) == len(told["losses"])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_search_follows_its_seed(tmp_path: Path) -> None:
    data_set(tmp_path, "train", 4, 1)
    folder = str(tmp_path / "train")
    config = TrainConfig((folder,), folder, "ground,disc", crop=32, batch=2, workers=0, find_rate=4)
    first, again, other = (find_rate_of(replace(config, seed=seed)).losses for seed in (3, 3, 4))
    assert first == again != other


def test_networks_of_edgeseg_have_what_the_finder_needs() -> None:
    network = network_from_config(NetworkConfig(classes=2))
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[:, 8:20] = 1
    found = rate_search(
        SegmentationTask(network, SPEC, TrainRecipe(), torch.ones(2)),
        repeat((torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), labels)),
        12,
    )
    assert len(found.losses) > 3
