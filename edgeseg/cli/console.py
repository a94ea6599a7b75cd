"""How commands speak: plain lines in a pipe, rich on a terminal, one JSON document with ``--json``."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Any, Iterator, List, Optional, Sequence

import typer
from typing_extensions import Annotated

from edgeseg.cli.signals import reacted, stopping_signals

__all__ = [
    "JsonFlag",
    "on_terminal",
    "percent",
    "print_json",
    "printable",
    "say",
    "say_aside",
    "stop_on_signals",
    "table",
]

_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u202a-\\u202e\\u2066-\\u2069]")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def on_terminal() -> bool:
    """Whether standard output is a terminal that a person looks at."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """A line of ordinary output."""
    print(printable(text), flush=True)


def say_aside(text: str = "") -> None:
    """A line for people beside a JSON document: on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text that changes nothing of a terminal but its lines: other control characters and surrogates as escapes.

    What is printed may come from a file or a camera.
    """
    return _COMMANDS.sub(lambda found: ascii(found.group())[1:-1], text)


def print_json(document: Any) -> None:
    """The machine-readable result; NaN becomes null, so that every JSON parser reads it."""
    print(json.dumps(_finite(document), indent=1), flush=True)


def percent(value: float) -> str:
    """0.7089 -> ``70.89``; NaN -> ``-``."""
    return f"{100 * value:.2f}" if math.isfinite(value) else "-"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: the first column to the left, the others to the right; the same text in a pipe and on a terminal."""
    from rich.console import Console
    from rich.table import Table

    say(title)
    grid = Table()
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    width = None if on_terminal() else 160
    Console(width=width, highlight=False, markup=False).print(grid)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items: List[Any] = [_finite(item) for item in value]
        return items
    return value


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP end a command in good order, also where a shell's ``&`` had SIGINT ignored.

    SIGHUP is the end of an ssh connection: what runs in a session of its own would go on. ``nohup`` is respected.
    """

    def interrupt(number: int, frame: Optional[FrameType]) -> None:
        reacted.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stopping_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
