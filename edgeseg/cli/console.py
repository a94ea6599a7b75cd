"""How commands speak: plain lines in a pipe, rich on a terminal, one JSON document with ``--json``."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence

import typer
import typer.core
from typing_extensions import Annotated

__all__ = [
    "Commands",
    "JsonFlag",
    "name_options_of",
    "on_terminal",
    "one_line",
    "percent",
    "print_json",
    "printable",
    "say",
    "say_anyhow",
    "say_aside",
    "table",
    "with_flags",
]

_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u202a-\\u202e\\u2066-\\u2069]")

_FIELD = re.compile(r"`([a-z]\w*)`")
_flags: Dict[str, str] = {}
"""What the command that runs calls the fields of configurations: its options and arguments. No message writes the name
of a part of a configuration in backticks, for a field's flag may be called so (the part ``source``, ``--source``)."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class Commands(typer.core.TyperGroup):
    """A group of commands. What is printed names the options of the command that runs, where libraries name fields."""

    def resolve_command(self, ctx: Any, args: List[str]) -> Any:
        """Find the command of the words, as every group does."""
        name, found, rest = super().resolve_command(ctx, args)
        name_options_of(found)
        return name, found, rest


def name_options_of(command: Any) -> None:
    """Let what is printed from now on name the options of a command of click."""
    _flags.clear()
    for one in getattr(command, "params", ()):
        flag = _shown(one)
        _flags.update({str(one.name): flag, flag.strip("-").replace("-", "_"): flag})


def _shown(parameter: Any) -> str:
    """Return what a message calls an option or argument of a command."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return next((str(name) for name in parameter.opts if name.startswith("--")), str(parameter.name))


def on_terminal() -> bool:
    """Tell whether standard output is a terminal that a person looks at."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """Return a line of ordinary output."""
    print(printable(text), flush=True)


def say_aside(text: str = "") -> None:
    """Return a line for people beside a JSON document: on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def say_anyhow(text: str = "") -> None:
    """Print a line of progress: on stderr where stdout takes none, as after ``head`` has left. The work goes on."""
    try:
        say(text)
    except OSError:
        say_aside(text)


def printable(text: str) -> str:
    """Return text as a terminal may show it.

    Control characters and surrogates become escapes, for what is printed may come from a file or a camera. Fields that
    libraries name in backticks become the flags of the command that runs.
    """
    return _COMMANDS.sub(lambda found: ascii(found.group())[1:-1], with_flags(text))


def one_line(text: str) -> str:
    """Return text as ``printable`` does, with line ends as escapes too: what an error quotes may hold some."""
    return "".join(
        ascii(letter)[1:-1] if letter in "\n\t\x0b\x0c\x85\u2028\u2029" else letter for letter in printable(text)
    )


def with_flags(text: str, flags: Optional[Mapping[str, str]] = None) -> str:
    """Return a text of a library with options where it names fields in backticks.

    Args:
        text: for people.
        flags: field -> option; None is those of the command that runs. Other names stay as they are.
    """
    known = _flags if flags is None else flags
    return _FIELD.sub(lambda found: known.get(found[1], found[0]), text)


def print_json(document: Any) -> None:
    """Return the machine-readable result; NaN becomes null, so that every JSON parser reads it."""
    print(json.dumps(_for_json(document), indent=1), flush=True)


def percent(value: float) -> str:
    """0.7089 -> ``70.89``; NaN -> ``-``."""
    return f"{100 * value:.2f}" if math.isfinite(value) else "-"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, others to the right; the same in a pipe and on a terminal."""
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


def _for_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return with_flags(value)
    if isinstance(value, dict):
        return {str(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items: List[Any] = [_for_json(item) for item in value]
        return items
    return value
