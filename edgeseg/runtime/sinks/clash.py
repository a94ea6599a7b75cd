"""A result must not replace what it is made from, by whatever name either is called."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Iterable, Iterator, Sequence, Tuple
from urllib.parse import unquote

from edgeseg.credentials import redacted
from edgeseg.errors import UsageError
from edgeseg.picture_files import IMAGE_SUFFIXES, listed_files, pictures_matching
from edgeseg.runtime.alarms.actions import action_paths
from edgeseg.runtime.sinks.uri import sink_kind
from edgeseg.runtime.sources.uri import Stream, source_path
from edgeseg.uris import located

__all__ = ["refuse_overwriting", "source_names"]

Identity = Tuple[int, int]


Output = Tuple[str, Iterable[Path], Iterable[Path]]


def refuse_overwriting(
    streams: Sequence[Stream],
    sinks: Sequence[str],
    inputs: Sequence[Path] = (),
    actions: Sequence[str] = (),
    others: Sequence[Output] = (),
) -> None:
    """Compare what a command would write with what it reads, as the file system does: by device and inode.

    Args:
        streams: the sources.
        sinks: URIs.
        inputs: other files that are read.
        actions: of alarms.
        others: field and value, as in ``"`sheet` all.png"``, the files that it writes, and the folders that it puts
            pictures into.

    Raises:
        UsageError: they are the same file, pictures would be written into a folder of source images, a sink is given
            twice, or two write one file.
    """
    twice = [uri for uri in sinks if sinks.count(uri) > 1 and not uri.startswith("null:")]
    if twice:
        raise UsageError(f"`sinks` {redacted(twice[0])} is given twice; leave one out, or name another")
    read = {path for stream in streams for path in _files_of(stream.uri)} | set(inputs)
    files = {identity for path in read for identity in _identities(path)}
    images = [path for path in read if path.suffix.lower() in IMAGE_SUFFIXES]
    folders = {
        identity
        for folder in {place for path in images for place in (path.parent, Path(os.path.realpath(path)).parent)}
        for identity in _identities(folder)
    }
    names = source_names(streams) if len(streams) > 1 else [""]
    outputs: list[Output]
    outputs = [(f"`sinks` {uri}", _written_by(uri, names), _filled_by(uri)) for uri in sinks]
    outputs += [(f"`actions` {text}", *action_paths(text)) for text in actions]
    outputs += others
    writers: dict[str, str] = {}
    for option, paths, filled in outputs:
        written = list(paths)
        for path in written:
            if writers.setdefault(os.path.realpath(path), option) != option and not _is_device(path):
                raise UsageError(f"{writers[os.path.realpath(path)]} and {option} write one file; name another for one")
        if any(identity in files for path in written for identity in _identities(path)):
            raise UsageError(
                f"{option} is the source itself, or another file that this run reads, and would be overwritten; name "
                "another file or folder"
            )
        if any(identity in folders for path in filled for identity in _identities(path)):
            raise UsageError(f"{option} would write among the images of the source; name another folder")


def _files_of(uri: str) -> Iterator[Path]:
    """The files that a source reads, as far as its URI says."""
    if uri.startswith("gst://"):
        for quoted, plain in re.findall(r"""(?:location|uri)\s*=\s*(?:"([^"]*)"|(\S+))""", uri[len("gst://") :]):
            name = quoted or plain
            yield Path(unquote(name[len("file://") :]) if name.startswith("file://") else name)
        return
    path = source_path(uri)
    if path is None:
        return
    try:
        if path.is_dir():
            yield from path.iterdir()
        elif path.is_file():
            yield path
            yield from listed_files(path) if path.suffix.lower() == ".txt" else ()
        else:
            yield from pictures_matching(path).files
    except (OSError, UnicodeDecodeError):
        return  # it cannot be read as a source either, and that says so


def source_names(streams: Sequence[Stream]) -> list[str]:
    """Return what a run calls its sources: the names they were given, and free numbers."""
    taken = {stream.name for stream in streams}
    free = (str(number) for number in itertools.count() if str(number) not in taken)
    return [stream.name or next(free) for stream in streams]


def _written_by(uri: str, names: Sequence[str]) -> Iterator[Path]:
    """The files that a sink writes under names of its own. Raises UsageError, SinkError: see ``sink_kind``."""
    kind = sink_kind(uri)
    if "://" in uri:
        yield from kind.files(Path(located(uri, kind).place)) if kind.is_path else ()
        return
    path = Path(uri)
    if not path.suffix:
        return  # a folder; see _filled_by
    for target in [path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path for name in names]:
        yield from (target, target.with_suffix(f".partial{target.suffix}"))


def _filled_by(uri: str) -> Iterator[Path]:
    """The folders that a folder sink puts pictures into."""
    path = Path(uri)
    if "://" in uri or path.suffix and not path.is_dir():
        return
    for part in ("masks", "overlays", "colours"):
        for where, _, _ in os.walk(path / part):
            yield Path(where)


def _is_device(path: Path) -> bool:
    """Whether what is written goes elsewhere, as with /dev/stdout."""
    return path.exists() and not path.is_file()


def _identities(path: Path) -> Iterator[Identity]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return
    yield status.st_dev, status.st_ino
