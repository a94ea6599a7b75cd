"""Processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Iterable, Iterator

from edgeseg.archive.clusters.base import ATTEMPTS, Cluster, Report, Work
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, first_line

__all__ = ["LocalProcesses"]

_END_S = 5.0


class LocalProcesses(Cluster):
    """A process per core.

    The standard library's pool ends with all its work when one process is killed. Here the task of a process that dies
    is known, and goes to another.

    Args:
        workers: how many processes, 0 for one per core.
    """

    def __init__(self, workers: int = 0) -> None:
        self._count = workers or len(os.sched_getaffinity(0))
        self.description = f"{self._count} process{'es' if self._count > 1 else ''} of this machine"

    def run(self, work: Work, tasks: Iterable[Task]) -> Iterator[Report]:
        """Work tasks off, as ``Cluster`` says."""
        rest = iter(tasks)
        again: deque[Task] = deque()
        attempts: Counter[int] = Counter()
        hands: list[_Hand] = []
        try:
            while True:
                for hand in [one for one in hands if one.task is None]:
                    task = again.popleft() if again else next(rest, None)
                    if task is not None:
                        hand.give(task)
                while len(hands) < self._count:
                    task = again.popleft() if again else next(rest, None)
                    if task is None:
                        break
                    hands.append(_Hand(work))
                    hands[-1].give(task)
                busy = [hand for hand in hands if hand.task is not None]
                if not busy:
                    return
                ready = wait([hand.pipe for hand in busy])
                for hand in [one for one in busy if one.pipe in ready]:
                    task = hand.task
                    assert task is not None
                    report = hand.report()
                    if report is None:
                        hands.remove(hand)
                        report = self._again(task, hand.end(), attempts, again)
                    if report is not None:
                        yield report
        finally:
            for hand in hands:
                hand.end()

    def _again(self, task: Task, code: int | None, attempts: Counter[int], again: deque[Task]) -> Report | None:
        """Try a task once more whose process died; the report where it was tried often enough."""
        attempts[task.number] += 1
        if attempts[task.number] < ATTEMPTS:
            again.append(task)
            return None
        how = f"signal {-code}" if code is not None and code < 0 else f"exit {code}"
        return Report(task.number, lost=f"{ATTEMPTS} processes died of it ({how})")


@dataclass(frozen=True)
class _Failure:
    """What a process says of an exception, which itself may not travel."""

    error: EdgesegError


class _Hand:
    """A process, and the task that it has."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")  # engines have threads, which no fork survives
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), name="edgeseg-archive", daemon=True)
        self._process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        """Give it a task; one that died meanwhile is noticed when it should report."""
        self.task = task
        with suppress(OSError):
            self.pipe.send(task)

    def report(self) -> Report | None:
        """Return what it says; None where it died. Raises EdgesegError: the work failed."""
        assert self.task is not None
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(said, _Failure):
            raise said.error
        number = self.task.number
        if said is None:
            self.task = None
            return Report(number)
        return Report(number, (said,), finished=False)

    def end(self) -> int | None:
        """End the process; return its exit code. What it had not committed is done again."""
        self.pipe.close()
        self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(pipe: Connection, work: Work) -> None:
    """Work off what comes through the pipe, until it is closed or its other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver ends us
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # what is half written is removed on the way
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an exception in what runs at the end would be printed
            return
        said: Any = None
        try:
            for result in work(task):
                pipe.send(result)
        except (BrokenPipeError, ConnectionResetError):
            return
        except EdgesegError as error:
            said = _Failure(error)
        except Exception as error:  # a mistake of ours: the driver says it, and ends
            said = _Failure(EdgesegError(f"task {task.number}: {type(error).__name__}: {first_line(error)}"))
        try:
            pipe.send(said)
        except OSError:
            return
