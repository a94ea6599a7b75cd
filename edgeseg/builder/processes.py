"""Let several processes train one network, on one batch of which each has a share.

Every process computes the loss of the whole batch from the logits of all. So no loss is normalised over a share, and
each is that of one process: of class weights, of void pixels, of the hardest pixels, of Dice and of Lovasz.
"""

from __future__ import annotations

import ctypes
import re
import signal
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Callable, Iterator, Sequence, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from edgeseg.errors import EdgesegError, TrainingError, UsageError
from edgeseg.torchrun import Place, place

__all__ = [
    "count",
    "gathered",
    "is_first",
    "joined",
    "let_signals_interrupt",
    "of_all",
    "of_first",
    "rank",
    "share_of",
    "wait_for_all",
    "whole_batch",
]

_WAIT = timedelta(hours=2)
"""What one process may do while others wait for it, such as looking at all images."""
_PR_SET_PDEATHSIG = 1  # of Linux
_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|socket|gloo|NCCL|timed? ?out|process group", re.IGNORECASE
)

Value = TypeVar("Value")


def count() -> int:
    """Return how many processes train together; 1 outside of ``joined``."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Return whether this is the process that writes and tells."""
    return rank() == 0


@contextmanager
def joined(*, tell_of_lost: bool = True) -> Iterator[None]:
    """Train together with the processes that ``torchrun`` started, until the end of the block.

    Of an error one process tells. The others end with SystemExit, and so do all but the first after Ctrl-C.

    Args:
        tell_of_lost: raise TrainingError, and not SystemExit, where another process was killed. Who started them may
            tell of it better.

    Raises:
        UsageError: this machine has GPUs, and fewer than processes.
        TrainingError: another process ended.
    """
    mine = place()
    _end_with_launcher()
    store, _, _ = next(rendezvous("env://", timeout=_WAIT))
    try:
        with _others_that_end():
            backend = _backend(mine)
            distributed.init_process_group(backend, store=store, rank=mine.rank, world_size=mine.count, timeout=_WAIT)
            yield
            wait_for_all()
    except EdgesegError as error:
        if (isinstance(error, _LostError) and not tell_of_lost) or not _is_first_to_tell(store):
            raise SystemExit(error.exit_code) from error
        raise
    except KeyboardInterrupt as error:
        # Also after an error of another process, of which that one has told.
        if mine.rank or not _is_first_to_tell(store):
            raise SystemExit(1) from error
        raise
    # Not after an error: others may be waiting for this one, and learn of its end from the closed connection.
    distributed.destroy_process_group()


def _end_with_launcher() -> None:
    """Let the end of the process that started this one be the end of this one, where the system has that.

    It would train on after a kill, and write into a folder that the next run takes up. A signal that Python handles
    would wait as long as one process waits for another.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _backend(mine: Place) -> str:
    """Return the names of what carries tensors. Raises UsageError: not every process has a GPU, where there are any."""
    if not torch.cuda.is_available():
        return "gloo"
    if mine.local_count > torch.cuda.device_count():
        raise UsageError(
            f"{mine.local_count} processes were started on a machine of {torch.cuda.device_count()} GPUs; start one "
            "per GPU"
        )
    torch.cuda.set_device(mine.local_rank)
    return "cpu:gloo,cuda:nccl"


class _LostError(TrainingError):
    """Another process ended."""


@contextmanager
def _others_that_end() -> Iterator[None]:
    """Say in one line that the connection to another process was lost. Raises TrainingError."""
    try:
        yield
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        raise _LostError(
            "another process of this training ended or cannot be reached; look at what its machine says, and go on "
            "with `resume`"
        ) from error


def _is_first_to_tell(store: Any) -> bool:
    try:
        return bool(store.add("told", 1) == 1)
    except RuntimeError:
        return True  # the store went with the process that had it


def let_signals_interrupt() -> None:
    """Let SIGTERM, with which ``torchrun`` ends the others, be what Ctrl-C is.

    Lightning's own handler would broadcast, which waits for processes that are gone.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def wait_for_all() -> None:
    """Wait until every process is here."""
    if count() > 1:
        distributed.barrier()


def share_of(values: Sequence[Value]) -> Sequence[Value]:
    """Return those of some values that fall to this process: of N, every Nth from its number on."""
    return values[rank() :: count()]


def of_first(make: Callable[[], Value]) -> Value:
    """Return to every process what the first one makes."""
    if count() == 1:
        return make()
    found = [make() if is_first() else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def of_all(value: Value) -> list[Value]:
    """Return the values of all processes, by rank."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, value)
    return found


def whole_batch(own: Tensor) -> Tensor:
    """Return the whole batch from this process's share, in the order in which one process has it.

    What is computed of it must be the same in every process: there the gradient of the share is that of the whole.

    Args:
        own: nx... of the same shape and type in every process; NxC... is returned.
    """
    if count() == 1:
        return own
    batch: Tensor = _WholeBatch.apply(own)
    return batch


def gathered(own: Tensor) -> Tensor:
    """Return the tensors of all processes, along a new first dimension; gradients come from all of them."""
    everyone: Tensor = _Gathered.apply(own)
    return everyone


def _parts(own: Tensor) -> list[Tensor]:
    own = own.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(parts, own)
    return parts


class _WholeBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return torch.cat(_parts(own))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # DistributedDataParallel takes the mean over the processes, where the sum is wanted.
        return gradient.chunk(count())[rank()] * count()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return torch.stack(_parts(own))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.stack(_parts(gradient)).sum(0)[rank()]
