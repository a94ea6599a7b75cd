"""Folders that hold an archive's sources and results: on this machine, or behind a URL that fsspec opens."""

from __future__ import annotations

import errno
import glob
import inspect
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Union

from edgeseg.credentials import has_credentials, redacted
from edgeseg.errors import EdgesegError, SinkError, SourceError, UsageError, first_line, require
from edgeseg.files import atomic_write, path_from_uri, scratch_folder, text_of, write_new
from edgeseg.picture_files import is_hidden_name

__all__ = [
    "NO_FILE",
    "LocalPlace",
    "Place",
    "RemotePlace",
    "Stored",
    "absolute_place",
    "is_remote",
    "literal_base",
    "place_at",
]

NO_FILE = -1
"""The size of what is no file."""
_AT_A_TIME = 500
"""Files that are asked of an object store at a time."""
_CHANGING = ("ETag", "etag", "md5Hash", "LastModified", "Last-Modified", "last_modified", "modificationTime", "mtime")
"""What storages call that which changes with the content of a file."""
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_ARCHIVE = "folder with results"


class Stored(NamedTuple):
    """A file of a place: its path below it with ``/``, its size in bytes, and what changes with its content.

    The size of what is no file is -1. The stamp says then what it is.
    """

    path: str
    size: int
    stamp: int | str


def is_remote(place: str) -> bool:
    """Tell whether a place is a URL, and none of a file of this machine."""
    return "://" in place and not place.startswith("file://")


def absolute_place(place: str) -> str:
    """Return a place that means the same in every folder."""
    if not is_remote(place):
        return os.path.abspath(path_from_uri(place))
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.rstrip('/')}"


