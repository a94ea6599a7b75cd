"""Let the processes that ``torchrun`` started train together."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import UsageError, require
from edgeseg.torchrun import place, require_shares

__all__ = ["remark_on_slurm", "started_together", "trained_together"]


def started_together(config: TrainConfig, arguments: Sequence[str]) -> int:
    """Run a command of edgeseg in several processes of this machine, and return its exit code when all have ended.

    Args:
        config: says how many, and what batch they share.
        arguments: of the command line.

    Raises:
        UsageError: so many cannot share the batch; none was started.
        TrainingError: a process was killed.
    """
    require_shares(config.batch, config.devices)
    require("torch", "train")
    from edgeseg.builder.launcher import run_together

    return run_together(config.devices, arguments)


@contextmanager
def trained_together(devices: int) -> Iterator[bool]:
    """Join the processes that ``torchrun`` started, and give whether this one writes and tells.

    Args:
        devices: how many were asked for on this machine; 1 takes what was started.

    Raises:
        UsageError: another number was started, or this machine has fewer GPUs than processes.
        TrainingError: another process ended.
        SystemExit: another process has told of an error.
    """
    mine = place()
    if devices not in (1, mine.local_count):
        raise UsageError(
            f"`devices` is {devices}, and processes on this machine: {mine.local_count}; leave it out, and start the "
            "program with torchrun"
        )
    if mine.count == 1:
        yield True
        return
    require("torch", "train")
    from edgeseg.builder.processes import joined

    with joined(tell_of_lost=devices == 1):
        yield mine.rank == 0


def remark_on_slurm() -> Optional[str]:
    """Return a line for people where Slurm started several processes that know nothing of each other; else None."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if place().count > 1 or tasks == "1":
        return None
    return (
        f"srun started {tasks} tasks, and each is a training of its own; to train one network, let srun start torchrun"
    )
