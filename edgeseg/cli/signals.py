"""SIGTERM, SIGINT and SIGHUP: the end of a run in good order, in two seconds, whatever hangs."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Sequence, Union

if TYPE_CHECKING:
    from edgeseg.runtime.loop.pipeline import Run

__all__ = ["Interrupts", "interrupts", "leave_if_interrupted", "stop_on_signals"]

_HUNG_LOOP_S, _END_S, _REST_S = 1.0, 2.0, 3.0
_LOOK_S = 0.1


_reacted = threading.Event()
"""Set by every handler: the main thread is not stuck in a library."""


@contextmanager
def _handled(handler: Callable[[int, Optional[FrameType]], None]) -> Iterator[None]:
    """Let a handler take the signals that end a command: SIGINT also behind a shell's ``&``, SIGHUP not under nohup."""

    def heard(number: int, frame: Optional[FrameType]) -> None:
        _reacted.set()
        handler(number, frame)

    ending = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    before = {number: signal.signal(number, heard) for number in ending}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP end a command in good order, also where a shell's ``&`` had SIGINT ignored.

    SIGHUP is the end of an ssh connection: what runs in a session of its own would go on. ``nohup`` is respected.
    """

    def interrupt(number: int, frame: Optional[FrameType]) -> None:
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield


class Interrupts:
    """What a signal does: before there is a run it interrupts the command; then it stops the run, once; a second one
    interrupts the command all the same.

    A thread of its own hears of signals too, since Python's handlers wait while the main thread is in a library. When
    the loop does not react it lets the sinks finish, and after two seconds it ends the process.
    """

    def __init__(self) -> None:
        self.asked = False
        self._run: Optional[Run] = None
        self._over = threading.Event()

    def hand_over(self, run: Run) -> None:
        """Let signals stop this run from now on."""
        self._run = run

    def over(self) -> None:
        """Say that the run has ended: what follows is the summary."""
        self._over.set()

    def on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        """Take a signal, in the main thread."""
        if number == signal.SIGHUP:
            _leave_dead_terminal()
        if self._run is None or self.asked:
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True
        self._run.stop("interrupted")

    def watch(self, pipe: int) -> None:
        """Watch the pipe, to which Python writes a byte per signal, in a thread, until it is closed."""
        while True:
            heard = os.read(pipe, 1)
            if not heard:
                os.close(pipe)
                return
            if heard[0] not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                continue
            asked_at = time.monotonic()
            if self._run is not None:
                self._end(self._run, asked_at)
            elif not _reacted.wait(_END_S):  # a graph that never ends, while it is opened
                _leave()
            _rest(asked_at)

    def _end(self, run: Run, asked_at: float) -> None:
        run.stop("interrupted")
        if not self._over.wait(_HUNG_LOOP_S):
            run.close_sinks()
        if not self._over.wait(max(0.0, asked_at + _END_S - time.monotonic())):
            _leave()


def _rest(asked_at: float) -> None:
    """Let the main thread say how it ended, which takes longer on a busy machine; but wait for no reader of it."""
    time.sleep(max(0.0, asked_at + _END_S - time.monotonic()))
    while time.monotonic() < asked_at + _END_S + _REST_S and not _blocked((1, 2)):
        time.sleep(_LOOK_S)
    os._exit(1)


def _leave() -> None:
    if not _blocked((2,)):
        with suppress(OSError, ValueError):
            os.write(2, b"edgeseg: interrupted, and something hangs: it is left behind, with what it wrote last\n")
    os._exit(1)


def _blocked(descriptors: Sequence[int]) -> bool:
    """Whether one of them takes nothing: a pipe or terminal that is full and that nobody reads."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLOUT)
    return len(poll.poll(0)) < len(descriptors)


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Let SIGTERM, SIGINT and SIGHUP act as ``Interrupts`` says."""
    mine = Interrupts()
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    woken_before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    watcher = threading.Thread(target=mine.watch, args=(readable,), name="edgeseg-signals", daemon=True)
    watcher.start()
    try:
        with _handled(mine.on_signal):
            yield mine
    finally:
        signal.set_wakeup_fd(woken_before)
        os.close(writable)
        if not mine.asked:  # else it waits for the end of the process
            watcher.join(1)
        _ended.append(mine)


_ended: list[Interrupts] = []


def leave_if_interrupted(code: Union[int, str, None]) -> None:
    """End the process with an exit code now, when a signal asked for it: the interpreter's own end would wait for
    threads that hang."""
    if not any(mine.asked for mine in _ended):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)


def _leave_dead_terminal() -> None:
    """What is printed to a terminal that is gone would be an error, and end the run as one."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
