"""How long work tells what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """How long work tells what it does; by default it says nothing.

    Attributes:
        step: called with a line for people when a step is done.
        count: called with (what, items done, items in all) inside a long step.
    """

    step: Callable[[str], None] = lambda line: None
    count: Callable[[str, int, int], None] = lambda what, done, total: None
