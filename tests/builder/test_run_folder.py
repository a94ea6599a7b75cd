"""What the folder of a training holds."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.builder.charts import SampleView
from edgeseg.builder.recipe import EpochResult, TrainRecipe
from edgeseg.builder.run_folder import RUN_FILES, RunFolder
from edgeseg.images import read_image
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(("ground", "<disc & hole>"), ((0, 0, 0), (255, 0, 0)), (32, 32))
FACTS = {
    "classes": list(SPEC.classes),
    "mode": "multiclass",
    "threshold": 0.5,
    "size_hw": [32, 32],
    "initial_weights": "random weights",
    "training_data": ["train (4)"],
    "validation_data": "val (2)",
    "recipe": dataclasses.asdict(TrainRecipe(loss="ce+0.5*dice")),
    "network": {"architecture": "edge_unet"},
    "versions": {"torch": "2"},
}
LABEL = np.tile(np.array([0, 1, 1, 255], np.uint8), (16, 4))
SAMPLE = SampleView("one", np.full((16, 16, 3), 90, np.uint8), LABEL, np.where(LABEL == 1, 1, 0).astype(np.uint8))


def result(epoch: int, miou: float, is_best: bool, spec: ModelSpec = SPEC) -> EpochResult:
    iou = dict.fromkeys(spec.classes, miou)
    return EpochResult(epoch, 2.0 / epoch, miou, 0.5, iou, is_best, 1.5, 2 * miou / (1 + miou), 1e-3 / epoch)


def keep(folder: Path, epoch: int, miou: float, best: tuple[int, float], spec: ModelSpec = SPEC) -> None:
    facts = {**FACTS, "classes": list(spec.classes)}
    counts = np.eye(len(spec.classes), dtype=np.int64) * 100 * epoch
    RunFolder(folder, facts, spec).keep(result(epoch, miou, best[0] == epoch, spec), best, counts, [SAMPLE])


def test_tables_pictures_and_page_are_of_all_epochs_and_the_confusion_of_the_best(tmp_path: Path) -> None:
    keep(tmp_path, 1, 0.25, (1, 0.25))
    keep(tmp_path, 2, 0.5, (2, 0.5))
    samples = (tmp_path / "samples.png").read_bytes()
    keep(tmp_path, 3, 0.375, (2, 0.5))
    assert {path.name for path in tmp_path.iterdir()} - {"tensorboard"} == set(RUN_FILES)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and rows[2]["val_miou"] == "0.37500"
    assert rows[1]["iou <disc & hole>"] == "0.50000" and rows[1]["learning_rate"] == "5.000e-04"
    confusion = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert confusion == [["label / found", *SPEC.classes], ["ground", "200", "0"], ["<disc & hole>", "0", "200"]]
    assert (tmp_path / "samples.png").read_bytes() == samples, "those of the best epoch stay"
    assert read_image(tmp_path / "results.png").shape == (820, 1440, 3)


def test_the_page_needs_no_other_file_and_says_what_decided_the_run(tmp_path: Path) -> None:
    keep(tmp_path, 1, 0.5, (1, 0.5))
    page = (tmp_path / "summary.html").read_text()
    assert "mIoU 50.0 %, epoch 1 of 1" in page and "ce+0.5*dice" in page and "train (4)" in page
    assert "&lt;disc &amp; hole&gt;" in page and "<disc" not in page
    outside = [one for one in re.findall(r'(?:src|href)="([^"]{0,22})', page) if one != "data:image/png;base64,"]
    assert not outside and "http" not in re.sub(r'src="data:[^"]*"', "", page)


def test_a_resumed_run_has_every_epoch_once(tmp_path: Path) -> None:
    for epoch in (1, 2, 3, 2):
        keep(tmp_path, epoch, 0.1 * epoch, (epoch, 0.1 * epoch))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize("classes", [2, 30, 254])
def test_pictures_are_drawn_of_any_number_of_classes_and_of_no_number(tmp_path: Path, classes: int) -> None:
    """An epoch of nothing but void has no loss, and a class that does not occur no IoU."""
    names = tuple(f"class number {index}" for index in range(classes))
    spec = ModelSpec(names, ((1, 2, 3),) * classes, (32, 32), ignore_id=255)
    none = dataclasses.replace(result(1, math.nan, True, spec), loss=math.nan)
    facts = {**FACTS, "classes": list(names)}
    RunFolder(tmp_path, facts, spec).keep(none, (1, math.nan), np.zeros((classes, classes), np.int64), [SAMPLE])
    picture = read_image(tmp_path / "results.png")
    assert picture.min() < 100 and picture.shape == (820, 1440, 3)
    assert "mIoU -" in (tmp_path / "summary.html").read_text()


def test_a_rising_curve_rises(tmp_path: Path) -> None:
    """The middle panel of two runs: what rises is blue at the top right, what falls is not."""
    for name, values in (("up", (0.1, 0.9)), ("down", (0.9, 0.1))):
        (tmp_path / name).mkdir()
        for epoch, miou in enumerate(values, 1):
            keep(tmp_path / name, epoch, miou, (epoch, miou))
    up, down = (read_image(tmp_path / name / "results.png")[36:80, 900:944].astype(int) for name in ("up", "down"))

    def blue(picture: Any) -> int:
        return int(((picture[..., 0] - picture[..., 2]) > 100).sum())

    assert blue(up) > 20 > blue(down)


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path, FACTS, SPEC)
    for epoch in (1, 2):
        folder.keep(result(epoch, 0.2 * epoch, True), (epoch, 0.2 * epoch), np.eye(2, dtype=np.int64), [SAMPLE])
    folder.close()
    resumed = RunFolder(tmp_path, FACTS, SPEC)
    resumed.keep(result(2, 0.3, True), (2, 0.3), np.eye(2, dtype=np.int64), [SAMPLE])
    resumed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [(one.step, round(one.value, 5)) for one in events.Scalars("val/miou")]
    assert told == [(1, 0.2), (2, 0.3)], "the interrupted epoch is there once"
    assert {"train/loss", "train/learning_rate", "val_iou/ground"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["samples"]
