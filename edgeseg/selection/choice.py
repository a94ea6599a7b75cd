"""Choose calibration frames in one pass: few, sharp, well exposed and unlike each other, from any source.

A frame becomes a short vector (``descriptor_from_image``), and two frames are as unlike as their vectors are far apart.
``FrameChooser`` keeps at most N vectors whose least distance, the spread, only grows. ``selected_frames`` keeps the
pictures in step with it on the disk, so that memory grows neither with the stream nor with the size of its frames.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from edgeseg.descriptors import descriptor_from_image, exposure_fault, reduced, sharpness_from_image
from edgeseg.errors import ForeignFileError, SinkError, SourceError, UsageError
from edgeseg.files import write_new
from edgeseg.images import encoded_png
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources import EndOfStream, FrameSource
from edgeseg.runtime.sources.latest import LatestFrame

__all__ = [
    "MIN_DISTANCE",
    "MIN_SHARPNESS",
    "REJECTIONS",
    "REPORT_NAME",
    "ChosenFrame",
    "FrameChooser",
    "Selection",
    "selected_frames",
]

MIN_DISTANCE = 0.02
"""Sensor noise and JPEG move a descriptor by 0.005 to 0.013, a driving camera by 0.1 in half a second."""
MIN_SHARPNESS = 0.35
"""Share of the running median. CamVid's frames have 0.48 and more of their median, the same blurred by 1 pixel (sigma)
0.17 and less; 9 pixels of sideways motion blur have 0.2 to 0.57, so that about four in ten of those are found."""
REJECTIONS = {
    "dark": "less than 2 % of the picture is brighter than 24 of 255",
    "bright": "more than 60 % of the picture is at 250 of 255 or above",
    "blurred": "flat, or min_sharpness of the running median or less",
    "duplicate": "min_distance or less from a frame that was kept",
    "redundant": "there is room for count frames only, and others differ more",
}
REPORT_NAME = "selection.json"
SCHEMA = 1
_MOST = 2048
_LONGEST_NAME = 200
"""Bytes of 255 that file systems take."""
_MEDIAN_OVER = 255


@dataclass(frozen=True)
class Candidate:
    """A frame that is worth keeping, without its picture: see ``Frame`` and the two measures above."""

    index: int
    name: str
    captured_ns: int
    media_ns: int | None
    descriptor: np.ndarray
    sharpness: float


class FrameChooser:
    """Choice of at most ``count`` frames that differ as much as possible, by greedy max-min replacement.

    While there is room, every frame that is no near-duplicate is kept. Then one that is further from all the kept than
    their two nearest are from each other replaces one of these two, the one with the nearer other neighbour. This is
    the farthest-point rule of Gonzalez (1985) turned into a swap, so that one pass suffices and the spread never falls.
    It guarantees no constant factor of the best spread or k-center radius, where the offline rule guarantees 2 and
    the doubling algorithm of Charikar et al. (1997) 8. But its spread was measured at 0.91 to 1.01 of the offline
    rule's (CamVid and rendered drives, 16 to 300 frames), and doubling fills only a sixteenth to three quarters of
    the places there.

    The same frames in the same order give the same choice.

    Args:
        count: most frames to keep, 1 to 2048.
        min_distance: frames this near to a kept one are duplicates.
        min_sharpness: frames with this share of the running median of sharpness or less are blurred. The median is
            over the last 255 well exposed frames, so that a softer scene is accepted after a while.

    Attributes:
        seen: frames judged.
        first_ns: ``captured_ns`` of the first of them.
        spread: least distance between two kept frames; infinite for fewer than two.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(self, count: int, min_distance: float = MIN_DISTANCE, min_sharpness: float = MIN_SHARPNESS) -> None:
        if not 1 <= count <= _MOST:
            raise UsageError(f"the number of frames to choose must be 1 to {_MOST}, got {count}; 300 is usual")
        if not (0 <= min_distance < np.inf and 0 <= min_sharpness < 1):
            raise UsageError(
                f"min_distance must be 0 or more and min_sharpness from 0 to below 1, got {min_distance} and "
                f"{min_sharpness}"
            )
        self._count, self._min_distance, self._min_sharpness = count, min_distance, min_sharpness
        self._kept: list[Candidate] = []
        self._apart = np.full((count, count), np.inf, np.float32)
        self._sharpness: deque[float] = deque(maxlen=_MEDIAN_OVER)
        self._settled = False
        self._rejected = {"dark": 0, "bright": 0, "blurred": 0, "duplicate": 0}
        self._even = _EvenSample(8 * count)
        self.seen = self.first_ns = 0
        self.spread = float("inf")

    def judged(self, frame: Frame) -> Candidate | None:
        """Count a frame and return it as a candidate; None when it is not worth keeping."""
        self.first_ns = self.first_ns if self.seen else frame.captured_ns
        self.seen += 1
        picture = reduced(frame.image)
        fault = exposure_fault(picture)
        if fault:
            self._rejected[fault] += 1
            return None
        sharpness = sharpness_from_image(picture)
        self._sharpness.append(sharpness)
        if len(self._sharpness) == _MEDIAN_OVER:
            self.settle()
        if self._is_blurred(sharpness):
            self._rejected["blurred"] += 1
            return None
        descriptor = descriptor_from_image(picture)
        self._even.add(descriptor)
        distance = float(self._distances(descriptor).min(initial=np.inf))
        if distance <= self._min_distance:
            self._rejected["duplicate"] += 1
            return None
        if len(self._kept) == self._count and distance <= self.spread:
            return None
        return Candidate(frame.index, frame.name, frame.captured_ns, frame.media_ns, descriptor, sharpness)

    def keep(self, candidate: Candidate) -> None:
        """Keep the candidate that ``judged`` has just returned, in place of another where there is no room."""
        distances = self._distances(candidate.descriptor)
        place = len(self._kept) if len(self._kept) < self._count else self._replaceable(distances)
        self._apart[place, : len(distances)] = self._apart[: len(distances), place] = distances
        self._apart[place, place] = np.inf
        self._kept[place : place + 1] = [candidate]
        self.spread = float(self._apart.min())

    def settle(self) -> None:
        """Judge the sharpness of the first frames again, once: a camera that starts has no median yet, or no focus."""
        if self._settled:
            return
        self._settled = True
        before = self._kept
        self._kept = []
        self._apart.fill(np.inf)
        for candidate in before:
            if self._is_blurred(candidate.sharpness):
                self._rejected["blurred"] += 1
            else:
                self.keep(candidate)

    def kept(self) -> list[Candidate]:
        """Return the kept frames in the order of the stream."""
        return sorted(self._kept, key=lambda kept: kept.index)

    def rejected(self) -> dict[str, int]:
        """Count the frames that were not kept, by the reasons of ``REJECTIONS``; with the kept they are ``seen``."""
        redundant = self.seen - sum(self._rejected.values()) - len(self._kept)
        return {**self._rejected, "redundant": redundant}

    def uniform_spread(self) -> float:
        """Return the spread of as many frames as are kept, evenly spaced in all that is not dark, bright or blurred."""
        return float(_nearest(self._even.spaced(len(self._kept))).min(initial=np.inf))

    def relative_sharpness(self, sharpness: float) -> float:
        """Return a sharpness as a share of the running median."""
        median = float(np.median(self._sharpness))
        return sharpness / median if median else 0.0

    def _is_blurred(self, sharpness: float) -> bool:
        return self.relative_sharpness(sharpness) <= self._min_sharpness

    def _distances(self, descriptor: np.ndarray) -> np.ndarray:
        """Return the distances from a frame to every kept one: (kept,) float32."""
        if not self._kept:
            return np.zeros(0, np.float32)
        apart = np.stack([kept.descriptor for kept in self._kept]) - descriptor
        return np.asarray(np.sqrt(np.einsum("kd,kd->k", apart, apart)))

    def _replaceable(self, distances: np.ndarray) -> int:
        """Choose, of the two nearest kept frames, the one whose next neighbour, the new frame included, is nearer."""
        first, second = divmod(int(self._apart.argmin()), self._count)

        def next_nearest(place: int, partner: int) -> float:
            others = np.append(self._apart[place], distances[place])
            others[partner] = np.inf
            return float(others.min())

        return first if next_nearest(first, second) <= next_nearest(second, first) else second


