"""Which JetPack an L4T (Jetson Linux) release belongs to. What the table does not know is unknown, never guessed."""

from __future__ import annotations

import re

__all__ = ["jetpack_version", "l4t_tuple"]

_JETPACKS = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.3": "5.1.5",
    "35.6.4": "5.1.6",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}


def jetpack_version(l4t: str, package: str = "") -> str:
    """JetPack of an L4T release.

    Args:
        l4t: such as ``"35.4.1"``; empty when this is no Jetson.
        package: version of the installed ``nvidia-jetpack`` package, such as ``"6.2.1+b38"``; it settles what the table
            does not know.

    Returns:
        ``"5.1.2"``, ``"unknown (L4T 39.9)"``, or empty for an empty release.
    """
    if not l4t:
        return ""
    stated = re.match(r"\d+(\.\d+)+", package)
    return _JETPACKS.get(l4t) or (stated.group() if stated else f"unknown (L4T {l4t})")


def l4t_tuple(l4t: str) -> tuple[int, ...]:
    """``"36.4.3"`` -> (36, 4, 3); empty for anything that is not dotted numbers."""
    return tuple(map(int, l4t.split("."))) if re.fullmatch(r"\d{1,6}(\.\d{1,6})*", l4t) else ()
