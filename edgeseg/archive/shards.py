"""Work a task off: segment its frames, and commit a shard at a time with one done-file."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Callable, Iterator, Mapping

import numpy as np

from edgeseg.archive.places import Place
from edgeseg.archive.plan import Plan, Task
from edgeseg.archive.reading import Item, Reader
from edgeseg.archive.results import WITH_MASKS, WITH_TABLE, mask_name, opened_results, run_lengths, stored_rows
from edgeseg.errors import EdgesegError, ImageError, InputError, first_line
from edgeseg.files import text_of
from edgeseg.json_object import JsonObject
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.spec import ModelSpec

__all__ = [
    "Archive",
    "Check",
    "DONE",
    "ShardRecord",
    "checked",
    "is_last",
    "record_from",
    "shard_name",
    "tried",
    "work_off",
]

DONE = "done"
"""The folder of done-files, one per shard."""
_END = ".end"


@dataclass(frozen=True)
class Archive:
    """What a worker has open.

    Attributes:
        place: of the results.
        plan: its head.
        readers: one for each source.
        spec: of the model.
        segment: finds the class map of a frame.
        engine: what does so, for people.
    """

    place: Place
    plan: Plan
    readers: tuple[Reader, ...]
    spec: ModelSpec
    segment: Callable[[Frame], Segmentation]
    engine: str


@dataclass(frozen=True)
class ShardRecord:
    """A committed shard, as its done-file says it.

    Attributes:
        plan: digest of the plan.
        task: number of the task.
        piece: number of the shard within it; only videos have more than one.
        last: whether the task is done with it.
        segmented, failed, skipped: frames.
        pictures, videos: files of the plan that are done with it.
        bytes: of these.
        failures: (name, source, why) of what failed or was skipped.
        worker: host and process.
        engine: what ran the network there.
        reader: what read the video there.
        seconds: that it took.
    """

    plan: str
    task: int
    piece: int
    last: bool
    segmented: int
    failed: int
    skipped: int
    pictures: int
    videos: int
    bytes: int
    failures: tuple[tuple[str, str, str], ...]
    worker: str
    engine: str
    reader: str
    seconds: float

    @property
    def frames(self) -> int:
        """Return how many frames of the plan it has."""
        return self.segmented + self.failed + self.skipped


@dataclass(frozen=True)
class Check:
    """What came of segmenting some frames of a task again.

    Attributes:
        task: its number.
        frames: that were compared.
        different: names of those whose stored result is another one.
    """

    task: int
    frames: int
    different: tuple[str, ...]


def shard_name(task: int, piece: int) -> str:
    """Return the name of a shard."""
    return f"{task:08d}-{piece:05d}"


def is_last(done_file: str) -> bool:
    """Tell from the name of a done-file whether its task is done."""
    return done_file.endswith(f"{_END}.json") and not done_file.startswith(".")


def record_from(data: bytes, where: str) -> ShardRecord:
    """Read a done-file. Raises InputError."""
    try:
        facts = JsonObject(json.loads(data), where)
        failures = tuple((str(name), str(source), str(why)) for name, source, why in facts.values("failures"))
        return ShardRecord(
            plan=facts.text("plan"),
            task=facts.whole("task"),
            piece=facts.whole("piece"),
            last=facts.flag("last", False),
            segmented=facts.whole("segmented"),
            failed=facts.whole("failed"),
            skipped=facts.whole("skipped"),
            pictures=facts.whole("pictures"),
            videos=facts.whole("videos"),
            bytes=facts.whole("bytes"),
            failures=failures,
            worker=facts.text("worker"),
            engine=facts.text("engine"),
            reader=facts.text("reader"),
            seconds=facts.number("seconds", 0.0),
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is no done-file ({error}); remove it, and run the archive again") from error


def work_off(archive: Archive, task: Task, poison: Mapping[int, str]) -> Iterator[ShardRecord]:
    """Segment what is not done of a task, and yield each shard when it is committed.

    Results are written first and the done-file last, so that a kill at any moment leaves a shard that counts, or one
    that is done again. Doing it again writes the same.

    Args:
        archive: what is open.
        task: of its plan.
        poison: why files of the task are not even opened, by their numbers within it.

    Raises:
        SinkError: results cannot be kept, or the storage does not answer. EngineError: the engine failed.
    """
    piece = _pieces_done(archive, task)
    if piece is None:
        return
    most = archive.plan.wish.shard_frames
    reader = archive.readers[task.source]
    items = reader.items(task, first=piece * most, poison=poison)
    while True:
        began = time.perf_counter()
        shard = _Shard(archive, task, piece)
        for item in islice(items, most) if task.is_video else items:
            shard.take(item)
        last = not task.is_video or shard.frames < most
        yield shard.committed(last, reader.description, time.perf_counter() - began)
        if last:
            return
        piece += 1


def tried(archive: Archive, task: Task) -> None:
    """Segment the files of a task, or a black frame where it has none, and keep nothing.

    Raises:
        EngineError: the engine is not well. SourceError, SinkError: the storage does not answer.
    """
    if not task.files:
        archive.segment(_black(archive.spec))
    for item in archive.readers[task.source].items(task):
        if item.frame is not None:
            with suppress(Exception):  # which is counted when the whole task is worked off
                archive.segment(item.frame)


def _black(spec: ModelSpec) -> Frame:
    return Frame(np.zeros((*spec.size_hw, 3), np.uint8), 0, time.perf_counter_ns(), "black")


def checked(archive: Archive, task: Task, every: int) -> Check:
    """Segment one of ``every`` frames of a task that is done again, from its first on, and compare.

    Raises:
        SinkError: the storage does not answer. EngineError: the engine failed.
    """
    frames, different = 0, []
    rows: dict[str, object] = {}
    form, piece = archive.plan.wish.format, -1
    reader = archive.readers[task.source]
    without = set() if task.is_video else _failed(archive, task)  # one of them may kill the process
    known = {number: "" for number, one in enumerate(task.files) if text_of(reader.picture_name(*one)) in without}
    for item in reader.items(task, wanted=lambda index: index % every == 0, poison=known):
        if item.frame is None:
            continue
        result, frames = archive.segment(item.frame), frames + 1
        same = form not in WITH_MASKS or _is_stored_mask(archive.place, item, result.classes)
        if form in WITH_TABLE:
            mine = item.index // archive.plan.wish.shard_frames if task.is_video else 0
            if mine != piece:
                piece, rows = mine, _rows(archive.place, shard_name(task.number, mine))
            same = same and rows.get(text_of(item.name)) == run_lengths(result.classes)
        if not same:
            different.append(text_of(item.name))
    return Check(task.number, frames, tuple(different))


def _failed(archive: Archive, task: Task) -> set[str]:
    """Return the names of pictures of a task that have no result."""
    name = f"{DONE}/{shard_name(task.number, 0)}{_END}.json"
    return {name for name, _, _ in record_from(archive.place.read(name), archive.place.url(name)).failures}


class _Shard:
    """A shard that is being made."""

    def __init__(self, archive: Archive, task: Task, piece: int) -> None:
        self._archive, self._task, self._piece = archive, task, piece
        self._name = shard_name(task.number, piece)
        self._results = opened_results(archive.place, self._name, archive.plan.wish.format, archive.spec)
        self._counts = {"segmented": 0, "failed": 0, "skipped": 0}
        self._failures: list[tuple[str, str, str]] = []

    @property
    def frames(self) -> int:
        """Return how many frames it has so far."""
        return sum(self._counts.values())

    def take(self, item: Item) -> None:
        """Segment a frame and keep the result. Raises SinkError, EngineError."""
        result, why = None, item.error or item.skipped
        if item.frame is not None:
            try:
                result = self._archive.segment(item.frame)
                result.classes  # noqa: B018 - is made here, where what it costs is this frame's
            except Exception as error:  # of a library that does not take this picture, or has no memory for it
                if not isinstance(error, ImageError):
                    self._require_well(error)
                result = None
                why = str(error) if isinstance(error, EdgesegError) else f"{type(error).__name__}: {first_line(error)}"
        for results in self._results:
            results.add(item, result)
        self._counts["segmented" if result is not None else "skipped" if item.skipped else "failed"] += 1
        if result is None:
            self._failures.append((text_of(item.name), text_of(item.source), text_of(why)))

    def _require_well(self, error: Exception) -> None:
        """Raise the error again, if the engine does not take any picture any more."""
        try:
            self._archive.segment(_black(self._archive.spec))
        except Exception:
            raise error from None

    def committed(self, last: bool, reader: str, seconds: float) -> ShardRecord:
        """Write the done-file. Raises SinkError."""
        for results in self._results:
            results.close()
        place, files = self._archive.place, self._task.files if last else ()
        place.settle()
        record = ShardRecord(
            plan=self._archive.plan.digest,
            task=self._task.number,
            piece=self._piece,
            last=last,
            **self._counts,
            pictures=0 if self._task.is_video else len(files),
            videos=len(files) if self._task.is_video else 0,
            bytes=sum(file.size for file, _ in files),
            failures=tuple(self._failures),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            engine=self._archive.engine,
            reader=text_of(reader),
            seconds=round(seconds, 3),
        )
        name = f"{DONE}/{self._name}{_END if last else ''}.json"
        if place.create(name, json.dumps(asdict(record)).encode("ascii")):
            return record
        return record_from(place.read(name), place.url(name))  # another driver was first, with the same results


def _pieces_done(archive: Archive, task: Task) -> int | None:
    """Count the shards of a task that are done, from the first on; None where the task is done."""
    piece = 0
    while True:
        name = f"{DONE}/{shard_name(task.number, piece)}"
        if archive.place.exists(f"{name}{_END}.json"):
            return None
        if not task.is_video or not archive.place.exists(f"{name}.json"):
            return piece
        piece += 1


def _is_stored_mask(place: Place, item: Item, classes: np.ndarray) -> bool:
    import cv2

    try:
        png = place.read(mask_name(item))
    except FileNotFoundError:
        return False
    stored = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) if png else None
    return stored is not None and np.array_equal(stored, classes)


def _rows(place: Place, shard: str) -> dict[str, object]:
    try:
        return dict(stored_rows(place, shard))
    except FileNotFoundError:
        return {}
