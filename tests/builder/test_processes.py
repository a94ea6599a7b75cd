"""Several processes train one network as one process does: real processes, joined by gloo on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from edgeseg.builder.batch_norm import synchronise_batch_norm
from edgeseg.builder.checkpoint import SafetensorsIO, load_checkpoint
from edgeseg.builder.data import ValidationImages
from edgeseg.builder.distillation.maps import Teaching
from edgeseg.builder.distillation.teacher import Teacher
from edgeseg.builder.heads import count_found, new_counts
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.processes import joined, let_signals_interrupt, rank, whole_batch
from edgeseg.builder.recipe import EpochResult
from edgeseg.builder.training import TrainOptions, TrainRecipe, train
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import EdgesegError, ImageError
from edgeseg.images import InMemory, Sample
from edgeseg.spec import ModelSpec
from tests import HANG_S

SPEC = ModelSpec(CLASSES, PALETTE, (32, 64), ignore_id=11)
STREET = StreetDataset("demo://street?frames=9&step=60&size=64x32")
VALIDATION_URI = "demo://street?frames=5&step=70&size=64x32"
VALIDATION = StreetDataset(VALIDATION_URI)
# Without the deepest stages, whose features of so small images are single pixels: there BatchNorm makes rounding large.
SHAPE = NetworkConfig("unet", "mobilenet_v2", depth=3, decoder_channels=(32, 16, 8))
DEEPER = replace(SHAPE, depth=4, decoder_channels=(32, 16, 8, 8))
"""It has features at stride 16, to be learned from."""
RECIPE = TrainRecipe(
    epochs=3, batch=4, crop=32, workers=0, loss="ce(keep=0.5,after=0.5)+0.5*dice", optimizer="sgd",
    learning_rate=0.005, clip=1.0, snapshots=2, augment="street", patience=9,
)  # fmt: skip
TAUGHT = replace(RECIPE, epochs=1, snapshots=0, accumulate=2, distill="kl=1,channel=1,feature=1,scales=1")
TOLERANCE = 1e-4
"""Of the mean loss of an epoch, relative: rounding at the kinks of ReLU6 moves gradients, and training what follows."""


def _training() -> InMemory:
    """Nine images; three of them are nothing but void, and one of the first epoch's shares is."""
    samples = [STREET[index] for index in range(len(STREET))]
    void = np.full((32, 64), SPEC.ignore_id, np.uint8)
    return InMemory(
        [Sample(one.name, one.frame, void) if at % 3 == 1 else one for at, one in enumerate(samples)], "street"
    )


def _teaching(folder: Path) -> Teaching:
    torch.manual_seed(1)
    network = network_from_config(NetworkConfig(SHAPE.architecture, SHAPE.encoder))
    return Teaching([Teacher("teacher", network.eval(), SPEC)], folder / "maps")


class _Unreadable(StreetDataset):
    """One of its images cannot be read by the process that validates on it."""

    def __getitem__(self, index: int) -> Sample:
        if index == 1 and rank() == 1:
            raise ImageError("frame 1 cannot be read here")
        return super().__getitem__(index)


def _train(
    folder: Path,
    recipe: TrainRecipe,
    die_in: str = "never",
    validation: StreetDataset = VALIDATION,
    by: signal.Signals = signal.SIGKILL,
) -> None:
    results: list[EpochResult] = []

    def step(line: str) -> None:
        if line.startswith(die_in) and rank() == 1:
            os.kill(os.getpid(), by)

    def report(result: EpochResult) -> None:
        results.append(result)
        (folder / "results.json").write_text(json.dumps([[one.loss, one.miou] for one in results]))

    torch.manual_seed(0)
    teaching = _teaching(folder) if recipe.distill else None
    options = TrainOptions(
        resume=(folder / "resume.safetensors").exists(), on_step=step, report=report, teaching=teaching
    )
    shape = DEEPER if recipe.distill else SHAPE
    train(network_from_config(shape), shape, SPEC, [_training()], validation, recipe, folder, options)


