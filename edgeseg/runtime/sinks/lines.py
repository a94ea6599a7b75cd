"""Append-only text files of whole lines: what was accepted is readable after a kill at any moment."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from edgeseg.errors import SinkError

__all__ = ["LineFile"]

_CHUNK_BYTES = 65536


class LineFile:
    """A file that lines are appended to, one ``write`` call each.

    A half line, left by a kill or a full disk, is cut off when the file is opened and after a failed append. A file
    that was moved away (log rotation) is created again. Only one ``LineFile`` may have a file open. Pipes and devices
    are written to as they are.

    Args:
        path: where to; its folder must exist.
        header: first line, with its end, of a new file; a file that starts otherwise is refused. Empty for none.
        begins: what every line begins with; another program's file, which does not, is refused and left as it is.

    Raises:
        SinkError: the file cannot be opened, is in use, or has another header.
    """

    def __init__(self, path: Path, header: bytes = b"", begins: bytes = b"") -> None:
        self._path, self._header, self._begins = path, header, begins
        self._descriptor = -1
        self._open()

    def append(self, line: bytes) -> None:
        """Keep one line, given with its end, or nothing of it. Raises SinkError; the next call opens the file again."""
        if self._descriptor < 0 or self._was_moved():
            self.close()
            self._open()
        try:
            self._write(line)
        except OSError as error:
            self.close()
            raise SinkError(
                f"{self._path} cannot be written: {error.strerror}; free space or pass another --sink"
            ) from error

    def close(self) -> None:
        """Let go of the file; an append opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        is_plain = self._path.is_file() or not self._path.exists()
        flags = os.O_APPEND | (os.O_RDWR | os.O_CREAT if is_plain else os.O_WRONLY)
        try:
            self._descriptor = os.open(str(self._path), flags | os.O_CLOEXEC, 0o666)
            if is_plain:
                self._prepare()
        except OSError as error:
            self.close()
            raise SinkError(f"{self._path} cannot be opened: {error.strerror or error}") from error
        except SinkError:
            self.close()
            raise

    def _prepare(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(f"{self._path} is being written by another sink; give each one its own file") from error
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, len(self._begins), 0) != self._begins:
            raise SinkError(f"{self._path} holds something else than JSON lines; name a new file")
        whole = _end_of_last_line(self._descriptor, size)
        if whole < size:
            os.ftruncate(self._descriptor, whole)
        if self._header and not whole:
            self._write(self._header)
        elif os.pread(self._descriptor, len(self._header), 0) != self._header:
            raise SinkError(
                f"{self._path} starts with another header: it was written with other classes or by another program; "
                "name a new file"
            )

    def _write(self, line: bytes) -> None:
        status = os.fstat(self._descriptor)
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(self._descriptor, status.st_size)
            raise

    def _was_moved(self) -> bool:
        ours = os.fstat(self._descriptor)
        try:
            there = os.stat(str(self._path))
        except OSError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Bytes up to and with the last line end."""
    end = size
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
