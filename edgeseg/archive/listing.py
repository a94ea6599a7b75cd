"""Find the pictures and videos of an archive, in an order that is the same every time, a folder at a time."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Sequence

from edgeseg.archive.places import (
    LocalPlace,
    Place,
    RemotePlace,
    Stored,
    absolute_place,
    is_remote,
    literal_base,
    place_at,
)
from edgeseg.errors import SourceError, UsageError
from edgeseg.picture_files import IMAGE_SUFFIXES, is_hidden_name, listed_files
from edgeseg.runtime.sources.uri import SOURCES, streams_from_uri
from edgeseg.runtime.sources.video import VIDEO_SUFFIXES

__all__ = ["Found", "Origin", "absolute_sources", "origins_of"]

_NO_FILES = frozenset(name for name in SOURCES if name not in ("file", "http", "https"))
"""Schemes of what is no stored file."""
_KINDS = {**dict.fromkeys(IMAGE_SUFFIXES, "picture"), **dict.fromkeys(VIDEO_SUFFIXES, "video")}


class Found(NamedTuple):
    """A picture or video.

    Attributes:
        file: where it is, and what it was.
        is_video: it has frames.
        whole: its results are called by its whole name, since another picture of its folder has the same stem.
    """

    file: Stored
    is_video: bool
    whole: bool


@dataclass(frozen=True)
class Origin:
    """One of the sources that were asked for.

    Attributes:
        asked: as it was asked for.
        base: the folder that paths of its files are relative to, or its URL.
        pattern: a path or a pattern below the base; empty takes every file at any depth.
        paths: the files below the base, where a list names them.
        left_out: number of files that are no pictures or videos by their suffix, or hidden, by what they are.
    """

    asked: str
    base: str
    pattern: str = ""
    paths: Sequence[str] = ()
    left_out: Counter[str] = field(default_factory=Counter)

    def found(self) -> Iterator[Found]:
        """Yield its pictures and videos. Raises SourceError: there is no such file, or it cannot be listed."""
        place = place_at(self.base)
        try:
            for files in self._folders(place):
                yield from self._sorted_out(files)
        except OSError as error:
            raise SourceError(f"{self.asked} cannot be listed: {error.strerror or error}") from error

    def _folders(self, place: Place) -> Iterator[Sequence[Stored]]:
        if self.paths:
            yield from _by_folder(_all_stored(place, self.paths))
        elif not self.pattern:
            yield from place.walk()
        elif isinstance(place, RemotePlace):
            yield from _by_folder(place.matching(self.pattern))
        else:
            start = Path(glob.escape(self.base), self.pattern)
            names = (os.path.relpath(path, self.base) for path in glob.iglob(str(start), recursive=True))
            if "**" in self.pattern:  # which follows links, that may lead in a circle
                names = (name for name in names if not _through_link(self.base, os.path.dirname(name)))
            yield from _by_folder(_all_stored(place, sorted(names)))

    def _sorted_out(self, files: Sequence[Stored]) -> Iterator[Found]:
        """Tell what the files of one folder are."""
        above = os.path.dirname(files[0].path) if files else ""
        if any(map(is_hidden_name, above.split("/"))):
            self.left_out["hidden"] += len(files)
            return
        kept: list[tuple[Stored, bool]] = []
        stems: list[str] = []
        for file in files:
            stem, suffix = os.path.splitext(file.path)
            kind = _KINDS.get(suffix.lower())
            if is_hidden_name(file.path[len(above) :].lstrip("/")):
                self.left_out["hidden"] += 1
            elif kind is None:
                self.left_out[suffix.lower() or "no suffix"] += 1
            else:
                kept.append((file, kind == "video"))
                stems += [stem.casefold()] if kind == "picture" else []
        whole = len(set(stems)) < len(stems)
        for file, is_video in kept:
            yield Found(file, is_video, whole)


def origins_of(sources: Sequence[str]) -> list[Origin]:
    """Read what sources say: files, folders, globs, lists of images (.txt), lists of sources (.streams), URLs.

    Raises:
        SourceError: there is nothing by that name. UsageError: it is live, or a password stands in it.
    """
    return [_origin(asked) for asked in absolute_sources(sources)]


def absolute_sources(sources: Sequence[str]) -> list[str]:
    """Return what sources name, in a form that means the same in every folder.

    Raises:
        SourceError: a list of sources cannot be read. UsageError: one is live.
    """
    named = [stream.uri for source in sources for stream in streams_from_uri(source)]
    live = next((one for one in named if one.isdigit() or one.partition("://")[0] in _NO_FILES), None)
    if live is not None:
        raise UsageError(f"{live} is no stored file; an archive is files, folders, globs and URLs of storage")
    return [absolute_place(one) for one in named]


def _origin(asked: str) -> Origin:
    if is_remote(asked):
        return _remote_origin(asked)
    path = Path(asked)
    if path.is_dir():
        return Origin(asked, asked)
    if path.is_file() and path.suffix.lower() == ".txt":
        return _listed_origin(asked, path)
    base, pattern = literal_base(asked)
    if path.is_file():
        known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        if path.suffix.lower() not in known:
            raise SourceError(f"{path} is neither an image nor a video by its suffix ({', '.join(known)})")
        return Origin(asked, str(path.parent), paths=(path.name,))
    if glob.has_magic(pattern):
        return Origin(asked, base or "/", pattern)
    raise SourceError(f"{path} is no file, folder or glob", "not found")


def _remote_origin(asked: str) -> Origin:
    if glob.has_magic(asked):
        return Origin(asked, *literal_base(asked))
    place = place_at(asked)
    assert isinstance(place, RemotePlace)
    if place.is_folder():
        return Origin(asked, place.place)
    base, _, name = place.place.rpartition("/")
    return Origin(asked, base, paths=(name,))


def _listed_origin(asked: str, path: Path) -> Origin:
    try:
        files = [os.path.abspath(file) for file in listed_files(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a list of images ({error})") from error
    if not files:
        raise SourceError(f"{path} lists no image; write one path per line")
    base = os.path.commonpath([os.path.dirname(file) for file in files])
    return Origin(asked, base, paths=sorted({os.path.relpath(file, base) for file in files}))


def _all_stored(place: LocalPlace | RemotePlace, paths: Iterable[str]) -> Iterator[Stored]:
    for path in paths:
        stored = place.stored(path)
        if stored is None:
            raise SourceError(f"{place.url(path)} is not there", "not found")
        if isinstance(place, RemotePlace) or not os.path.isdir(place.url(path)):
            yield stored


@lru_cache(maxsize=4096)
def _through_link(base: str, folder: str) -> bool:
    """Tell whether a folder below a base is a link, or is in one."""
    return bool(folder) and (os.path.islink(os.path.join(base, folder)) or _through_link(base, os.path.dirname(folder)))


def _by_folder(files: Iterable[Stored]) -> Iterator[Sequence[Stored]]:
    for _, group in groupby(files, lambda file: os.path.dirname(file.path)):
        yield list(group)
