"""No sink destroys what a run of edgeseg did not write: how it tells, and how it takes a name."""

from __future__ import annotations

import os
import struct
import zlib
from itertools import islice
from pathlib import Path
from typing import Iterator

import numpy as np

from edgeseg.errors import ForeignFileError, SinkError
from edgeseg.files import write_new
from edgeseg.images import IMAGE_SUFFIXES, encoded_png

__all__ = ["foreign_picture", "is_own_picture", "is_own_png", "keep_picture", "own_png", "refuse_unless_plain"]

_HEAD_BYTES = 33
"""Signature and IHDR chunk of a PNG file."""
_TEXT = b"tEXtSoftware\0edgeseg"
_MARK = struct.pack(">I", len(_TEXT) - 4) + _TEXT + struct.pack(">I", zlib.crc32(_TEXT))
_MOST_LOOKED_AT = 2000


def keep_picture(path: Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Write HxW or HxWx3 (BGR) uint8 as PNG with edgeseg's mark, which programs that edit pictures do not keep.

    A picture that a run of edgeseg left there is replaced, one of anybody else only with ``overwrite``.

    Raises:
        ForeignFileError: there is something else. OSError: the disk refused.
    """
    try:
        write_new(
            path,
            own_png(image, path),
            durable=False,
            replaces=lambda path: overwrite or is_own_picture(path),
        )
    except FileExistsError as error:
        raise ForeignFileError(f"{path} {_NOT_OURS}") from error


def own_png(image: np.ndarray, path: Path) -> bytes:
    """Encode HxW or HxWx3 (BGR) uint8 as PNG with edgeseg's mark. Raises ImageError, which names ``path``."""
    png = encoded_png(image, path)
    return png[:_HEAD_BYTES] + _MARK + png[_HEAD_BYTES:]


def is_own_picture(path: Path) -> bool:
    """Tell whether a file is a picture as ``keep_picture`` wrote it, or empty."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES + len(_MARK))
    except OSError:
        return False
    return not head or is_own_png(head)


def is_own_png(head: bytes) -> bool:
    """Tell whether a file begins as ``own_png`` does."""
    return head[_HEAD_BYTES : _HEAD_BYTES + len(_MARK)] == _MARK


def foreign_picture(folder: Path) -> Path | None:
    """Find a picture in a folder, or in one of its folders, that edgeseg did not write, among 2000 files."""
    for path in islice(_files_in(folder), _MOST_LOOKED_AT):
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_own_picture(path):
            return path
    return None


def refuse_unless_plain(path: Path) -> None:
    """Raise SinkError for a path that is there but no file: a folder, pipe or device is never replaced."""
    if path.exists() and not path.is_file():
        raise SinkError(f"{path} is not a file and is not replaced; name a new file")


def _files_in(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


_NOT_OURS = "was not written by edgeseg and is not replaced; name another folder, or pass `overwrite`"
