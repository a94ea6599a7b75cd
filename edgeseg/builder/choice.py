"""Look names up in tables; a wrong one is told the nearest right ones."""

from __future__ import annotations

import difflib
from typing import Mapping, TypeVar

from edgeseg.errors import UsageError

__all__ = ["choice"]

T = TypeVar("T")


def choice(field: str, name: str, table: Mapping[str, T], what: str = "") -> T:
    """Return the row of a table.

    Args:
        field: name of the field that was set, for the message.
        name: name of the row.
        table: rows by name.
        what: what a row is, where it is not what the field says.

    Raises:
        UsageError: there is no such row; the message has the nearest names, and all of them.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name.lower(), table, 2, 0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"`{field}` has no {what + ' ' if what else ''}{name!r}; {meant}there are {', '.join(table)}")
