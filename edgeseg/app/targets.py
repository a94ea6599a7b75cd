"""The file that a command is to write: one of its own kind is replaced, any other is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

from edgeseg.errors import UsageError

__all__ = ["is_bundle", "is_calibration_cache", "is_page", "is_program", "is_sidecar", "refuse_foreign"]

_HEAD_BYTES = 16384


def refuse_foreign(target: Path, what: str, is_ours: Callable[[bytes], bool]) -> None:
    """Refuse a name that something else than such a file has, before hours are spent.

    Args:
        target: the file to write.
        what: of the command's kind, for people.
        is_ours: whether a file begins as one of that kind; a file that is empty is of every kind.

    Raises:
        UsageError: it is there and something else. OSError: it cannot be read.
    """
    if not os.path.lexists(target):  # a link that leads nowhere is there, too
        return
    if not target.is_file():
        raise UsageError(f"{target} is not a file and is not replaced; name a new file")
    with open(target, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if head and not is_ours(head):
        raise UsageError(f"{target} exists and is no {what}; it is not replaced, so name a new file")


def is_bundle(head: bytes) -> bool:
    """Return a ZIP archive whose first entry is the manifest."""
    return head.startswith(b"PK\x03\x04") and head[30:43] == b"manifest.json"


def is_program(head: bytes) -> bool:
    """Tell whether a file is a ZIP archive, as ``torch.export.save`` writes it."""
    return head.startswith(b"PK\x03\x04")


def is_calibration_cache(head: bytes) -> bool:
    """TensorRT's header."""
    return head.startswith(b"TRT-")


def is_page(head: bytes) -> bool:
    """Return a page of ``edgeseg inspect --html``."""
    return b"edgeseg report</title>" in head and b"<title>edgeseg bench: " not in head


def is_sidecar(head: bytes) -> bool:
    """Tell whether a file is a sidecar, as it stands beside every engine."""
    return b'"plan_sha256"' in head
