"""Find the right names for a wrong one."""

from __future__ import annotations

import difflib
from typing import Iterable

__all__ = ["nearest", "plain"]


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the names most like a wrong one, as text for a message: ``a, b, c``; empty where none is like it."""
    spelled = {one: plain(one) for one in names}
    wanted = plain(name)
    close = difflib.get_close_matches(wanted, list(dict.fromkeys(spelled.values())), count, 0.6)
    # One name can be a part of the other: resnet18 of tu-resnet18, mobilenetv3 of mobilenetv3_large_100.
    parts = [one for one in spelled.values() if len(wanted) > 2 and wanted in one and one not in close]
    ranked = {value: place for place, value in enumerate([*close, *sorted(parts, key=len)])}
    found = sorted((one for one in spelled if spelled[one] in ranked), key=lambda one: ranked[spelled[one]])
    return ", ".join(found[:count])


def plain(name: str) -> str:
    """Return a name in small letters and digits: ``DeepLabV3+`` is ``deeplabv3plus``."""
    return "".join(letter for letter in name.lower().replace("+", "plus") if letter.isalnum())
