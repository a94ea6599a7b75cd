"""Configurations of train, and the one that a folder of a training holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.app.config_file import read_config
from edgeseg.app.fields import absolute
from edgeseg.app.train import CONFIG_NAME, TrainingProgress, train
from edgeseg.app.train_config import TrainConfig
from edgeseg.app.train_processes import remark_on_slurm
from edgeseg.errors import EdgesegError, UsageError
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


def test_a_folder_holds_its_configuration_and_goes_on_with_it(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x"}
    with monkeypatch.context() as torchrun:
        for name, value in {**alone, "TORCHELASTIC_RESTART_COUNT": "1"}.items():
            torchrun.setenv(name, value)
        assert train(config).training["epochs_trained"] == 1, "what torchrun starts again goes on"
    done = edgeseg("train", kept, "--resume", "--epochs", 2, "--save-config", "c.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_config(TrainConfig, kept) == small(tmp_path, epochs=2), "and it would start anew"
    assert read_config(TrainConfig, tmp_path / "c.json") == small(tmp_path, epochs=2, resume=True)


def test_a_configuration_of_somebody_is_not_replaced(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")
    data_set(tmp_path, "train", 2, 1)
    data_set(tmp_path, "val", 2, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG_NAME).write_text("# mine\n")
    with pytest.raises(UsageError, match=f"{CONFIG_NAME} exists and would be replaced"):
        train(small(tmp_path))
    assert (tmp_path / "run" / CONFIG_NAME).read_text() == "# mine\n"


def test_a_network_of_one_channel_trains_from_somebodys_body_and_compiles(tmp_path: Path, one_thread: None) -> None:
    """A checkpoint of smp of other classes gives all but the head; its encoder stays as it is."""
    import torch

    from edgeseg.builder.networks import NetworkConfig, network_from_config

    shape = NetworkConfig("unet", "resnet18", 19, in_channels=1, decoder_channels=(32, 16, 8), depth=3)
    theirs = network_from_config(shape).network.state_dict()
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 1)
    config = small(
        tmp_path,
        network="U-Net",
        encoder="resnet18",
        in_channels=1,
        decoder_channels="32,16,8",
        depth=3,
        freeze_encoder=True,
        weights=str(tmp_path / "theirs.pth"),
        keep="body",
    )
    heard: list[str] = []
    best = train(config, TrainingProgress(line=heard.append))
    assert heard[0].startswith("network: unet + resnet18, checkpoint theirs.pth, all weights but the head's")
    assert best.config == NetworkConfig("unet", "resnet18", 2, in_channels=1, decoder_channels=(32, 16, 8), depth=3)
    own = best.network.network.state_dict()
    encoder = [name for name in own if name.startswith("encoder.")]
    assert encoder and all(torch.equal(own[name], theirs[name]) for name in encoder)
    assert not torch.equal(own["decoder.blocks.0.conv1.0.weight"], theirs["decoder.blocks.0.conv1.0.weight"])
    made = edgeseg("compile", tmp_path / "run" / "best.safetensors", "--eval", "val", "-o", "o.edgeseg", cwd=tmp_path)
    assert made.returncode == 0 and "grey in front" in made.stdout, made.stderr


def test_names_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 1)
    said = {
        "no network 'unnet'; nearest: unet": {"network": "unnet"},
        "has no encoder 'restnet18'; nearest: resnet18": {"network": "unet", "encoder": "restnet18"},
        "`in_channels` is 1 or 3 here": {"in_channels": 4},
        "`decoder_channels` are whole numbers": {"decoder_channels": "64,x"},
        "`network_options` are NAME=VALUE": {"network_options": ("context",)},
        "edge_unet has one option": {"network_options": ("context=1",)},
    }
    for message, wrong in said.items():
        with pytest.raises(EdgesegError) as refusal:
            train(small(tmp_path, **wrong))
        assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_processes_that_know_nothing_of_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remark_on_slurm() is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert "srun started 4 tasks, and each is a training of its own" in str(remark_on_slurm())
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert remark_on_slurm() is None, "a shell in Slurm"


def test_a_program_is_not_started_several_times_for_its_devices(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`devices` is 2, and processes on this machine: 1; leave it out, and start"):
        train(small(tmp_path, devices=2))