def _run(number: int, count: int, port: int, told: Path, work: Callable[..., None], arguments: Any) -> None:
    torch.set_num_threads(1)
    here = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({**{name: str(value) for name, value in here.items()}, "MASTER_ADDR": "127.0.0.1"})
    # A batch job of Slurm with more tasks than processes, which Lightning would wait for.
    os.environ.update(SLURM_JOB_ID="1", SLURM_NTASKS="4", SLURM_NTASKS_PER_NODE="4", SLURM_PROCID="0")
    os.environ.update(TORCHELASTIC_RUN_ID="test", TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    try:
        with nullcontext() if count == 1 else joined():
            work(*arguments)
    except EdgesegError as error:
        with told.open("a") as file:
            file.write(f"{error}\n")
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        with told.open("a") as file:
            file.write("interrupted\n")
        raise SystemExit(130) from error


def _together(count: int, folder: Path, work: Callable[..., None], *arguments: Any) -> tuple[list[int | None], str]:
    """Let processes work together, and return their exit codes and what they told of errors."""
    folder.mkdir(exist_ok=True)
    told = folder / "told"
    told.write_text("")
    # As torchrun has it, which outlives the processes.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_run, args=(one, count, store.port, told, work, arguments)) for one in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(HANG_S)
    return [child.exitcode for child in children], told.read_text()


def _results(folder: Path) -> np.ndarray:
    return np.array(json.loads((folder / "results.json").read_text()))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes without an interruption."""
    folder = tmp_path_factory.mktemp("two")
    assert _together(2, folder, _train, folder, RECIPE) == ([0, 0], "")
    return folder


def test_two_processes_have_the_losses_of_one(tmp_path: Path, two: Path) -> None:
    assert _together(1, tmp_path, _train, tmp_path, RECIPE) == ([0], "")
    one, other = _results(tmp_path), _results(two)
    assert len(one) == RECIPE.epochs
    np.testing.assert_allclose(other[:, 0], one[:, 0], rtol=TOLERANCE)
    np.testing.assert_allclose(other[:, 1], one[:, 1], atol=1e-3)
    mine, theirs = (load_checkpoint(folder / "last.safetensors").network for folder in (two, tmp_path))
    for (name, value), wanted in zip(mine.named_parameters(), theirs.parameters()):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-3, msg=name)


def test_two_processes_learn_from_teachers_as_one_does(tmp_path: Path) -> None:
    for count in (1, 2):
        assert _together(count, tmp_path / str(count), _train, tmp_path / str(count), TAUGHT) == ([0] * count, "")
    np.testing.assert_allclose(_results(tmp_path / "2")[:, 0], _results(tmp_path / "1")[:, 0], rtol=TOLERANCE)
    names = [sorted(path.name for path in (tmp_path / run / "maps").iterdir()) for run in "12"]
    assert names[0] == names[1], "each teacher was asked about each image by one of them"


def test_validation_images_that_are_shared_count_once(two: Path) -> None:
    best = load_checkpoint(two / "best.safetensors")
    counts, images = new_counts(SPEC), ValidationImages(VALIDATION, SPEC)
    with torch.no_grad():
        for image, label in (images[index] for index in range(len(images))):
            count_found(counts, best.network(image[None])[0], label.numpy(), SPEC)
    rows = (two / "confusion.csv").read_text().splitlines()[1:]
    assert counts.counts.tolist() == [[int(value) for value in row.split(",")[1:]] for row in rows]
    assert best.training["val_miou"] == counts.miou()


def test_a_killed_process_ends_all_and_resume_gives_the_run_that_was_not_killed(tmp_path: Path, two: Path) -> None:
    codes, told = _together(2, tmp_path, _train, tmp_path, RECIPE, "epoch 2/3  step 1/2")
    assert codes == [1, -signal.SIGKILL]
    assert told.startswith("another process of this training ended or cannot be reached; ") and told.count("\n") == 1
    shutil.copytree(tmp_path, tmp_path / "one")
    assert _together(1, tmp_path / "one", _train, tmp_path / "one", RECIPE) == ([0], "")
    np.testing.assert_allclose(_results(tmp_path / "one")[:, 0], _results(two)[1:, 0], rtol=TOLERANCE)
    assert _together(2, tmp_path, _train, tmp_path, RECIPE) == ([0, 0], "")
    states = [SafetensorsIO().load_checkpoint(folder / "resume.safetensors") for folder in (tmp_path, two)]
    assert states[0]["epoch"] == RECIPE.epochs - 1
    for name, value in states[0]["state_dict"].items():
        assert not isinstance(value, torch.Tensor) or torch.equal(value, states[1]["state_dict"][name]), name
    for name in ("last.safetensors", "best.safetensors"):
        mine, theirs = (load_checkpoint(folder / name).network.state_dict() for folder in (tmp_path, two))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch": 5}, "`batch` is that of all processes, and 2 cannot share 5 images; pass 4 or 6\n"),
        ({"compiled": True}, "`compiled` is for one process, and 2 were started; start one, or leave it out\n"),
        ({"crop": 33}, "`growth` is SIZE:SHARE,... of sides that are multiples of 32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_is_told_once(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    codes, told = _together(2, tmp_path, _train, tmp_path, replace(RECIPE, **change))
    assert sorted(map(str, codes)) == ["1", "2"] and told.startswith(said) and told.count("\n") == 1


def test_an_error_of_one_process_is_told_by_it_and_ends_all(tmp_path: Path) -> None:
    unreadable = _Unreadable(VALIDATION_URI)
    codes, told = _together(2, tmp_path, _train, tmp_path, replace(RECIPE, epochs=1), "never", unreadable)
    assert (codes, told) == ([1, 1], "frame 1 cannot be read here\n")


def test_a_process_that_is_asked_to_end_waits_for_no_other(tmp_path: Path) -> None:
    """Lightning would have it broadcast first, while the other computes and sends something else."""
    recipe = replace(RECIPE, epochs=1, snapshots=0)
    arguments = (tmp_path, recipe, "epoch 1/1  step 1/2", VALIDATION, signal.SIGTERM)
    codes, told = _together(2, tmp_path, _train, *arguments)
    assert codes == [1, 1] and told.startswith("another process of this training ended or cannot be reached; ")
    assert told.count("\n") == 1


def _interrupted(folder: Path, after: str) -> None:
    """The first process gets the signal with which ``torchrun`` ends the others, once something was told."""
    let_signals_interrupt()
    if after and rank():
        raise ImageError(after)
    while after and not (folder / "told").read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(HANG_S)


@pytest.mark.parametrize("after", ["", "frame 1 cannot be read here"])
def test_an_interruption_is_told_unless_an_error_was(tmp_path: Path, after: str) -> None:
    codes, told = _together(2, tmp_path, _interrupted, tmp_path, after)
    assert (codes, told) == (([1, 1], f"{after}\n") if after else ([130, 1], "interrupted\n"))


def test_each_process_needs_an_image_to_validate_on(tmp_path: Path) -> None:
    one = StreetDataset("demo://street?frames=1&size=64x32")
    codes, told = _together(2, tmp_path, _train, tmp_path, RECIPE, "never", one)
    assert sorted(map(str, codes)) == ["1", "2"]
    assert told == "2 processes cannot share 1 validation images; start fewer processes\n"


def _loss_and_gradients(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    images = images.clone().requires_grad_()
    loss = (whole_batch(network(images)) * torch.linspace(-1, 1, 5)).square().sum()
    loss.backward()
    assert images.grad is not None
    return loss.detach(), images.grad


def _compare_layers(make: Callable[[], nn.Module], images: torch.Tensor, wanted: Any, state: dict[str, Any]) -> None:
    layer = make()
    synchronise_batch_norm(layer)
    own = slice(2 * rank(), 2 * rank() + 2)
    loss, gradient = _loss_and_gradients(layer, images[own])
    torch.testing.assert_close(loss, wanted[0])
    torch.testing.assert_close(gradient / 2, wanted[1][own], rtol=1e-4, atol=1e-4)  # of a mean over two processes
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, state[name], msg=name)
    layer.eval()
    torch.testing.assert_close(layer(images), make_with(make, state)(images))


def make_with(make: Callable[[], nn.Module], state: dict[str, Any]) -> nn.Module:
    """Return a new network with a state, for evaluation."""
    network = make()
    network.load_state_dict(state)
    return network.eval()


def test_layers_for_a_gpu_keep_names_values_and_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's layers refuse to train on a CPU. What they compute in evaluation shows that nothing is lost."""
    network = network_from_config(NetworkConfig("edge_unet", "mobilenet_v2")).eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        synchronise_batch_norm(network)
        assert torch.equal(network(image), before)
    layers = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(one, nn.SyncBatchNorm) for one in layers)
    assert list(network.state_dict()) == list(state)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_batch_norm_of_shares_is_that_of_the_batch(tmp_path: Path, norm: Callable[[int], nn.Module]) -> None:
    def make() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.Conv2d(4, 2, 3), norm(2))

    torch.manual_seed(4)
    images = torch.randn(4, 3, 9, 9) * torch.arange(1, 5).view(4, 1, 1, 1)
    network = make()
    wanted = _loss_and_gradients(network, images)
    assert _together(2, tmp_path, _compare_layers, make, images, wanted, network.state_dict()) == ([0, 0], "")
