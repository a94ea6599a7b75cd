"""Configurations of train, and the one that a folder of a training holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.app.config_file import read_config
from edgeseg.app.fields import absolute
from edgeseg.app.train import CONFIG_NAME, TrainingProgress, train
from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import UsageError
from tests.cli.test_cli import edgeseg, refused
from tests.cli.test_train import data_set


def small(folder: Path, **more: object) -> TrainConfig:
    """A training of one epoch on two tiny classes."""
    usual = {"size": "64x64", "batch": 2, "epochs": 1, "workers": 0, "weights": "none", "out": folder / "run"}
    data = (str(folder / "train"),)
    return TrainConfig(data, str(folder / "val"), "ground,disc", **{**usual, **more})  # type: ignore[arg-type]


def test_what_must_be_given_is_named(tmp_path: Path) -> None:
    assert "--val is missing" in refused("train", "x", cwd=tmp_path, code=2)
    assert "DATA is missing" in refused("train", "--val", "x", cwd=tmp_path, code=2)


def test_paths_become_absolute_and_other_words_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\n")
    config = absolute(TrainConfig(("x", "demo://street?frames=3"), "val", "names.txt", weights="none"))
    assert config.data == (str(tmp_path / "x"), "demo://street?frames=3") and config.weights == "none"
    assert config.validation == str(tmp_path / "val") and config.classes == str(tmp_path / "names.txt")
    assert absolute(TrainConfig(("x",), "val", "ground,disc")).classes == "ground,disc"


def test_a_crop_is_a_multiple_of_32(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`crop` must be a multiple of 32, got 40"):
        train(small(tmp_path, crop=40))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_folder_holds_its_configuration_and_goes_on_with_it(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 1)
    config = small(tmp_path)
    heard: list[str] = []
    best = train(config, TrainingProgress(line=heard.append))
    kept = tmp_path / "run" / CONFIG_NAME
    assert read_config(TrainConfig, kept) == config and best.training["epochs_trained"] == 1
    assert heard[0] == "network: edge_unet + efficientnet_lite0, random weights"
    with pytest.raises(UsageError, match="holds an earlier run; pass `resume`"):
        train(config)
    done = edgeseg("train", kept, "--resume", "--epochs", 2, "--save-config", "c.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_config(TrainConfig, kept) == small(tmp_path, epochs=2), "and it would start anew"
    assert read_config(TrainConfig, tmp_path / "c.json") == small(tmp_path, epochs=2, resume=True)


def test_a_configuration_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    data_set(tmp_path, "train", 2, 1)
    data_set(tmp_path, "val", 2, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG_NAME).write_text("# mine\n")
    with pytest.raises(UsageError, match=f"{CONFIG_NAME} exists and would be replaced"):
        train(small(tmp_path))
    assert (tmp_path / "run" / CONFIG_NAME).read_text() == "# mine\n"
