"""Choose calibration frames in one pass: few, sharp, well exposed and unlike each other, from any source.

``FrameChooser`` decides which frames are kept. ``selected_frames`` keeps the pictures in step with it on the disk, so
that memory grows neither with the stream nor with the size of its frames.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import numpy as np

from edgeseg.errors import SourceError, UsageError
from edgeseg.images import encoded_png
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources import EndOfStream, FrameSource
from edgeseg.runtime.sources.latest import LatestFrame
from edgeseg.selection.chooser import (
    MIN_DISTANCE,
    MIN_SHARPNESS,
    REJECTIONS,
    Candidate,
    FrameChooser,
    nearest_distances,
)
from edgeseg.selection.folder import OwnFiles, own_folder

__all__ = ["REPORT_NAME", "ChosenFrame", "Selection", "SelectionOptions", "selected_frames"]

REPORT_NAME = "selection.json"
SCHEMA = 1
_LONGEST_NAME = 200
"""Bytes of 255 that file systems take."""


@dataclass(frozen=True)
class SelectionOptions:
    """How many frames to choose, and how long to watch.

    Attributes:
        count: most frames to choose, 1 to 2048.
        min_count: fewer frames are an error.
        latest: drop frames that come while one is looked at; None for that on live sources only. Which ones are
            dropped depends on the machine, so for the same choice every time pass False.
        seconds: how long to watch a live source; 0 is no limit.
        frames: stop after this number of frames; 0 is no limit.
        min_distance: see ``FrameChooser``.
        min_sharpness: see ``FrameChooser``.
    """

    count: int = 300
    min_count: int = 1
    latest: bool | None = None
    seconds: float = 0.0
    frames: int = 0
    min_distance: float = MIN_DISTANCE
    min_sharpness: float = MIN_SHARPNESS


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
    options: SelectionOptions = SelectionOptions(),
    *,
    report: Callable[[FrameChooser], None] = lambda chooser: None,
) -> Selection:
    """Watch a source to its end and leave the chosen frames in a folder as PNG, with ``selection.json``.

    A frame is written when it is kept and removed when another takes its place. Ctrl-C ends the watch early, and so
    does a live source that breaks: what was chosen until then stays. ``selection.json`` is written last, so that a
    folder without it is one of a watch that was killed. After any other failure nothing is left.

    Args:
        source: a source that is not yet opened.
        folder: new or empty; created with its parents.
        options: how many frames, and how long to watch.
        report: called after each frame with the state so far.

    Raises:
        UsageError: an option is out of range, the folder is not empty, or ``seconds`` is given for stored frames.
        SourceError: too few frames are left, or the source broke; where a live one did, the chosen are in the
            folder.
        SinkError: the folder cannot be written.
        ImageError: a stored image cannot be read.
    """
    chooser = FrameChooser(options.count, options.min_distance, options.min_sharpness)
    _refuse_limits(source, options)
    stream = LatestFrame(source) if (source.is_live if options.latest is None else options.latest) else source
    broken = None
    with own_folder(folder) as files:
        try:
            ended = _watched(stream, chooser, files, options, report)
        except SourceError as error:
            if not (source.is_live and chooser.seen):
                raise
            ended, broken = "source broke", error
        chooser.settle()
        if len(chooser.kept()) < options.min_count:
            raise broken or SourceError(_too_few(chooser, options.min_count, ended))
        dropped = stream.dropped if isinstance(stream, LatestFrame) else 0
        selection = _selection(source, chooser, options, ended, dropped)
        files.keep_only({frame.file for frame in selection.chosen})
        files.write(REPORT_NAME, json.dumps(selection.to_json(), indent=1).encode(), durable=True)
    if broken is not None:
        count = len(selection.chosen)
        raise SourceError(f"{broken}; the {count} frames chosen until then are in {folder}") from broken
    return selection


def _refuse_limits(source: FrameSource, options: SelectionOptions) -> None:
    count, min_count, seconds, frames = options.count, options.min_count, options.seconds, options.frames
    if not 1 <= min_count <= count:
        raise UsageError(
            f"`min_count` must be 1 to `count`, got {min_count} with `count` {count}; compile takes 16 frames or more"
        )
    if frames < 0 or not 0 <= seconds < np.inf:
        raise UsageError(f"limits are 0 (none) or more, got {frames} frames and {seconds:g} seconds")
    if seconds and not source.is_live:
        raise UsageError(f"{source.description} is not live, so seconds mean nothing there; limit the frames")


def _watched(
    stream: FrameSource,
    chooser: FrameChooser,
    files: OwnFiles,
    options: SelectionOptions,
    report: Callable[[FrameChooser], None],
) -> str:
    """Hand the frames of a stream to the chooser, and its choice to the folder; return why that ended."""
    try:
        with stream:
            deadline = time.monotonic() + (options.seconds or float("inf"))
            while time.monotonic() < deadline:
                frame = stream.read()
                if frame is None:
                    continue
                _look_at(frame, chooser, files)
                report(chooser)
                if chooser.seen == options.frames:
                    return "frame limit"
            return "time limit"
    except EndOfStream:
        return "end of stream"
    except KeyboardInterrupt:
        return "interrupted"


def _look_at(frame: Frame, chooser: FrameChooser, files: OwnFiles) -> None:
    candidate = chooser.judge(frame)
    if candidate is not None:
        name = _file_name(candidate)
        files.write(name, encoded_png(frame.image, files.folder / name))
        chooser.keep(candidate)
        files.keep_only({_file_name(kept) for kept in chooser.kept()})


def _selection(
    source: FrameSource, chooser: FrameChooser, options: SelectionOptions, ended: str, dropped: int
) -> Selection:
    chosen = _chosen(chooser, source)
    return Selection(
        source=source.description,
        ended=ended,
        started_at=_utc_of(chooser.first_ns) if source.is_live else None,
        count=options.count,
        seen=chooser.seen,
        dropped=dropped,
        rejected=chooser.rejections(),
        chosen=chosen,
        spread=min(frame.nearest for frame in chosen),
        uniform_spread=chooser.uniform_spread(),
        min_distance=options.min_distance,
        min_sharpness=options.min_sharpness,
    )


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
    nearest = nearest_distances(np.array([frame.descriptor for frame in kept]))
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
    why = (
        ", ".join(f"{number} {reason}" for reason, number in chooser.rejections().items() if number) or "none rejected"
    )
    return (
        f"{len(chooser.kept())} usable frames among {chooser.seen} seen ({why}; {ended}), at least {min_count} are "
        "needed; watch longer or a scene that changes, or lower `min_distance` or `min_sharpness`"
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
