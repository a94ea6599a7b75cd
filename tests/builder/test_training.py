from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeseg.builder.data import TrainingCrops, class_weights
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.training import EpochResult, TrainRecipe, train
from edgeseg.demo import StreetDataset
from edgeseg.errors import DatasetError
from edgeseg.images import InMemory, Sample
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec
from edgeseg.street import CLASSES, PALETTE

SPEC = ModelSpec(CLASSES, PALETTE, (96, 128), ignore_id=11)
DATA = StreetDataset("demo://street?frames=24&step=20&size=128x96")
RECIPE = TrainRecipe(epochs=3, batch=4, crop=96, workers=0)


def _train(folder: Path, epochs: int, resume: bool = False) -> list[EpochResult]:
    results: list[EpochResult] = []
    config = NetworkConfig()
    torch.manual_seed(0)
    recipe = TrainRecipe(epochs, 4, 96, workers=0)
    network = network_from_config(config)
    best = train(network, config, SPEC, [DATA], DATA, recipe, folder, resume=resume, report=results.append)
    assert best.spec == SPEC and best.training["val_miou"] == max(
        [r.miou for r in results] + [best.training["val_miou"]]
    )
    return results


def test_learns_saves_logs_and_resumes(tmp_path: Path) -> None:
    first = _train(tmp_path, 3)
    assert [result.epoch for result in first] == [0, 1, 2]
    assert first[-1].loss < first[0].loss
    assert {"best.safetensors", "last.safetensors", "resume.safetensors", "metrics.csv"} == {
        p.name for p in tmp_path.iterdir()
    }
    resumed = _train(tmp_path, 5, resume=True)
    assert [result.epoch for result in resumed] == [3, 4], "goes on where it stopped"
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"], "the log survives a resume"
    assert float(rows[-1]["iou road"]) == pytest.approx(resumed[-1].iou["road"], abs=1e-5)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = _train(tmp_path / "a", 1), _train(tmp_path / "b", 1)
    assert one[0].loss == pytest.approx(two[0].loss, rel=1e-3)


def test_too_few_images_are_refused(tmp_path: Path, spec: ModelSpec) -> None:
    few = InMemory([DATA[0]], "one")
    with pytest.raises(DatasetError, match="1 training images are fewer than one batch of 4"):
        config = NetworkConfig()
        train(network_from_config(config), config, SPEC, [few], DATA, RECIPE, tmp_path)


def test_crops_keep_image_and_mask_together() -> None:
    """An image whose colour is its label must still be one after any augmentation."""
    label = np.zeros((96, 128), np.uint8)
    label[:, 64:] = 1
    label[40:60, 20:30] = 11
    frame = np.repeat(np.where(label == 1, 220, 30).astype(np.uint8)[..., None], 3, axis=2)
    crops = TrainingCrops(InMemory([Sample("x", frame, label)], "x"), SPEC, 64)
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        image, mask = crops[0]
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32
        assert mask.shape == (64, 64) and mask.dtype == torch.int64
        seen |= set(mask.unique().tolist())
        counted = (mask == 0) | (mask == 1)
        bright = image.mean(0) > normalized(np.full((1, 1, 1, 3), 125, np.uint8), SPEC.preprocess).mean()
        assert (bright[counted] == (mask[counted] == 1)).float().mean() > 0.93
    assert seen == {0, 1, IGNORE_ID}, "void is ignored, and nothing else appears"


def test_rare_classes_weigh_more() -> None:
    weights = class_weights([DATA], SPEC)
    assert weights.shape == (11,) and weights.mean() == pytest.approx(1.0, abs=1e-5)
    assert weights[CLASSES.index("pedestrian")] > 1.5 * weights[CLASSES.index("road")]
