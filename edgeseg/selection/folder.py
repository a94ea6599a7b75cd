"""A folder that is filled with chosen frames and left as it was when that fails."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from edgeseg.errors import ForeignFileError, SinkError, UsageError
from edgeseg.files import write_new

__all__ = ["OwnFiles", "own_folder"]


class OwnFiles:
    """The files that we put into a folder, and nobody else's.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: set[str] = set()
        self._begun: tuple[str, bytes] | None = None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write one of the files. Raises SinkError: the disk refuses; ForeignFileError: somebody has the name."""
        self._begun = name, data  # Ctrl-C may come when the file is there and before its name is kept
        try:
            write_new(self.folder / name, data, durable=durable, replaces=lambda path: name in self._names)
            self._names.add(name)
            self._begun = None
        except FileExistsError as error:
            raise ForeignFileError(
                f"{self.folder / name} was written by another program meanwhile; name a folder for this alone"
            ) from error
        except OSError as error:
            raise SinkError(
                f"{self.folder} cannot be written: {error.strerror}; free space or name another folder"
            ) from error

    def keep_only(self, names: set[str]) -> None:
        """Remove the files that are not named."""
        if self._begun is not None and self._is_there(*self._begun):
            self._names.add(self._begun[0])
        self._begun = None
        for name in self._names - names:
            (self.folder / name).unlink(missing_ok=True)
        self._names &= names

    def _is_there(self, name: str, data: bytes) -> bool:
        """Tell whether a write that was interrupted has come to its end; a file of somebody else holds other bytes."""
        try:
            return (self.folder / name).read_bytes() == data
        except OSError:
            return False


@contextmanager
def own_folder(folder: Path) -> Iterator[OwnFiles]:
    """Open a new or empty folder to fill, and leave it as it was when that fails. Raises UsageError, SinkError."""
    is_new = not folder.exists()
    try:
        if not is_new and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; name a new or empty folder, so that no older frames are mixed in")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} cannot be a folder of frames: {error.strerror}; name another") from error
    files = OwnFiles(folder)
    try:
        yield files
    except BaseException:
        files.keep_only(set())
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
