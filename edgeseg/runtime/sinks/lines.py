"""Append-only text files of whole lines: what was accepted is readable after a kill at any moment."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Callable

from edgeseg.errors import ForeignFileError, SinkError

__all__ = ["LineFile"]

_CHUNK_BYTES = 65536
_LONGEST_FIRST_LINE = 1 << 20


class LineFile:
    """A file that lines are appended to, one ``write`` call each.

    A half line, left by a kill or a full disk, is cut off when the file is opened and after a failed append. A file
    that was moved away (log rotation) is created again. Only one ``LineFile`` may have a file open. Pipes and devices
    are written to as they are; a pipe that nobody reads yet fails only when a line is appended.

    A file is looked at before anything in it is changed: one that another program wrote stays as it is.

    Args:
        path: where to; its folder must exist.
        header: first line, with its end, of a new file; a file that starts otherwise is refused. Empty for none.
        begins: what every line begins with; a file with a first or last line that does not is refused.
        is_line: whether bytes without a line end are a whole line of ours. A file whose first line is none is refused,
            a last line without its end that is one gets it. None: every line is ours, and none without its end.
        overwrite: begin the file anew, whatever is in it.

    Raises:
        ForeignFileError: the file is another program's, or has another header.
        SinkError: it cannot be opened, or is in use.
    """

    def __init__(
        self,
        path: Path,
        header: bytes = b"",
        begins: bytes = b"",
        is_line: Callable[[bytes], bool] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self._path, self._header, self._begins, self._is_line = path, header, begins, is_line
        self._overwrite = overwrite
        self._descriptor = -1
        try:
            self._open()
        except _NoReader:
            return
        self._overwrite = False  # a file that is moved away later is not ours to empty

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
                f"{self._path} cannot be written: {error.strerror}; free space or pass another `sinks`"
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
            # O_NONBLOCK: else a pipe without a reader would hold the run here, deaf to signals.
            self._descriptor = os.open(str(self._path), flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
            os.set_blocking(self._descriptor, True)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                self._prepare()
        except OSError as error:
            self.close()
            if error.errno == errno.ENXIO:
                raise _NoReader(f"nobody reads the pipe {self._path}; start its reader") from error
            raise SinkError(f"{self._path} cannot be opened: {error.strerror or error}") from error
        except SinkError:
            self.close()
            raise

    def _prepare(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(f"{self._path} is being written by another sink; give each one its own file") from error
        if self._overwrite:
            os.ftruncate(self._descriptor, 0)
        size = os.fstat(self._descriptor).st_size
        self._refuse_foreign(size)
        whole = _end_of_last_line(self._descriptor, size)
        tail = os.pread(self._descriptor, size - whole, whole)
        if tail and self._is_line is not None and self._is_line(tail):
            self._write(b"\n")
        elif tail:
            os.ftruncate(self._descriptor, whole)
        if self._header and not whole:
            self._write(self._header)

    def _refuse_foreign(self, size: int) -> None:
        """Raise ForeignFileError unless all that is to be kept or cut was written by a LineFile like this."""
        if not size:
            return
        start = os.pread(self._descriptor, max(len(self._header), _LONGEST_FIRST_LINE), 0)
        if self._header and not (start.startswith(self._header) or self._header.startswith(start)):
            raise ForeignFileError(
                f"{self._path} starts with another header: it was written with other classes or by another program; "
                "name a new file, or pass `overwrite`"
            )
        first = start.partition(b"\n")[0]
        if not self._header and self._is_line is not None and not self._is_line(first):
            raise ForeignFileError(self._foreign())
        whole = _end_of_last_line(self._descriptor, size)
        last = os.pread(self._descriptor, _CHUNK_BYTES, whole)
        half = last if whole or not self._header else b""  # half a header, which is written again
        if half.strip(b"\0") and not (half.startswith(self._begins) or self._begins.startswith(half)):
            raise ForeignFileError(self._foreign())

    def _foreign(self) -> str:
        kind = "JSON lines of edgeseg" if self._begins else "lines of edgeseg"
        return f"{self._path} holds something else than {kind}; name a new file, or pass `overwrite`"

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


class _NoReader(SinkError):
    """A pipe has no reader yet."""


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
