"""The plan of an archive: which files there are, and in which tasks they are worked off. It is made once."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

from edgeseg.archive.listing import Found, Origin
from edgeseg.archive.places import Place, Stored
from edgeseg.errors import InputError, SourceError
from edgeseg.files import scratch_folder
from edgeseg.json_object import JsonObject

__all__ = ["PLAN", "Plan", "Task", "Wish", "make_plan", "read_plan"]

PLAN = "plan.json"
_VERSION = 1
_LINES = re.compile(r"tasks-[0-9a-f]{16}\.jsonl")


@dataclass(frozen=True)
class Task:
    """What one worker does at a time: some pictures, or one video.

    Attributes:
        number: from 0.
        source: number of the source that its files are of.
        files: the pictures, with whether results are called by the whole name; or the one video.
        is_video: whether it is one.
    """

    number: int
    source: int
    files: tuple[tuple[Stored, bool], ...]
    is_video: bool

    def line(self) -> bytes:
        """Return the line of the plan."""
        files = [[*file, 1] if whole else [*file] for file, whole in self.files]
        about = {"task": self.number, "source": self.source, "video" if self.is_video else "pictures": files}
        return json.dumps(about, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Task:
        """Read a line of the plan. Raises InputError."""
        try:
            about = JsonObject(json.loads(line), "a task")
            is_video = "video" in about
            files = about.values("video" if is_video else "pictures")
            stored = tuple((Stored(str(path), int(size), stamp), bool(whole)) for path, size, stamp, *whole in files)
            if not stored:
                raise ValueError("a task without files")
            return cls(about.whole("task"), about.whole("source"), stored, is_video)
        except (ValueError, TypeError) as error:
            raise InputError(f"the plan of the archive is damaged ({error}); name another `output`") from error


@dataclass(frozen=True)
class Wish:
    """What a plan is made for; another one does not go on with it.

    Attributes:
        model_sha256: of the bundle.
        model: its name, for people.
        graph: of the bundle; empty leaves it to the engine.
        format: of the results: ``"png"``, ``"parquet"`` or ``"both"``.
        shard_frames: how many frames are kept at a time.
    """

    model_sha256: str
    model: str
    graph: str
    format: str
    shard_frames: int


@dataclass(frozen=True)
class Plan:
    """The head of a plan.

    Attributes:
        digest: SHA-256 of ``plan.json``.
        asked: the sources as they were asked for.
        bases: the folder or URL of each.
        tasks, pictures, videos, bytes: how many there are.
        left_out: what else lay there, by kind.
        lines: name of the file with a line per task.
    """

    digest: str
    wish: Wish
    asked: tuple[str, ...]
    bases: tuple[str, ...]
    tasks: int
    pictures: int
    videos: int
    bytes: int
    left_out: dict[str, int]
    lines: str

    @property
    def model_name(self) -> str:
        """Return the name of the archive's copy of the model."""
        return model_name(self.wish)

    def all_tasks(self, place: Place) -> Iterator[Task]:
        """Read the tasks of an archive one by one. Raises InputError, SinkError."""
        count, digest = 0, hashlib.sha256()
        try:
            for count, line in enumerate(place.lines(self.lines), 1):
                digest.update(line)
                task = Task.from_line(line)
                if task.number != count - 1 or not 0 <= task.source < len(self.bases):
                    raise InputError(f"{place.url(self.lines)} is damaged in line {count}; name another `output`")
                yield task
        except FileNotFoundError as error:
            raise InputError(f"{place.url(self.lines)} is missing; name another `output`") from error
        if count != self.tasks:
            raise InputError(f"{place.url(self.lines)} has {count} of {self.tasks} tasks; name another `output`")
        if _lines_name(digest.hexdigest()) != self.lines:
            raise InputError(f"{place.url(self.lines)} was changed; name another `output`")


