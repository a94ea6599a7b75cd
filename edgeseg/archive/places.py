"""Folders that hold an archive's sources and results: on this machine, or behind a URL that fsspec opens."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Union

from edgeseg.credentials import has_credentials, redacted
from edgeseg.errors import EdgesegError, SinkError, SourceError, UsageError, first_line, require
from edgeseg.files import atomic_write, path_from_uri, write_new

__all__ = ["LocalPlace", "Place", "RemotePlace", "Stored", "absolute_place", "is_remote", "literal_base", "place_at"]

_AT_A_TIME = 500
"""Files that are asked of an object store at a time."""


class Stored(NamedTuple):
    """A file of a place: its path below it with ``/``, its size in bytes, and what changes with its content."""

    path: str
    size: int
    stamp: int | str


def is_remote(place: str) -> bool:
    """Tell whether a place is a URL, and none of a file of this machine."""
    return "://" in place and not place.startswith("file://")


def absolute_place(place: str) -> str:
    """Return a place that means the same in every folder."""
    return place.rstrip("/") if is_remote(place) else os.path.abspath(path_from_uri(place))


def place_at(place: str) -> LocalPlace | RemotePlace:
    """Return a folder, which need not exist.

    Raises:
        UsageError: the URL holds a password. MissingDependencyError: what opens such URLs is not installed.
        EdgesegError: there is no such kind of URL.
    """
    if not is_remote(place):
        return LocalPlace(absolute_place(place))
    if has_credentials(place):
        raise UsageError(
            f"{redacted(place)} holds a password, which would be written into the plan; give it to the storage's own "
            "library, as in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return RemotePlace(place.rstrip("/"))


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, place: str) -> None:
        self.place, self._folder = place, Path(place)

    def read(self, name: str) -> bytes:
        """Read a file. Raises FileNotFoundError; SinkError: it cannot be read."""
        with _said(self.place, "cannot be read"):
            return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole or not at all. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data, durable=durable)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; return whether it was not. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_new(path, data)
            except FileExistsError:
                return False
            return True

    def write_picture(self, name: str, png: bytes, is_own: Callable[[Path], bool]) -> None:
        """Write a picture; one that ``is_own`` does not know stays. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_new(path, png, durable=False, replaces=is_own)
            except FileExistsError as error:
                raise SinkError(
                    f"{path} was not written by edgeseg and is not replaced; name another `output`"
                ) from error

    def read_all(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of every file of a folder, in order. Raises SinkError."""
        for name in self.names(folder):
            if not name.startswith("."):
                yield name, self.read(f"{folder}/{name}")

    def put(self, name: str, path: Path) -> None:
        """Copy a file into the place. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            target = self._folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
            try:
                with open(path, "rb") as source, open(temporary, "xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                    copy.flush()
                    os.fsync(copy.fileno())
                os.replace(temporary, target)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()

    def settle(self) -> None:
        """Let what was written survive a power cut."""
        os.sync()

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return (self._folder / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """List the names of files and folders directly in a folder, in order; none where it is missing."""
        with _said(self.place, "cannot be listed"):
            try:
                return sorted(os.listdir(self._folder / folder))
            except FileNotFoundError:
                return []

    def url(self, name: str) -> str:
        """Return where a file is, for libraries that open files themselves."""
        return str(self._folder / name)

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file. Raises SinkError."""
        with _said(self.place, "cannot be read"), open(self._folder / name, "rb") as file:
            yield from file

    def walk(self) -> Iterator[list[Stored]]:
        """Yield the files of one folder at a time, in order, from the top down. Raises OSError."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            inner, files = [], []
            with os.scandir(os.path.join(self.place, folder) if folder else self.place) as found:
                for entry in found:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir():
                        inner += [] if entry.is_symlink() else [path]  # a link may lead in a circle
                    elif entry.is_file():
                        status = entry.stat()
                        files.append(Stored(path, status.st_size, status.st_mtime_ns))
            waiting += sorted(inner, reverse=True)
            yield sorted(files)

    def stored(self, path: str) -> Stored | None:
        """Return what is known of a file; None where there is none."""
        try:
            status = os.stat(os.path.join(self.place, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(path, status.st_size, status.st_mtime_ns)

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Give the file to read."""
        yield self._folder / path


class RemotePlace:
    """A folder behind a URL such as ``s3://BUCKET/FOLDER``, through fsspec."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.filesystem, self._root = _filesystem(place)

    def read(self, name: str) -> bytes:
        """Read a file. Raises FileNotFoundError; SinkError: it cannot be read."""
        with _said(self.place, "cannot be read"):
            return bytes(self.filesystem.cat_file(self._at(name)))

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole or not at all. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            self._with_room(name, lambda: self.filesystem.pipe_file(self._at(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; return whether it was not. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            try:
                self._with_room(name, lambda: self.filesystem.pipe_file(self._at(name), data, mode="create"))
            except FileExistsError:
                return False
            return True

    def write_picture(self, name: str, png: bytes, is_own: Callable[[Path], bool]) -> None:
        """Write a picture. Raises SinkError."""
        self.write(name, png)

    def read_all(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of every file of a folder, in order. Raises SinkError."""
        names = self.names(folder)
        for first in range(0, len(names), _AT_A_TIME):
            paths = {name: self._at(f"{folder}/{name}") for name in names[first : first + _AT_A_TIME]}
            with _said(self.place, "cannot be read"):
                found = self.filesystem.cat(list(paths.values()))
            yield from ((name, bytes(found[path])) for name, path in paths.items())

    def put(self, name: str, path: Path) -> None:
        """Copy a file into the place. Raises SinkError."""
        with _said(self.place, "cannot be written"):
            self._with_room(name, lambda: self.filesystem.put_file(str(path), self._at(name)))

    def settle(self) -> None:
        """Do nothing: what an object store has taken, it keeps."""

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""
        with _said(self.place, "cannot be read"):
            self.filesystem.invalidate_cache()
            return bool(self.filesystem.exists(self._at(name)))

    def names(self, folder: str = "") -> list[str]:
        """List the names of files and folders directly in a folder, in order; none where it is missing."""
        with _said(self.place, "cannot be listed"):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
            here = self._at(folder)
            return sorted(os.path.basename(path.rstrip("/")) for path in found if path.rstrip("/") != here)

    def url(self, name: str) -> str:
        """Return where a file is, for libraries that open files themselves."""
        return f"{self.place}/{name}"

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file. Raises SinkError."""
        with _said(self.place, "cannot be read"), self.filesystem.open(self._at(name), "rb") as file:
            yield from file

    def walk(self) -> Iterator[list[Stored]]:
        """Yield the files of one folder at a time, in order, from the top down."""
        self.filesystem.invalidate_cache()
        for _, _, files in self.filesystem.walk(self._root, detail=True, topdown=True):
            yield sorted(self._stored(facts) for facts in files.values() if facts["type"] == "file")

    def matching(self, pattern: str) -> list[Stored]:
        """List the files that a pattern below the place names, in order."""
        found = self.filesystem.glob(self._at(pattern), detail=True)
        return sorted(self._stored(facts) for facts in found.values() if facts["type"] == "file")

    def is_folder(self, path: str = "") -> bool:
        """Tell whether there is such a folder."""
        with _said(self.place, "cannot be read"):
            return bool(self.filesystem.isdir(self._at(path)))

    def stored(self, path: str) -> Stored | None:
        """Return what is known of a file; None where there is none."""
        with _said(self.place, "cannot be read"):
            self.filesystem.invalidate_cache()
            try:
                return self._stored(self.filesystem.info(self._at(path)))
            except FileNotFoundError:
                return None

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Give a copy of the file to read, which is removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
            copy = Path(folder, os.path.basename(path) or "file")
            with _said(f"{self.place}/{path}", "cannot be read"):
                self.filesystem.get_file(self._at(path), str(copy))
            yield copy

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _with_room(self, name: str, write: Callable[[], object]) -> None:
        """Write; where a folder is missing make it first. A bucket or share that is missing is not made."""
        try:
            write()
        except FileNotFoundError:
            if not self.filesystem.exists(self._root.lstrip("/").partition("/")[0]):
                raise SinkError(f"{self.place} cannot be written: there is no such bucket") from None
            self.filesystem.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            write()

    def _stored(self, facts: Any) -> Stored:
        path = str(facts["name"])[len(self._root) :].lstrip("/")
        changing = next(
            (facts[key] for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if key in facts), ""
        )
        return Stored(path, int(facts["size"] or 0), str(changing).strip('"'))


Place = Union[LocalPlace, RemotePlace]


def _filesystem(place: str) -> tuple[Any, str]:
    fsspec = require("fsspec", "s3")
    try:
        filesystem, root = fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise EdgesegError(f"{place} cannot be opened: {first_line(error)}") from error
    except ValueError as error:  # an unknown protocol
        raise SourceError(f"{redacted(place)} cannot be opened: {first_line(error)}") from error
    return filesystem, str(root).rstrip("/")


@contextmanager
def _said(place: str, what: str) -> Iterator[None]:
    """Turn what storages raise into one line. Raises FileNotFoundError as it is; SinkError."""
    try:
        yield
    except (EdgesegError, FileNotFoundError):
        raise
    except OSError as error:
        raise SinkError(f"{place} {what}: {error.strerror or first_line(error)}") from error
    except Exception as error:  # each storage's library has its own types
        raise SinkError(f"{redacted(place)} {what}: {redacted(first_line(error))}") from error


def literal_base(pattern: str) -> tuple[str, str]:
    """Split a pattern into the folder in front of its first sign of a glob, and the rest."""
    parts = pattern.split("/")
    fixed = next((number for number, part in enumerate(parts[:-1]) if glob.has_magic(part)), len(parts) - 1)
    return "/".join(parts[:fixed]), "/".join(parts[fixed:])
