"""What goes wrong in PyTorch and in its workers is one line."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from edgeseg.builder.failures import in_one_line
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.builder.task import SegmentationTask
from edgeseg.builder.training import TrainRecipe, train
from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import TrainingError
from edgeseg.images import InMemory, Sample
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(CLASSES, PALETTE, (64, 96), ignore_id=11)
DATA = StreetDataset("demo://street?frames=4&step=60&size=96x64")


class Dying(InMemory):
    """Ends the worker that reads it, as the kernel does."""

    number: int = signal.SIGBUS

    def __getitem__(self, index: int) -> Sample:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


def _train(folder: Path, data: Any, workers: int = 1) -> None:
    config = NetworkConfig()
    recipe = TrainRecipe(epochs=1, batch=2, crop=32, workers=workers)
    train(network_from_config(config), config, SPEC, [data], DATA, recipe, folder)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGBUS, r"the 1 data-loader workers ran out of shared memory.*--shm-size 2g.*`workers` 0"),
        (signal.SIGKILL, r"the machine has too little memory for a batch of 2 crops of 32 pixels; pass a smaller"),
    ],
)
def test_a_worker_that_the_kernel_ends(tmp_path: Path, number: int, said: str) -> None:
    data = Dying([DATA[index] for index in range(4)], "dying")
    data.number = number
    with pytest.raises(TrainingError, match=said) as caught:
        _train(tmp_path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_that_is_asked_to_end_with_all_others_is_no_fault(tmp_path: Path, number: int) -> None:
    """systemd and ``timeout`` signal the whole group, and the worker's end can be seen first."""
    data = Dying([DATA[index] for index in range(4)], "dying")
    data.number = number
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, data)


def test_what_fails_because_it_was_interrupted_is_no_fault() -> None:
    """Ctrl-C while Lightning sets its loaders up."""
    with pytest.raises(KeyboardInterrupt), in_one_line(2, 32, 1):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")


def _no_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _no_memory() -> None:
    torch.empty(1 << 60)  # more than any machine has: torch's own words


def _no_python_memory() -> None:
    bytearray(1 << 62)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_no_gpu_memory, "the GPU has too little memory"),
        (_no_memory, "the machine has too little memory"),
        (_no_python_memory, "the machine has too little memory"),
    ],
)
def test_out_of_memory_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None], said: str
) -> None:
    def step(self: SegmentationTask, batch: Any, index: int) -> None:
        fault()

    monkeypatch.setattr(SegmentationTask, "training_step", step)
    with pytest.raises(TrainingError, match=f"{said} for a batch of 2 crops of 32 pixels; pass a smaller `batch` or"):
        _train(tmp_path, DATA, workers=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unable to write to file </torch_81_4_0>: No space left on device (28)", "out of shared memory"),
        (
            "unable to allocate shared memory(shm) for file </torch_9_7_1>: Cannot allocate memory",
            "out of shared memory",
        ),
        ("received 0 items of ancdata", "too many files are open"),
        ("CUDA error: out of memory", "the GPU has too little memory"),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "the GPU has too little memory"),
        ("DataLoader worker (pid(s) 8, 9) exited unexpectedly", "a data-loader worker ended"),
    ],
)
def test_the_words_of_pytorch(text: str, said: str) -> None:
    with pytest.raises(TrainingError, match=said), in_one_line(2, 32, 1):
        raise RuntimeError(text)


def test_what_is_not_known_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), in_one_line(2, 32, 1):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_full_disk_is_one_line() -> None:
    said = r"the disk is full \(run/last\.safetensors\); make room, and go on with"
    with pytest.raises(TrainingError, match=said), in_one_line(2, 32, 0):
        raise OSError(errno.ENOSPC, "No space left on device", "run/last.safetensors")


def test_torch_compile_without_a_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    network = torch.nn.Linear(3, 3)
    network.compile()
    said = "torch.compile cannot compile the network here .*compiler.*; leave `compiled` out"
    with pytest.raises(TrainingError, match=said) as caught, in_one_line(2, 32, 0):
        network(torch.ones(1, 3)).sum().backward()
    assert "\n" not in str(caught.value)
