"""Files are written to a temporary name and renamed: a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["atomic_write", "file_sha256"]


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all.

    Args:
        path: where to; its folder must exist.
        data: the content.
        durable: also survive a power cut (fsync); off for streams of small files.

    Raises:
        OSError: the disk refused; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content as hex. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