class _EvenSample:
    """Evenly spaced members of a stream of unknown length: all of them, then between half of ``most`` and ``most``."""

    def __init__(self, most: int) -> None:
        self._most, self._stride, self._passed = most, 1, 0
        self._members: list[np.ndarray] = []

    def add(self, member: np.ndarray) -> None:
        if self._passed % self._stride == 0:
            self._members.append(member)
        self._passed += 1
        if len(self._members) > self._most:
            self._members = self._members[::2]
            self._stride *= 2

    def spaced(self, count: int) -> np.ndarray:
        """Return ``count`` of the members, from the first to the last: (count, D)."""
        places = np.linspace(0, len(self._members) - 1, count).round().astype(int)
        return np.array([self._members[place] for place in places])


def _nearest(descriptors: np.ndarray) -> np.ndarray:
    """Return the distance of each to its nearest other: (N,); infinite for a single one."""
    exact = descriptors.astype(np.float64)
    lengths = (exact * exact).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * exact @ exact.T
    np.fill_diagonal(squared, np.inf)
    return np.asarray(np.sqrt(squared.min(axis=1).clip(0)))


@dataclass(frozen=True)
class ChosenFrame:
    """One frame of a selection.

    Attributes:
        file: name of its PNG in the folder, with that of the image file it came from; names sort in the order of
            the stream.
        index: counts the frames of the source from 0, those dropped by the latest-frame policy included.
        name: the source's name for it, e.g. the image file's without suffix.
        seconds: time since the stream's start; None where the source announces no frame rate.
        sharpness: share of the median at the end.
        nearest: distance to the chosen frame that is most like it; infinite for a single one.
    """

    file: str
    index: int
    name: str
    seconds: float | None
    sharpness: float
    nearest: float