def make_plan(place: Place, origins: Sequence[Origin], wish: Wish, model: Path, tell: Callable[[str], None]) -> Plan:
    """List the sources and write the plan, unless another process was first: then read that one's.

    The memory that is needed is that of the largest folder and of one task.

    Args:
        place: of the results.
        origins: the sources.
        wish: what for.
        model: the bundle, of which the archive gets a copy.
        tell: takes a line for people now and then.

    Raises:
        SourceError: a source cannot be listed, or there are no pictures and videos. SinkError: it cannot be written.
    """
    with scratch_folder() as folder:
        lines = folder / "lines"
        counts = {"tasks": 0, "pictures": 0, "videos": 0, "bytes": 0}
        digest, told = hashlib.sha256(), time.monotonic()
        with open(lines, "wb") as file:
            for task in _tasks(origins, wish.shard_frames):
                line = task.line()
                digest.update(line)
                file.write(line)
                counts["tasks"] += 1
                counts["videos" if task.is_video else "pictures"] += len(task.files)
                counts["bytes"] += sum(one.size for one, _ in task.files)
                if time.monotonic() > told + 10:
                    told = time.monotonic()
                    tell(f"planned so far: {counts['pictures']} pictures and {counts['videos']} videos")
        left_out: dict[str, int] = {}
        for origin in origins:
            for kind, count in origin.left_out.items():
                left_out[kind] = left_out.get(kind, 0) + count
        if not counts["tasks"]:
            names = ", ".join(origin.asked for origin in origins)
            raise SourceError(f"{names}: no pictures and no videos{_left_out(left_out)}", "empty")
        name = _lines_name(digest.hexdigest())
        place.put(name, lines)
        place.put(model_name(wish), model)
    head = {
        "edgeseg_archive": _VERSION,
        **vars(wish),
        "sources": [{"asked": one.asked, "base": one.base} for one in origins],
        **counts,
        "left_out": dict(sorted(left_out.items())),
        "lines": name,
    }
    place.create(PLAN, json.dumps(head, indent=1).encode("ascii"))
    plan = read_plan(place)
    assert plan is not None
    return plan


def _lines_name(digest: str) -> str:
    return f"tasks-{digest[:16]}.jsonl"


def model_name(wish: Wish) -> str:
    """Return the name of an archive's copy of the model."""
    return f"model-{wish.model_sha256[:16]}.edgeseg"


def read_plan(place: Place) -> Plan | None:
    """Read the head of an archive's plan; None where there is none.

    Raises:
        InputError: it is damaged, or of a newer version. SinkError: it cannot be read.
    """
    try:
        data = place.read(PLAN)
    except FileNotFoundError:
        return None
    where = place.url(PLAN)
    try:
        head = JsonObject(json.loads(data), where)
        if head.whole("edgeseg_archive") != _VERSION:
            raise InputError(f"{where} is of version {head.whole('edgeseg_archive')}; this edgeseg reads {_VERSION}")
        sources = head.listed("sources")
        lines = head.text("lines")
        if head.whole("shard_frames") < 1 or not _LINES.fullmatch(lines):
            raise ValueError("its shards or its file of tasks are none")
        return Plan(
            digest=hashlib.sha256(data).hexdigest(),
            wish=Wish(
                model_sha256=head.text("model_sha256"),
                model=head.text("model"),
                graph=head.text("graph"),
                format=head.text("format"),
                shard_frames=head.whole("shard_frames"),
            ),
            asked=tuple(one.text("asked") for one in sources),
            bases=tuple(one.text("base") for one in sources),
            tasks=head.whole("tasks"),
            pictures=head.whole("pictures"),
            videos=head.whole("videos"),
            bytes=head.whole("bytes"),
            left_out={kind: int(count) for kind, count in head.numbers("left_out").items()},
            lines=lines,
        )
    except ValueError as error:
        raise InputError(f"{where} is no plan of an archive ({error}); name another `output`") from error


def _tasks(origins: Iterable[Origin], shard_frames: int) -> Iterator[Task]:
    number = 0
    for source, origin in enumerate(origins):
        waiting: list[tuple[Stored, bool]] = []
        for found in origin.found():
            if found.is_video:
                yield Task(number, source, (_entry(found),), True)
                number += 1
                continue
            waiting.append(_entry(found))
            if len(waiting) == shard_frames:
                yield Task(number, source, tuple(waiting), False)
                number, waiting = number + 1, []
        if waiting:
            yield Task(number, source, tuple(waiting), False)
            number += 1


def _entry(found: Found) -> tuple[Stored, bool]:
    return found.file, found.whole


def _left_out(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))} left out)" if counts else ""
