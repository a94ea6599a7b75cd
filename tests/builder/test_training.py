from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeseg.builder.data import TrainingCrops, class_weights
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.training import EpochResult, TrainRecipe, train
from edgeseg.demo import StreetDataset
from edgeseg.errors import CheckpointError, DatasetError, ImageError
from edgeseg.images import InMemory, Sample
from edgeseg.labels import label_counts
from edgeseg.preprocess import normalized
from edgeseg.spec import IGNORE_ID, ModelSpec
from edgeseg.street import CLASSES, PALETTE

SPEC = ModelSpec(CLASSES, PALETTE, (96, 128), ignore_id=11)
DATA = StreetDataset("demo://street?frames=24&step=20&size=128x96")
RECIPE = TrainRecipe(epochs=3, batch=4, crop=96, workers=0)


class PullThePlug(Exception):
    """The power goes after so many epochs."""


def _train(folder: Path, recipe: TrainRecipe, *, resume: bool = False, stop_after: int = 99) -> list[EpochResult]:
    results: list[EpochResult] = []

    def report(result: EpochResult) -> None:
        results.append(result)
        if len(results) == stop_after:
            raise PullThePlug

    config = NetworkConfig()
    torch.manual_seed(0)
    network = network_from_config(config)
    best = train(network, config, SPEC, [DATA], DATA, recipe, folder, resume=resume, report=report)
    assert best.spec == SPEC and best.training["val_miou"] >= max(r.miou for r in results)
    return results


def test_learns_saves_logs_and_resumes_where_the_power_went(tmp_path: Path) -> None:
    with pytest.raises(PullThePlug):
        _train(tmp_path, RECIPE, stop_after=2)
    resumed = _train(tmp_path, RECIPE, resume=True)
    assert [result.epoch for result in resumed] == [2, 3], "the epoch whose state was not stored yet comes again"
    names = {"best.safetensors", "last.safetensors", "resume.safetensors", "metrics.csv"}
    assert names == {path.name for path in tmp_path.iterdir()}
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"], "each epoch once"
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[-1]["iou road"]) == pytest.approx(resumed[-1].iou["road"], abs=1e-5)
    with pytest.raises(CheckpointError, match="is of another run: learning_rate was 0.002 and is 0.0001; resume"):
        _train(tmp_path, dataclasses.replace(RECIPE, learning_rate=1e-4), resume=True)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        _train(tmp_path, RECIPE, resume=True)


def test_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    frame = np.zeros((96, 128, 3), np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[:40] = 255
    data = InMemory([Sample("x", frame, mask)] * 8, "binary")
    config = NetworkConfig()
    with pytest.raises(DatasetError, match="only 1 of the 11 classes.*0 and 255 must be converted"):
        train(network_from_config(config), config, SPEC, [data], DATA, RECIPE, tmp_path)


def test_a_bad_image_in_a_worker_is_one_line(tmp_path: Path) -> None:
    class Rotten(InMemory):
        def __getitem__(self, index: int) -> Sample:
            if torch.utils.data.get_worker_info() is not None:
                raise ImageError("7.png is truncated (20 bytes); copy it again")
            return super().__getitem__(index)

    config = NetworkConfig()
    data = Rotten([DATA[i] for i in range(8)], "rotten")
    recipe = dataclasses.replace(RECIPE, workers=1)
    with pytest.raises(ImageError) as caught:
        train(network_from_config(config), config, SPEC, [data], DATA, recipe, tmp_path)
    assert str(caught.value) == "7.png is truncated (20 bytes); copy it again"


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    once = dataclasses.replace(RECIPE, epochs=1)
    one, two = _train(tmp_path / "a", once), _train(tmp_path / "b", once)
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
    weights = class_weights(label_counts(DATA, SPEC).classes)
    assert weights.shape == (11,) and weights.mean() == pytest.approx(1.0, abs=1e-5)
    assert weights[CLASSES.index("pedestrian")] > 1.5 * weights[CLASSES.index("road")]
