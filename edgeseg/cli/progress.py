"""How long steps show that they go on: bars on a terminal, which go when full, else now and then a line."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Dict, Iterator

from edgeseg.cli.console import on_terminal
from edgeseg.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["Count", "shown_progress", "told_progress"]

Count = Callable[[str, int, int], None]
"""Takes (what is done, items done, items in all)."""

_FIRST_S, _EVERY_S = 2.0, 10.0


@contextmanager
def shown_progress(tell: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> Iterator[Count]:
    """Show counts to people while the context is open.

    Args:
        tell: takes a line where no terminal is: of a step that lasts two seconds, then every ten.
        clock: seconds; injected in tests.
    """
    if not on_terminal():
        yield _Lines(tell, clock).count
        return
    from rich.progress import Progress as Bars

    bars = Bars(transient=True)
    tasks: Dict[str, TaskID] = {}

    def count(what: str, done: int, total: int) -> None:
        bars.start()  # not before: a build inside may show bars of its own, and a terminal has one display
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], total=total, completed=done, visible=done < total)

    try:
        yield count
    finally:
        if tasks:
            bars.stop()


@contextmanager
def told_progress(tell: Callable[[str], None]) -> Iterator[Progress]:
    """Show steps as lines that ``tell`` takes, and how far long steps are, while the context is open."""
    with shown_progress(tell) as count:
        yield Progress(tell, count)


class _Lines:
    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._what, self._due = "", 0.0

    def count(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if what != self._what:
            self._what, self._due = what, now + _FIRST_S
        elif now >= self._due and done < total:
            self._due = now + _EVERY_S
            self._tell(f"{what}: {done} of {total}")
