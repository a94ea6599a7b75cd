"""Let the processes that ``torchrun`` started train together."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, Optional

from edgeseg.errors import require
from edgeseg.torchrun import place

__all__ = ["remark_on_slurm", "trained_together"]


@contextmanager
def trained_together() -> Iterator[bool]:
    """Join the processes that ``torchrun`` started, and give whether this one writes and tells.

    Raises:
        UsageError: this machine has fewer GPUs than processes.
        TrainingError: another process ended.
        SystemExit: another process has told of an error.
    """
    mine = place()
    if mine.count == 1:
        yield True
        return
    require("torch", "train")
    from edgeseg.builder.processes import joined

    with joined():
        yield mine.rank == 0


def remark_on_slurm() -> Optional[str]:
    """Return a line for people where Slurm started several processes that know nothing of each other; else None."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if place().count > 1 or tasks == "1":
        return None
    return (
        f"srun started {tasks} tasks, and each is a training of its own; to train one network, let srun start torchrun"
    )
