"""Find the pictures and videos of an archive, in an order that is the same every time, a folder at a time."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Sequence

from edgeseg.archive.places import (
    NO_FILE,
    Place,
    RemotePlace,
    Stored,
    absolute_place,
    is_remote,
    literal_base,
    place_at,
)
from edgeseg.errors import SourceError, UsageError
from edgeseg.files import text_of
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
            where = text_of(error.filename) if isinstance(error.filename, str) else self.asked
            raise SourceError(f"{where} cannot be listed: {error.strerror or error}") from error

    def _folders(self, place: Place) -> Iterator[Sequence[Stored]]:
        if self.paths:
            yield from _by_folder(_all_stored(place, self.paths))
        elif self.pattern:
            yield from _by_folder(place.matching(self.pattern))
        else:
            yield from place.walk()

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
            elif file.size == NO_FILE:
                self.left_out[str(file.stamp)] += 1
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

    Files that are named one after the other, as a shell names them for ``*.jpg``, are one source.

    Raises:
        SourceError: there is nothing by that name. UsageError: it is live, or a password stands in it.
    """
    origins: list[Origin] = []
    for is_plain, group in groupby(absolute_sources(sources), _is_plain_file):
        named = list(group)
        origins += [_of_files(named)] if is_plain else [_origin(asked) for asked in named]
    return origins


def absolute_sources(sources: Sequence[str]) -> list[str]:
    """Return what sources name, in a form that means the same in every folder.

    Raises:
        SourceError: a list of sources cannot be read. UsageError: one is live, or empty.
    """
    named = [stream.uri for source in sources for stream in streams_from_uri(source)]
    if not all(named):
        raise UsageError("a source is an empty text; is it a variable that is not set?")
    live = next((one for one in named if _is_live(one)), None)
    if live is not None:
        raise UsageError(f"{live} is no stored file; an archive is files, folders, globs and URLs of storage")
    return [absolute_place(one) for one in named]


def _is_live(source: str) -> bool:
    scheme, separator, _ = source.partition("://")
    is_number = source.isdigit() and not os.path.exists(source)  # a folder of a year is no camera
    return is_number or bool(separator and scheme in _NO_FILES)


def _is_plain_file(asked: str) -> bool:
    return not is_remote(asked) and asked.lower().endswith(tuple(_KINDS)) and os.path.isfile(asked)


def _of_files(files: Sequence[str]) -> Origin:
    base = os.path.commonpath([os.path.dirname(file) for file in files])
    return Origin(", ".join(files), base, paths=sorted({os.path.relpath(file, base) for file in files}))


def _origin(asked: str) -> Origin:
    if is_remote(asked):
        return _remote_origin(asked)
    path = Path(asked)
    if path.is_dir():
        return Origin(asked, asked)
    if path.is_file() and path.suffix.lower() == ".txt":
        return _listed_origin(asked, path)
    if path.is_file():
        raise SourceError(f"{path} is neither an image nor a video by its suffix ({', '.join(_KINDS)})")
    base, pattern = literal_base(asked, os.path.lexists)
    if glob.has_magic(pattern):
        return Origin(asked, base or "/", pattern)
    raise SourceError(f"{path} is no file, folder or glob", "not found")


def _remote_origin(asked: str) -> Origin:
    place = place_at(asked)
    assert isinstance(place, RemotePlace)
    if glob.has_magic(asked) and not place.exists(""):
        return Origin(asked, *literal_base(asked, lambda folder: place_at(folder).exists("")))
    if place.is_folder():
        return Origin(asked, place.place)
    base, _, name = place.place.rpartition("/")
    if base.endswith(":/"):
        raise SourceError(f"{asked} is not there, or is empty", "not found")
    return Origin(asked, base, paths=(name,))


def _listed_origin(asked: str, path: Path) -> Origin:
    try:
        files = [os.path.abspath(file) for file in listed_files(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a list of images ({error})") from error
    if not files:
        raise SourceError(f"{path} lists no image; write one path per line")
    return replace(_of_files(files), asked=asked)


def _all_stored(place: Place, paths: Iterable[str]) -> Iterator[Stored]:
    for path in paths:
        stored = place.stored(path)
        if stored is None:
            raise SourceError(f"{place.url(path)} is not there, or is no file", "not found")
        yield stored


def _by_folder(files: Iterable[Stored]) -> Iterator[Sequence[Stored]]:
    """Yield files folder by folder. In the order of their paths a folder's files may stand among those of others."""
    by_place = sorted((os.path.split(file.path), file) for file in files)
    for _, group in groupby(by_place, lambda one: one[0][0]):
        yield [file for _, file in group]