@dataclass(frozen=True)
class Selection:
    """Frames that were chosen from a source, and counts of those that were not.

    Attributes:
        source: description of the source.
        ended: ``"end of stream"``, ``"frame limit"``, ``"time limit"``, ``"interrupted"`` or ``"source broke"``.
        started_at: UTC of the first frame of a live source, ISO 8601; else None.
        count: number of frames that were wanted.
        seen: number of frames that were looked at.
        dropped: frames that came while another was looked at (latest-frame policy).
        rejected: number of frames that were not chosen, by the reasons of ``REJECTIONS``.
        chosen: the frames in the order of the stream.
        spread: least distance between two chosen frames; infinite for a single one.
        uniform_spread: the same for as many evenly spaced frames of the same stream.
        min_distance: see ``FrameChooser``.
        min_sharpness: see ``FrameChooser``.
    """

    source: str
    ended: str
    started_at: str | None
    count: int
    seen: int
    dropped: int
    rejected: dict[str, int]
    chosen: tuple[ChosenFrame, ...]
    spread: float
    uniform_spread: float
    min_distance: float
    min_sharpness: float

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``selection.json``; infinite distances become null."""
        chosen = [{**vars(frame), "nearest": _finite(frame.nearest)} for frame in self.chosen]
        spreads = {"spread": _finite(self.spread), "uniform_spread": _finite(self.uniform_spread)}
        return {"schema": SCHEMA, **vars(self), **spreads, "reasons": REJECTIONS, "chosen": chosen}


def selected_frames(
    source: FrameSource,
    folder: Path,
    *,
    count: int = 300,
    min_count: int = 1,
    latest: bool | None = None,
    seconds: float = 0.0,
    frames: int = 0,
    min_distance: float = MIN_DISTANCE,
    min_sharpness: float = MIN_SHARPNESS,
    report: Callable[[FrameChooser], None] = lambda chooser: None,
) -> Selection:
    """Watch a source to its end and leave the chosen frames in a folder as PNG, with ``selection.json``.

    A frame is written when it is kept and removed when another takes its place. Ctrl-C ends the watch early, and so
    does a live source that breaks: what was chosen until then stays. ``selection.json`` is written last, so that a
    folder without it is one of a watch that was killed. After any other failure nothing is left.

    Args:
        source: a source that is not yet opened.
        folder: new or empty; created with its parents.
        count: most frames to choose, 1 to 2048.
        min_count: fewer frames are an error.
        latest: drop frames that come while one is looked at; None for that on live sources only. Which ones are
            dropped depends on the machine, so for the same choice every time pass False.
        seconds: how long to watch a live source; 0 is no limit.
        frames: stop after this number of frames; 0 is no limit.
        min_distance: see ``FrameChooser``.
        min_sharpness: see ``FrameChooser``.
        report: called after each frame with the state so far.

    Raises:
        UsageError: an argument is out of range, the folder is not empty, or ``seconds`` is given for stored frames.
        SourceError: too few frames are left, or the source broke; where a live one did, the chosen are in the
            folder.
        SinkError: the folder cannot be written.
        ImageError: a stored image cannot be read.
    """
    chooser = FrameChooser(count, min_distance, min_sharpness)
    _refuse_limits(source, count, min_count, seconds, frames)
    stream = LatestFrame(source) if (source.is_live if latest is None else latest) else source
    broken = None
    with _own_folder(folder) as files:
        try:
            ended = _watched(stream, chooser, files, seconds, frames, report)
        except SourceError as error:
            if not (source.is_live and chooser.seen):
                raise
            ended, broken = "source broke", error
        chooser.settle()
        if len(chooser.kept()) < min_count:
            raise broken or SourceError(_too_few(chooser, min_count, ended))
        chosen = _chosen(chooser, source)
        selection = Selection(
            source=source.description,
            ended=ended,
            started_at=_utc_of(chooser.first_ns) if source.is_live else None,
            count=count,
            seen=chooser.seen,
            dropped=stream.dropped if isinstance(stream, LatestFrame) else 0,
            rejected=chooser.rejected(),
            chosen=chosen,
            spread=min(frame.nearest for frame in chosen),
            uniform_spread=chooser.uniform_spread(),
            min_distance=min_distance,
            min_sharpness=min_sharpness,
        )
        files.keep_only({frame.file for frame in chosen})
        files.write(REPORT_NAME, json.dumps(selection.to_json(), indent=1).encode(), durable=True)
    if broken is not None:
        raise SourceError(f"{broken}; the {len(chosen)} frames chosen until then are in {folder}") from broken
    return selection


def _refuse_limits(source: FrameSource, count: int, min_count: int, seconds: float, frames: int) -> None:
    if not 1 <= min_count <= count:
        raise UsageError(
            f"--min-count must be 1 to --count, got {min_count} with --count {count}; compile takes 16 frames or more"
        )
    if frames < 0 or not 0 <= seconds < np.inf:
        raise UsageError(f"limits are 0 (none) or more, got {frames} frames and {seconds:g} seconds")
    if seconds and not source.is_live:
        raise UsageError(f"{source.description} is not live, so seconds mean nothing there; limit the frames")


def _watched(
    stream: FrameSource,
    chooser: FrameChooser,
    files: _Files,
    seconds: float,
    frames: int,
    report: Callable[[FrameChooser], None],
) -> str:
    """Hand the frames of a stream to the chooser, and its choice to the folder; return why that ended."""
    try:
        with stream:
            deadline = time.monotonic() + (seconds or float("inf"))
            while time.monotonic() < deadline:
                frame = stream.read()
                if frame is None:
                    continue
                _look_at(frame, chooser, files)
                report(chooser)
                if chooser.seen == frames:
                    return "frame limit"
            return "time limit"
    except EndOfStream:
        return "end of stream"
    except KeyboardInterrupt:
        return "interrupted"


def _look_at(frame: Frame, chooser: FrameChooser, files: _Files) -> None:
    candidate = chooser.judged(frame)
    if candidate is not None:
        name = _file_name(candidate)
        files.write(name, encoded_png(frame.image, files.folder / name))
        chooser.keep(candidate)
        files.keep_only({_file_name(kept) for kept in chooser.kept()})


class _Files:
    """The files that we put into a folder, and nobody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: set[str] = set()

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write one of the files. Raises SinkError: the disk refuses; ForeignFileError: somebody has the name."""
        try:
            write_new(self.folder / name, data, durable=durable, replaces=lambda path: name in self._names)
            self._names.add(name)
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
        for name in self._names - names:
            (self.folder / name).unlink(missing_ok=True)
        self._names &= names


@contextmanager
def _own_folder(folder: Path) -> Iterator[_Files]:
    """Open a new or empty folder to fill, and leave it as it was when that fails. Raises UsageError, SinkError."""
    is_new = not folder.exists()
    try:
        if not is_new and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; name a new or empty folder, so that no older frames are mixed in")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} cannot be a folder of frames: {error.strerror}; name another") from error
    files = _Files(folder)
    try:
        yield files
    except BaseException:
        files.keep_only(set())
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _file_name(frame: Candidate) -> str:
    """Join nine digits, by which names sort for a year at 30 frames per second, and the user's name if there is one."""
    number = f"{frame.index:09d}"
    if frame.name.isdecimal() and int(frame.name) == frame.index:
        return f"{number}.png"
    name = os.fsdecode(os.fsencode(frame.name.replace("/", "-"))[:_LONGEST_NAME])
    return f"{number}-{name}.png"


