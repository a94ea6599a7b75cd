"""Tell which of several processes this one is, as PyTorch's launcher ``torchrun`` says it in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edgeseg.errors import UsageError

__all__ = ["Place", "is_restart", "place", "require_shares"]


@dataclass(frozen=True)
class Place:
    """The place of a process among those of one training.

    Attributes:
        rank: number among all, from 0.
        count: processes in all.
        local_rank: number among those of this machine, from 0.
        local_count: processes on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1


def place() -> Place:
    """Return the place of this process; it is alone where no ``torchrun`` started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Place(*(int(os.environ[name]) for name in names))


def is_restart() -> bool:
    """Return whether ``torchrun --max-restarts`` started this process again, after one of its group had ended."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def require_shares(batch: int, many: int) -> None:
    """Raise UsageError: so many processes cannot share a batch."""
    if batch % many:
        near = [str(one) for one in (batch // many * many, (batch // many + 1) * many) if one > 0]
        raise UsageError(
            f"`batch` is that of all processes, and {many} cannot share {batch} images; pass {' or '.join(near)}"
        )
