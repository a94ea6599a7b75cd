"""Read the frames of a task: what can be read, what cannot, and what is not what was planned."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Iterator, Mapping

from edgeseg.archive.places import Place, Stored
from edgeseg.archive.plan import Task
from edgeseg.errors import EdgesegError, SourceError, first_line
from edgeseg.files import text_of
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.gst.pipelines import CaptureOptions
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.sources.stored import ImagesSource
from edgeseg.runtime.sources.uri import source_from_uri

__all__ = ["Item", "Reader"]

_STALL_S = 60.0
_GONE = "it is not there any more"
_LONGEST_NAME, _LONGEST_PATH = 240, 900
"""Bytes of a file's name and of its path below the results, with room for a suffix. S3 takes 1024."""


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

    def items(
        self,
        task: Task,
        first: int = 0,
        wanted: Callable[[int], bool] = lambda index: True,
        poison: Mapping[int, str] = MappingProxyType({}),
    ) -> Iterator[Item]:
        """Yield the frames of a task in order.

        Args:
            task: of this source.
            first: frames of a video before this one are read and left out.
            wanted: takes the number of a picture within the task, or of a frame of a video; others are left out.
            poison: why files are not even opened, by their numbers within the task: they kill the process.

        Raises:
            SinkError: the storage does not answer. SourceError: the whole source is gone.
        """
        for number, (file, whole) in enumerate(task.files):
            url = self._place.url(file.path)
            if number in poison:
                name = self._name(f"{file.path}/{first:06d}") if task.is_video else self.picture_name(file, whole)
                yield Item(name, url, first, error=poison[number])
            elif task.is_video:
                yield from self._video(file, first, wanted)
            elif wanted(number):
                yield from self._picture(file, self.picture_name(file, whole))

    def picture_name(self, file: Stored, whole: bool) -> str:
        """Return the name of a picture's results; its pages have others."""
        return self._name(file.path if whole else os.path.splitext(file.path)[0])

    def _picture(self, file: Stored, name: str) -> Iterator[Item]:
        url = self._place.url(file.path)
        count = 0
        with self._opened(file) as (path, skipped, refused):
            if path is None:
                yield Item(name, url, 0, error=refused, skipped=skipped)
                return
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
        with self._opened(file) as (path, skipped, refused):
            if path is None:
                yield Item(self._name(file.path), url, 0, error=refused, skipped=skipped)
                return
            try:
                with source_from_uri(str(path.absolute()), self._options) as source:
                    self.description = source.description.replace(str(path), url)
                    for frame in _all_frames(source, url):
                        if index >= first and wanted(index):
                            name = self._name(f"{file.path}/{index:06d}")
                            yield Item(name, url, index, replace(frame, index=index))
                        index += 1
                if not index:
                    raise SourceError(f"{url} holds no frame")
            except Exception as error:  # as above
                yield Item(self._name(f"{file.path}/{index:06d}"), url, index, error=_why(error, path, url))

    @contextmanager
    def _opened(self, file: Stored) -> Iterator[tuple[Path | None, str, str]]:
        """Give the file to read; where that is None, why it is skipped or why it was refused.

        Raises:
            SourceError: nothing is left of the source, as of a disk that is not mounted. SinkError: no answer.
        """
        with ExitStack() as stack:
            path: Path | None = None
            skipped = refused = ""
            try:
                skipped = self._changed(file)
                path = None if skipped else stack.enter_context(self._place.file(file.path))
            except FileNotFoundError:  # since the question
                skipped = _GONE
            except OSError as error:
                refused = error.strerror or first_line(error)
            if (skipped == _GONE or refused) and not self._place.holds_something():
                raise SourceError(
                    f"{text_of(self._place.place)} is not there or empty on {socket.gethostname()}, and had files when "
                    "the plan was made; mount it there and run it again"
                )
            yield path, skipped, refused

    def _changed(self, file: Stored) -> str:
        """Say why a file is not what was planned; empty where it is. Raises OSError."""
        now = self._place.stored(file.path)
        if now is None:
            return _GONE
        if now != file:
            return "it has changed since the plan was made; name another `output` to segment what is there now"
        return ""

    def _name(self, path: str) -> str:
        """Return a path below the results: it does not lead out of it, and is no longer than what keeps it takes."""
        *folders, name = [_part(part) for part in path.split("/")]
        # A folder that is called as the mask of a picture beside it would be in its way.
        parts = [f"{one[:-4]}%2E{one[-3:]}" if one.lower().endswith(".png") else one for one in folders] + [name]
        return _no_longer("/".join((self._prefix, *parts) if self._prefix else parts), _LONGEST_PATH)


def _part(part: str) -> str:
    if part in ("", ".", ".."):
        return part.replace(".", "%2E") or "%2F"
    return _no_longer(part, _LONGEST_NAME)


def _no_longer(name: str, most: int) -> str:
    """Return a name as it is, or cut and with a digest of the whole where it has more bytes."""
    data = os.fsencode(name)
    if len(data) <= most:
        return name
    return f"{data[: most - 40].decode('utf-8', 'ignore')}-{sha256(data).hexdigest()[:16]}"


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