def place_at(place: str) -> LocalPlace | RemotePlace:
    """Return a folder, which need not exist.

    Raises:
        UsageError: the URL holds a password, or names nothing.
        MissingDependencyError: what opens such URLs is not installed.
        EdgesegError: there is no such kind of URL.
    """
    if not is_remote(place):
        return LocalPlace(absolute_place(place))
    if place.rstrip("/").endswith(":"):
        raise UsageError(f"{place} names no bucket and no host; is it a variable that is not set?")
    if has_credentials(place):
        raise UsageError(
            f"{redacted(place)} holds a password, which would be written into the plan; give it to the storage's own "
            "library, as in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return RemotePlace(absolute_place(place))


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
            try:
                entries = _entries(os.path.join(self.place, folder) if folder else self.place)
            except FileNotFoundError:
                if folder:  # it went while its neighbours were listed
                    continue
                raise
            if _holds_archive(entry.name for entry in entries):
                yield [Stored(folder, NO_FILE, _ARCHIVE)]
                continue
            inner, files = [], []
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                kind = _kind(entry)
                if kind == "folder" and not is_hidden_name(entry.name):
                    inner.append(path)
                elif kind == "file":
                    with suppress(FileNotFoundError):  # as above
                        status = entry.stat()
                        files.append(Stored(path, status.st_size, status.st_mtime_ns))
                else:
                    files.append(Stored(path, NO_FILE, "hidden" if kind == "folder" else kind))
            waiting += sorted(inner, reverse=True)
            yield sorted(files)

    def matching(self, pattern: str) -> list[Stored]:
        """List what a pattern below the place names, in order. Raises OSError."""
        start = Path(glob.escape(self.place), pattern)
        names = (os.path.relpath(path, self.place) for path in glob.iglob(str(start), recursive=True))
        if "**" in pattern:  # which follows links, that may lead in a circle, and finds the folders themselves
            names = (
                name
                for name in names
                if not _through_link(self.place, os.path.dirname(name)) and not os.path.isdir(self.url(name))
            )
        return [self.stored(name) or Stored(name, NO_FILE, self._odd(name)) for name in names]

    def _odd(self, path: str) -> str:
        """Say what is there in place of a file."""
        where = self.url(path)
        return "folder" if os.path.isdir(where) else "broken link" if os.path.islink(where) else "device or pipe"

    def stored(self, path: str) -> Stored | None:
        """Return what is known of a file; None where there is none. Raises OSError."""
        try:
            status = os.stat(os.path.join(self.place, path))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        return Stored(path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    def holds_something(self) -> bool:
        """Tell whether the folder is there and not empty, as that of a disk is that is not mounted. Raises OSError."""
        try:
            with os.scandir(self.place) as found:
                return any(True for _ in found)
        except FileNotFoundError:
            return False

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Give the file to read."""
        yield self._folder / path


class RemotePlace:
    """A folder behind a URL such as ``s3://BUCKET/FOLDER``, through fsspec."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.filesystem, self._root = _filesystem(place)
        # Older ones, as those for Python 3.8, take the word and overwrite. There of two drivers that begin in the same
        # moment one may find another plan than it made.
        writer = getattr(self.filesystem, "_pipe_file", self.filesystem.pipe_file)
        self._creates = "mode" in inspect.signature(writer).parameters

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
            how = {"mode": "create"} if self._creates else {}
            if not how and self.exists(name):
                return False
            try:
                self._with_room(name, lambda: self.filesystem.pipe_file(self._at(name), data, **how))
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
                # ``cat`` would take brackets in the place for those of a glob.
                found = self.filesystem.cat_ranges(list(paths.values()), None, None, on_error="return")
                for content in found:
                    if isinstance(content, Exception):
                        raise content
            yield from ((name, bytes(content)) for name, content in zip(paths, found))

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
        """Yield the files of one folder at a time, in order, from the top down. Raises OSError."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                entries = self._entries(folder)
            except FileNotFoundError:
                if folder:  # it went while its neighbours were listed
                    continue
                raise
            if _holds_archive(os.path.basename(path) for path, _ in entries):
                yield [Stored(folder, NO_FILE, _ARCHIVE)]
                continue
            inner = [path for path, facts in entries if facts["type"] == "directory" and path != folder]
            waiting += sorted(inner, reverse=True)
            # An object of no bytes that is called as its folder only makes the folder be shown.
            yield sorted(self._stored(facts) for path, facts in entries if facts["type"] == "file" and path != folder)

    def _entries(self, folder: str) -> list[tuple[str, Any]]:
        """List a folder. fsspec's own ``walk`` leaves out what it cannot list, and does not say so."""
        self.filesystem.invalidate_cache()
        listed = self.filesystem.ls(self._at(folder), detail=True)
        return [(self._below(facts), facts) for facts in listed]

    def holds_something(self) -> bool:
        """Tell whether there is such a folder or bucket, and something in it. Raises SinkError."""
        if self.place.startswith(("http://", "https://")):
            return True  # a folder there need not be listed
        with _said(self.place, "cannot be listed"):
            try:
                return bool(self._entries(""))
            except FileNotFoundError:
                return False

    def matching(self, pattern: str) -> list[Stored]:
        """List the files that a pattern below the place names."""
        self.filesystem.invalidate_cache()
        found = self.filesystem.glob(f"{glob.escape(self._root)}/{pattern}", detail=True)
        return [self._stored(facts) for facts in found.values() if facts["type"] == "file"]

    def is_folder(self, path: str = "") -> bool:
        """Tell whether there is such a folder."""
        with _said(self.place, "cannot be read"):
            return bool(self.filesystem.isdir(self._at(path)))

    def stored(self, path: str) -> Stored | None:
        """Return what is known of a file; None where there is none. Raises PermissionError, SinkError."""
        with _said(self.place, "cannot be read", PermissionError):
            self.filesystem.invalidate_cache()
            try:
                facts = self.filesystem.info(self._at(path))
            except FileNotFoundError:
                return None
            return self._stored(facts) if facts["type"] == "file" else None

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Give a copy of the file to read, which is removed afterwards. Raises PermissionError, SinkError."""
        with scratch_folder() as folder:
            copy = folder / f"file{os.path.splitext(path)[1]}"
            with _said(f"{self.place}/{path}", "cannot be read", PermissionError):
                self.filesystem.get_file(self._at(path), str(copy))
            yield copy

    def _at(self, name: str) -> str:
        return f"{self._root}/{_encodable(name)}" if name else self._root

    def _with_room(self, name: str, write: Callable[[], object]) -> None:
        """Write; where a folder is missing make it first. A bucket or share that is missing is not made."""
        try:
            write()
        except FileNotFoundError:
            if not self.filesystem.exists(self._root.lstrip("/").partition("/")[0]):
                raise SinkError(f"{self.place} cannot be written: there is no such bucket") from None
            self.filesystem.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            write()

    def _below(self, facts: Any) -> str:
        return str(facts["name"])[len(self._root) :].strip("/")

    def _stored(self, facts: Any) -> Stored:
        if facts.get("size") is None:  # a list of links of a web server
            facts = self.filesystem.info(facts["name"])
        changing = next((facts[key] for key in _CHANGING if facts.get(key)), "")
        return Stored(self._below(facts), int(facts["size"] or 0), str(changing).strip('"'))


Place = Union[LocalPlace, RemotePlace]


def _encodable(name: str) -> str:
    """Return the name of a file as it is, or one of its own where a storage might not take it: storages have texts."""
    data = os.fsencode(name)
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text_of(data))
    if shown == name:
        return name
    stem, suffix = os.path.splitext(shown)
    return f"{stem}-{sha256(data).hexdigest()[:16]}{suffix}"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)


def _kind(entry: os.DirEntry[str]) -> str:
    """Say what an entry of a folder is: ``"file"``, ``"folder"``, or something that is left out."""
    try:
        if entry.is_dir():
            return "linked folder" if entry.is_symlink() else "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
    return "broken link" if entry.is_symlink() else "device or pipe"


def _holds_archive(names: Iterable[str]) -> bool:
    """Tell from the names in a folder whether results of an archive are in it."""
    held = set(names)
    return "plan.json" in held and any(name.startswith("tasks-") for name in held)


@lru_cache(maxsize=4096)
def _through_link(base: str, folder: str) -> bool:
    """Tell whether a folder below a base is a link, or is in one."""
    return bool(folder) and (os.path.islink(os.path.join(base, folder)) or _through_link(base, os.path.dirname(folder)))


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
def _said(place: str, what: str, *as_they_are: type[Exception]) -> Iterator[None]:
    """Turn what storages raise into one line. Raises FileNotFoundError and others as they are; SinkError."""
    try:
        yield
    except (EdgesegError, FileNotFoundError):
        raise
    except as_they_are:
        raise
    except OSError as error:
        raise SinkError(f"{place} {what}: {error.strerror or first_line(error)}") from error
    except Exception as error:  # each storage's library has its own types
        raise SinkError(f"{redacted(place)} {what}: {redacted(first_line(error))}") from error


def literal_base(pattern: str, is_there: Callable[[str], bool] = lambda path: False) -> tuple[str, str]:
    """Split a pattern into the folder in front of its first sign of a glob, and the rest.

    Args:
        pattern: with ``/``.
        is_there: tells whether a folder is called as it is written, so that its brackets are none of a glob.
    """
    parts = pattern.split("/")
    fixed = 0
    while fixed < len(parts) - 1 and (not glob.has_magic(parts[fixed]) or is_there("/".join(parts[: fixed + 1]))):
        fixed += 1
    return "/".join(parts[:fixed]), "/".join(parts[fixed:])
