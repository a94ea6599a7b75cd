"""Explain what goes wrong inside PyTorch and its data-loader workers, as one line that says what to do."""

from __future__ import annotations

import errno
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import torch

from edgeseg.errors import EdgesegError, TrainingError

__all__ = ["in_one_line"]

_SHM = Path("/dev/shm")
_SHARED_MEMORY = re.compile(r"shared memory|bus error|/torch_\d+_\d+", re.IGNORECASE)
_OPEN_FILES = re.compile(r"too many open files|ancdata", re.IGNORECASE)
_WORKER = re.compile(r"DataLoader worker.*(killed by signal: \w+|exited unexpectedly)", re.DOTALL)
_ASKED_TO_END = re.compile(r"DataLoader worker.*killed by signal: (Terminated|Interrupt|Hangup)", re.DOTALL)
_COMPILE = re.compile(r"backend='\w+' raised|No working C\+\+ compiler|InductorError|\w*Cxx?CompileError|InvalidCxx")
_MEMORY = re.compile(
    r"out of memory|n[o']t allocate memory|not enough memory|bad_alloc|STATUS_ALLOC_FAILED|killed by signal: Killed",
    re.IGNORECASE,
)


@contextmanager
def in_one_line(batch: int, crop: int, workers: int) -> Iterator[None]:
    """Turn what a training run can meet into edgeseg's errors; unknown errors stay as they are.

    Args:
        batch: images per step, for the message.
        crop: side of the crops in pixels, for the message.
        workers: data-loader processes, for the message.

    Raises:
        TrainingError: the GPU's, the machine's or the shared memory or the disk is used up, a worker died, or
            torch.compile failed.
        EdgesegError: a worker raised it; its message comes without the worker's traceback.
        KeyboardInterrupt: Ctrl-C, which Lightning turns into an exit; or a signal to the whole group of processes,
            as systemd and ``timeout`` send it, which a worker reports first.
    """
    try:
        yield
    except EdgesegError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        if len(lines) > 1:
            raise type(error)(lines[-1].partition(": ")[2]) from error
        raise
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except (RuntimeError, MemoryError, OSError) as error:
        # What was interrupted fails in Lightning's hands, too, where it had not begun.
        if _ASKED_TO_END.search(_with_causes(error)) or _was_interrupted(error):
            raise KeyboardInterrupt from error
        line = _line_of(error, batch, crop, workers)
        if line is None:
            raise
        raise TrainingError(line) from error


def _line_of(error: Exception, batch: int, crop: int, workers: int) -> str | None:
    text = _with_causes(error)
    if _SHARED_MEMORY.search(text):
        size = f" ({_SHM} has {shutil.disk_usage(_SHM).total / 2**20:.0f} MB)" if _SHM.is_dir() else ""
        return (
            f"the {workers} data-loader workers ran out of shared memory{size}; start the container with more "
            "(docker run --shm-size 2g), or pass `workers` 0"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}; make room, and go on with `resume` after the first epoch"
    if _COMPILE.search(text):
        return f"torch.compile cannot compile the network here ({_reason(text)}); leave `compiled` out"
    if _OPEN_FILES.search(text):
        return (
            "too many files are open for the data-loader workers; raise the limit (ulimit -n 65536) or pass `workers` 0"
        )
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        is_gpu = isinstance(error, torch.OutOfMemoryError) or "CUD" in text
        where = "the GPU has too little memory" if is_gpu else "the machine has too little memory"
        return f"{where} for a batch of {batch} crops of {crop} pixels; pass a smaller `batch` or `crop`"
    died = _WORKER.search(text)
    if died:
        return f"a data-loader worker ended ({died[1]}); pass `workers` 0 to see why"
    return None


def _reason(text: str) -> str:
    """Return the first line of a message that says what was missing, cut to 160 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "compiler" in line.lower()), lines[0])[:160]


def _was_interrupted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _with_causes(error: BaseException | None) -> str:
    """Join the messages of an error and of its causes: a dead worker shows only as an empty queue."""
    parts = []
    while error is not None:
        parts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
