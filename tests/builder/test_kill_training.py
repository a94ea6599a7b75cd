"""A training that is killed and goes on is the training that was not killed, to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeseg.builder.checkpoint import SafetensorsIO, load_checkpoint
from edgeseg.builder.distillation.maps import Teaching
from edgeseg.builder.distillation.teacher import Teacher
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.run_folder import RUN_FILES
from edgeseg.builder.training import TrainOptions, TrainRecipe, train
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.spec import ModelSpec
from tests import HANG_S

SPEC = ModelSpec(CLASSES, PALETTE, (32, 64), ignore_id=11)
DATA = StreetDataset("demo://street?frames=4&step=60&size=64x32")
STEPS = 2
RECIPE = TrainRecipe(
    epochs=3, batch=2, growth="32:1,64x32:1", loss="ce(keep=0.5,after=0.5)+0.5*dice", optimizer="sgd", workers=0,
    learning_rate=0.02, schedule="cosine", warm_up=1, accumulate=2, clip=1.0, patience=9,
)  # fmt: skip
IN_MAPS = -STEPS
"""In place of a step: while the teacher is asked, after two of four images."""
TAUGHT = replace(RECIPE, snapshots=2, distill="kl=1,channel=1,scales=1", augment="street")


def _teaching(folder: Path) -> Teaching:
    torch.manual_seed(1)
    network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2")).eval()
    return Teaching([Teacher("teacher", network, SPEC)], folder / "teacher-maps")


def _run(folder: Path, kill_after: int, recipe: TrainRecipe) -> None:
    """Train or go on, and die in a step of the whole run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = NetworkConfig("edge_unet", "mobilenet_v2")

    def step(line: str) -> None:
        if line.startswith(f"epoch {kill_after // STEPS + 1}/{RECIPE.epochs}  step {kill_after % STEPS + 1}/{STEPS}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if kill_after == IN_MAPS and line.startswith("teacher maps  2/4"):
            os.kill(os.getpid(), signal.SIGKILL)

    teaching = _teaching(folder) if recipe.distill else None
    options = TrainOptions(resume=(folder / "resume.safetensors").exists(), on_step=step, teaching=teaching)
    train(network_from_config(config), config, SPEC, [DATA], DATA, recipe, folder, options)


def _in_process(folder: Path, recipe: TrainRecipe, kill_after: int = 10**6) -> int | None:
    folder.mkdir(exist_ok=True)
    child = multiprocessing.get_context("fork").Process(target=_run, args=(folder, kill_after, recipe))
    child.start()
    child.join(HANG_S)
    return child.exitcode


@pytest.mark.parametrize(("seed", "recipe"), [(3, RECIPE), (4, TAUGHT)], ids=["plain", "taught, of snapshots"])
def test_three_kills_change_no_bit_of_weights_and_state(tmp_path: Path, seed: int, recipe: TrainRecipe) -> None:
    steps = sorted(random.Random(seed).sample(range(RECIPE.epochs * STEPS), 3))
    assert _in_process(tmp_path / "straight", recipe) == 0
    if recipe.distill:
        assert _in_process(tmp_path / "killed", recipe, IN_MAPS) == -signal.SIGKILL
        assert len(list((tmp_path / "killed" / "teacher-maps").iterdir())) == 2
    for step in steps:
        assert _in_process(tmp_path / "killed", recipe, step) == -signal.SIGKILL, f"steps {steps}"
    assert _in_process(tmp_path / "killed", recipe) == 0
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (load_checkpoint(tmp_path / run / name) for run in ("straight", "killed"))
        assert one.training == other.training
        mine, theirs = one.network.state_dict(), other.network.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), f"{name} after kills in steps {steps}"
    states = [SafetensorsIO().load_checkpoint(tmp_path / run / "resume.safetensors") for run in ("straight", "killed")]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert _plain(states[0][key]) == _plain(states[1][key]), key
    assert {path.name for path in (tmp_path / "killed").iterdir()} - {"tensorboard", "teacher-maps"} == {
        *("last.safetensors", "best.safetensors", "resume.safetensors"),
        *RUN_FILES,
    }, "nothing half-written is left"


def _plain(value: object) -> object:
    """Return a nested state with tensors as their type, shape and bytes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
