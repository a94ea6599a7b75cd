"""Read the frames of a task: what can be read, what cannot, and what is not what was planned."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Callable, Iterator

from edgeseg.archive.places import Place, Stored
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, SourceError, first_line
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.pipelines import CaptureOptions
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.sources.stored import ImagesSource
from edgeseg.runtime.sources.uri import source_from_uri

__all__ = ["Item", "Reader"]

_STALL_S = 60.0
_LONGEST_NAME = 240
"""Bytes of a file's name, with room for a suffix."""


@dataclass(frozen=True)
class Item:
    """One frame of the plan.

    Attributes:
        name: of its results, with ``/`` and without suffix.
        source: path or URL of its file.
        index: of the frame in its file.
        frame: the picture; None where it was not read.
        error: why it could not be read.
        skipped: why it was not even tried.
    """

    name: str
    source: str
    index: int
    frame: Frame | None = None
    error: str = ""
    skipped: str = ""


class Reader:
    """Reads the files of one source of an archive.

    Args:
        place: the folder that paths are relative to.
        prefix: in front of the names of results; empty where there is one source.
        options: how videos are read.
    """

    def __init__(self, place: Place, prefix: str, options: CaptureOptions) -> None:
        self._place, self._prefix, self._options = place, prefix, options
        self.description = ""

    def items(self, task: Task, first: int = 0, wanted: Callable[[int], bool] = lambda index: True) -> Iterator[Item]:
        """Yield the frames of a task in order.

        Args:
            task: of this source.
            first: frames of a video before this one are read and left out.
            wanted: takes the number of a picture within the task, or of a frame of a video; others are left out.

        Raises:
            SinkError: the storage does not answer.
        """
        if task.is_video:
            yield from self._video(task.files[0][0], first, wanted)
            return
        for number, (file, whole) in enumerate(task.files):
            if wanted(number):
                yield from self._picture(file, whole)

    def _picture(self, file: Stored, whole: bool) -> Iterator[Item]:
        name, url = self._name(file.path if whole else os.path.splitext(file.path)[0]), self._place.url(file.path)
        gone = self._changed(file)
        if gone:
            yield Item(name, url, 0, skipped=gone)
            return
        count = 0
        with self._place.file(file.path) as path:
            source = ImagesSource([path], url)
            try:
                source.open()
                held: Frame | None = None
                with suppress(EndOfStream):
                    while True:
                        frame = source.read()
                        if held is not None:
                            yield self._page(file, held, count)
                            count += 1
                        held = frame
                if held is not None:
                    yield self._page(file, held, count) if count else Item(name, url, 0, held)
            except Exception as error:  # whatever a decoder makes of a file, the others go on
                failed = self._name(f"{file.path}/{count + 1:04d}") if count else name
                yield Item(failed, url, count, error=_why(error, path, url))

    def _page(self, file: Stored, frame: Frame, index: int) -> Item:
        """Return a page of a picture that has several."""
        return Item(self._name(f"{file.path}/{index + 1:04d}"), self._place.url(file.path), index, frame)

    def _video(self, file: Stored, first: int, wanted: Callable[[int], bool]) -> Iterator[Item]:
        url, index = self._place.url(file.path), 0
        gone = self._changed(file)
        if gone:
            yield Item(self._name(file.path), url, 0, skipped=gone)
            return
        with self._place.file(file.path) as path:
            try:
                with source_from_uri(str(path.absolute()), self._options) as source:
                    self.description = source.description.replace(str(path), url)
                    for frame in _all_frames(source, url):
                        if index >= first and wanted(index):
                            name = self._name(f"{file.path}/{index:06d}")
                            yield Item(name, url, index, replace(frame, index=index))
                        index += 1
            except Exception as error:  # as above
                yield Item(self._name(f"{file.path}/{index:06d}"), url, index, error=_why(error, path, url))

    def _changed(self, file: Stored) -> str:
        """Say why a file is not what was planned; empty where it is."""
        now = self._place.stored(file.path)
        if now is None:
            return "it is not there any more"
        if now != file:
            return "it has changed since the plan was made; name another `output` to segment what is there now"
        return ""

    def _name(self, path: str) -> str:
        """Return a path below the results: no part leads out of it or is longer than a file system takes."""
        parts = [_part(part) for part in path.split("/")]
        return "/".join((self._prefix, *parts) if self._prefix else parts)


def _part(part: str) -> str:
    if part in ("", ".", ".."):
        return part.replace(".", "%2E") or "%2F"
    data = os.fsencode(part)
    if len(data) <= _LONGEST_NAME:
        return part
    return f"{os.fsdecode(data[:200])}-{sha256(data).hexdigest()[:16]}"


def _why(error: Exception, path: Path, url: str) -> str:
    said = str(error) if isinstance(error, EdgesegError) else f"{type(error).__name__}: {first_line(error)}"
    return said.replace(str(path), url)


def _all_frames(source: FrameSource, url: str) -> Iterator[Frame]:
    """Yield every frame. Raises SourceError: also where none comes for a minute."""
    latest = time.monotonic()
    while True:
        try:
            frame = source.read()
        except EndOfStream:
            return
        if frame is not None:
            yield frame
            latest = time.monotonic()
        elif time.monotonic() > latest + _STALL_S:
            raise SourceError(f"{url}: no frame came for {_STALL_S:g} s", "stalled")
