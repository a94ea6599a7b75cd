"""Read a machine's files under a root: ``/`` itself, or a tree that was recorded elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["first_number", "matches", "text_of"]


def text_of(path: Path) -> str:
    """Read a file's text without NULs and surrounding space; empty when it is not there or not readable."""
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\0", " ").strip()
    except (OSError, ValueError):
        return ""


def first_number(path: Path) -> int | None:
    """Read the integer that a sysfs file starts with; None when there is none."""
    match = re.match(r"-?\d{1,18}\b", text_of(path))
    return int(match.group()) if match else None


def matches(root: Path, pattern: str) -> list[Path]:
    """Return what a glob finds under the root, sorted with numbers in order; empty when nothing can be listed."""
    try:
        found = list(root.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(str(path)), str(path)))
