"""The name of a file that is being made: taken by one run, given to the file when it is whole."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from edgeseg.errors import SinkError
from edgeseg.files import move_new

__all__ = ["Place", "PlaceTaken"]


class PlaceTaken(SinkError):
    """Another sink or run makes a file of this name."""


class Place:
    """``NAME.partial.SUFFIX``, empty and locked, which becomes ``NAME.SUFFIX``.

    What a killed run left under the first name is moved to ``NAME.partial-1.SUFFIX`` and so on.

    Args:
        target: NAME.SUFFIX; its folder must exist.

    Attributes:
        partial: to write to, in place: the lock belongs to the file that is there now.

    Raises:
        PlaceTaken: it is being made by somebody else. SinkError: the folder does not take it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.partial = target.with_suffix(f".partial{target.suffix}")
        self._descriptor = -1
        try:
            while not self._take():
                pass
        except OSError as error:
            self.release()
            raise SinkError(f"{self.partial} cannot be opened: {error.strerror or error}; name another file") from error
        except SinkError:
            self.release()
            raise

    def publish(self, *, replace: bool) -> Path:
        """Give the file its name, or, where that was taken meanwhile and ``replace`` is not set, the next free one.

        Returns:
            The name that it has. Raises OSError.
        """
        try:
            if replace:
                os.replace(self.partial, self.target)
                return self.target
            for name in (self.target, *numbered(self.target, 2, 1000)):
                try:
                    move_new(self.partial, name)
                    return name
                except FileExistsError:
                    continue
            raise FileExistsError(errno.EEXIST, "all names are taken", str(self.target))
        finally:
            self.release()

    def release(self) -> None:
        """Let go of the name; what was written stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Let go of the name and leave nothing."""
        if self._descriptor >= 0 and self._is_there():
            os.unlink(self.partial)
        self.release()

    def _take(self) -> bool:
        """Whether the file is ours now; False to try once more."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(str(self.partial), flags, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlaceTaken(
                f"{self.target} is being written by another run or sink; give each its own file"
            ) from error
        except OSError:
            pass  # a file system without locks
        if self._is_there() and not os.fstat(self._descriptor).st_size:
            return True
        if self._is_there():  # of a run that was killed: it may be all that is left of it
            for name in numbered(self.partial, 1, 1000):
                try:
                    move_new(self.partial, name)
                    break
                except FileExistsError:
                    continue
            else:
                raise SinkError(f"{self.partial} is left of a killed run, as are 1000 more; tidy {self.partial.parent}")
        self.release()
        return False

    def _is_there(self) -> bool:
        """Whether the name still is that of the file we hold."""
        ours = os.fstat(self._descriptor)
        try:
            there = os.lstat(self.partial)
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def numbered(path: Path, first: int, last: int) -> list[Path]:
    """Number a name: ``out.mp4`` -> ``out-2.mp4``, ``out-3.mp4`` ..."""
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(first, last + 1)]