def _chosen(chooser: FrameChooser, source: FrameSource) -> tuple[ChosenFrame, ...]:
    def seconds(frame: Candidate) -> float | None:
        if frame.media_ns is not None:
            return round(frame.media_ns / 1e9, 3)
        if source.is_live:
            return round((frame.captured_ns - chooser.first_ns) / 1e9, 3)
        return round(frame.index / source.fps, 3) if source.fps else None

    kept = chooser.kept()
    nearest = _nearest(np.array([frame.descriptor for frame in kept]))
    return tuple(
        ChosenFrame(
            file=_file_name(frame),
            index=frame.index,
            name=frame.name,
            seconds=seconds(frame),
            sharpness=round(chooser.relative_sharpness(frame.sharpness), 3),
            nearest=float(distance),
        )
        for frame, distance in zip(kept, nearest)
    )


def _utc_of(captured_ns: int) -> str:
    ago = timedelta(microseconds=(time.perf_counter_ns() - captured_ns) / 1e3)
    return (datetime.now(timezone.utc) - ago).isoformat(timespec="seconds")


def _too_few(chooser: FrameChooser, min_count: int, ended: str) -> str:
    why = ", ".join(f"{number} {reason}" for reason, number in chooser.rejected().items() if number) or "none rejected"
    return (
        f"{len(chooser.kept())} usable frames among {chooser.seen} seen ({why}; {ended}), at least {min_count} are "
        "needed; watch longer or a scene that changes, or lower --min-distance or --min-sharpness"
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
