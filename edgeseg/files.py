"""Write files to a temporary name and rename them: a kill at any moment leaves the old file or the new one.

What nobody keeps is written into scratch folders, of which a kill leaves no more than until the next run.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Callable, Iterator
from urllib.parse import unquote

__all__ = [
    "atomic_write",
    "file_sha256",
    "file_state",
    "lines_from",
    "move_new",
    "path_from_uri",
    "scratch_folder",
    "temporary_beside",
    "text_from",
    "text_of",
    "write_new",
]


_SCRATCH = "edgeseg-scratch-"
_YOUNG_S = 60
"""Between the making of a folder and its lock."""


def text_of(name: Path | str | bytes) -> str:
    r"""Decode a file name to text that can be printed and encoded; bytes that are not UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def text_from(data: bytes) -> str:
    """Decode a text file that people write: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Bytes of file names that are not UTF-8 are kept as surrogates.

    Raises:
        UnicodeDecodeError: the UTF-16 is broken.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data[3 if data.startswith(codecs.BOM_UTF8) else 0 :].decode("utf-8", "surrogateescape")


def lines_from(text: str) -> list[str]:
    """Split a text at its line ends, of every system.

    ``str.splitlines`` splits at rarer letters too, such as a form feed within a name. Then every later line is a
    number too far.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def path_from_uri(uri: str) -> Path:
    """Return the path of ``file://...``, or of a plain name. A file that exists under the name as typed goes first."""
    plain = uri[len("file://") :] if uri.startswith("file://") else uri
    return Path(plain if plain == uri or os.path.exists(plain) else unquote(plain, errors="surrogateescape"))


def atomic_write(path: Path, data: bytes, *, durable: bool = True, mode: int | None = None) -> None:
    """Write a file whole or not at all, in place of the file that is there.

    Args:
        path: where to write; its folder must exist.
        data: the content.
        durable: also survive a power cut (fsync); off for streams of small files.
        mode: of the file, at no time wider; None leaves it to the process's mask.

    Raises:
        OSError: the disk refused; nothing is left behind.
    """
    with _temporary(path, data, durable, mode) as temporary:
        os.replace(temporary, path)


def write_new(
    path: Path, data: bytes, *, durable: bool = True, replaces: Callable[[Path], bool] = lambda path: False
) -> None:
    """Write a file whole or not at all, under a name that is free.

    Args:
        path: where to write; its folder must exist.
        data: the content.
        durable: also survive a power cut (fsync); off for streams of small files.
        replaces: tells whether the file that is there may be replaced all the same.

    Raises:
        FileExistsError: the name is taken, and ``replaces`` said no; that file is as it was.
        OSError: the disk refused; nothing is left behind.
    """
    with _temporary(path, data, durable) as temporary:
        try:
            move_new(temporary, path)
        except FileExistsError:
            if not replaces(path):
                raise
            os.replace(temporary, path)


def move_new(source: Path, target: Path) -> None:
    """Rename a file to a name that is free, on the same file system.

    Raises:
        FileExistsError: the name is taken; both files are as they were.
        OSError: the file cannot be renamed.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as that of a memory card
        os.close(os.open(str(target), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            os.replace(source, target)
        except OSError:
            os.unlink(target)
            raise
        return
    os.unlink(source)


def temporary_beside(path: Path) -> Path:
    """Return a name in the folder of a path that nobody has: whatever the path's length, in any thread or fork."""
    return path.with_name(f".{secrets.token_hex(8)}.tmp")


@contextmanager
def _temporary(path: Path, data: bytes, durable: bool, mode: int | None = None) -> Iterator[Path]:
    """Write a new file beside ``path`` and remove it afterwards, unless it was renamed."""
    temporary = temporary_beside(path)
    try:
        with open(temporary, "xb", opener=None if mode is None else _for_owner) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _for_owner(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for files that nobody keeps, and remove it at the end of the ``with``.

    A kill leaves it. So it is locked as long as its process lives, and the first one that a process makes removes those
    of this user that nobody has locked.

    Raises:
        OSError: it cannot be made.
    """
    _remove_left(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system that knows no locks, where none is removed either
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(name)
        finally:
            os.close(descriptor)


@lru_cache(maxsize=None)
def _remove_left(where: str) -> None:
    for folder in Path(where).glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.getuid() or status.st_mtime > time.time() - _YOUNG_S:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def file_state(path: Path) -> tuple[int, ...] | None:
    """Return what changes when somebody writes a file, or None where there is no file.

    The tuple holds the device, the inode, the size in bytes and the modification time in nanoseconds.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()
