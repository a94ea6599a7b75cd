"""Replay a recording (``replay://FILE``): the same frames on any machine."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Callable

import numpy as np

from edgeseg.errors import SourceError
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.recording.comparison import ReplayComparison
from edgeseg.runtime.recording.file import Recording
from edgeseg.runtime.sources.base import EndOfStream, FrameSource
from edgeseg.runtime.state import DROP_CAUSES
from edgeseg.spec import ModelSpec
from edgeseg.uris import located

__all__ = ["ReplaySource", "comparison_from_uri", "replay_from_uri"]

_LONGEST_WAIT_S = 0.1


class ReplaySource(FrameSource):
    """Source of recorded frames in the order of their capture, with their index, name, source and times as recorded.

    The frames and the gaps between their indices are those of the recording, however slow this machine is.

    Args:
        path: the recording.
        pace: keep the spacing in time; ``captured_ns`` is then the recorded one shifted to now. Without it frames
            come as fast as they are taken, captured when they are read.
        source: one source of the recorded run; None replays all of them in one timeline.
        clock_ns: monotonic nanoseconds; injected in tests.
        sleep: waits this many seconds; injected in tests.

    Attributes:
        drops: frames that the recorded run did not deliver, by cause (``DROP_CAUSES`` and ``UNRECORDED``).

    Raises:
        SourceError: the file is missing, damaged or no recording, or holds no frame.
        UsageError: it has no source of that name.
    """

    is_live = False

    def __init__(
        self,
        path: Path,
        *,
        pace: bool = False,
        source: str | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path, self._source, self._pace = path, source, pace
        self._clock_ns, self._sleep = clock_ns, sleep
        self._next = 0
        self._pending: Frame | None = None
        self._shift_ns = 0
        self._recording: Recording | None = None
        with Recording(path, source) as recording:
            self.drops: Counter[str] = recording.drops
            self.fps = recording.fps
            count, sources = len(recording.order), len(recording.sources) if source is None else 1
            started = recording.meta.get("started_utc", "an unknown time")
        if not count:
            raise SourceError(f"{path} holds no frame; record for longer")
        speed = "at the recorded pace" if pace else "as fast as possible"
        self.description = f"replay of {count} frames, {sources} source(s), recorded {started}, {path}, {speed}"

    def open(self) -> None:
        """Start at the first recorded frame.

        Raises:
            SourceError: the recording cannot be read.
        """
        self.close()
        self._recording = Recording(self._path, self._source)
        self._next, self._pending = 0, None

    def read(self) -> Frame | None:
        """Return the next recorded frame; None while its time has not come.

        Raises:
            EndOfStream: there are no more frames.
            SourceError: the frame is damaged, or the source is not open.
        """
        frame = self._pending or self._following()
        if self._pace:
            wait_s = (frame.captured_ns - self._clock_ns()) / 1e9
            if wait_s > 0:
                self._sleep(min(wait_s, _LONGEST_WAIT_S))
            if wait_s > _LONGEST_WAIT_S:
                self._pending = frame
                return None
        self._pending = None
        return frame

    def lost_frames(self) -> dict[str, int]:
        """Return the drops of the recorded run by cause, so that this run counts the same."""
        return {cause: count for cause, count in self.drops.items() if cause in DROP_CAUSES}

    def recorded_ids(self, index: int, source: str | None = None) -> np.ndarray:
        """Read the class ids that were recorded with a frame.

        Args:
            index: number of the frame.
            source: its source; may be left out where the recording has one source only, or one was chosen.

        Returns:
            hxw uint8 at the network's size.

        Raises:
            SourceError: there is no such frame, its ids are damaged, or the source is not open.
        """
        recording = self._opened()
        name = source if source is not None else self._source
        if name is None:
            if len(recording.sources) > 1:
                raise SourceError(f"{self._path} has {len(recording.sources)} sources; say which one {index} is of")
            name = next(iter(recording.sources))
        ids = recording.ids(index, name)
        if ids is None:
            raise SourceError(f"{self._path} has no frame {index} of source {name!r}")
        return ids

    def close(self) -> None:
        """Release the recording."""
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close()

    def _opened(self) -> Recording:
        if self._recording is None:
            raise SourceError(f"{self._path} is not open")
        return self._recording

    def _following(self) -> Frame:
        recording = self._opened()
        if self._next == len(recording.order):
            raise EndOfStream
        recorded = recording.frame(recording.order[self._next])
        now = self._clock_ns()
        if self._next == 0:
            self._shift_ns = now - recorded.captured_ns
        self._next += 1
        captured_ns = recorded.captured_ns + self._shift_ns if self._pace else now
        return Frame(
            recorded.image,
            recorded.index,
            captured_ns,
            recorded.name,
            source=recorded.source,
            media_ns=recorded.media_ns,
            duration_ns=recorded.duration_ns,
        )


def replay_from_uri(uri: str) -> ReplaySource:
    """Build the source of ``replay://FILE?source=NAME&pace=1``; both parameters may be left out.

    Raises:
        SourceError: the recording cannot be replayed; see ``ReplaySource``.
        UsageError: the URI makes no sense, or the recording has no such source.
    """
    path, source, pace = _parsed(uri)
    return ReplaySource(path, pace=pace, source=source)


def comparison_from_uri(uri: str, spec: ModelSpec) -> ReplayComparison:
    """Build the sink that compares a run over ``replay://...`` with what was recorded.

    Raises:
        SourceError: the recording cannot be read.
        UsageError: the URI makes no sense, the classes differ, or the recording has no such source.
    """
    path, source, _ = _parsed(uri)
    return ReplayComparison(path, spec, source)


def _parsed(uri: str) -> tuple[Path, str | None, bool]:
    from edgeseg.runtime.sources.uri import SOURCES  # which opens this

    at = located(uri, SOURCES["replay"])
    return Path(at.place), at.values.get("source"), at.values.get("pace") == "1"
