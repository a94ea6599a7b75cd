"""How far an archive is: what its done-files say, added up."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgeseg.archive.places import Place
from edgeseg.archive.plan import Plan
from edgeseg.archive.shards import DONE, ShardRecord, is_last, record_from
from edgeseg.errors import InputError

__all__ = ["State", "Worker", "done_tasks", "state_of"]

_MOST_FAILURES = 1000


@dataclass
class Worker:
    """What one process did: frames, seconds, and its engine."""

    frames: int = 0
    seconds: float = 0.0
    engine: str = ""

    @property
    def fps(self) -> float:
        """Return frames per second; 0 before the first."""
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass
class State:
    """Counts of an archive.

    Attributes:
        segmented, failed, skipped: frames.
        pictures: of the plan that no shard has yet.
        videos: of the plan that are not done yet; how many frames they have is known when they are read.
        bytes: of files that are done.
        failures: (name, source, why), the first thousand.
        workers: by host and process.
    """

    plan: Plan
    segmented: int = 0
    failed: int = 0
    skipped: int = 0
    pictures: int = 0
    videos: int = 0
    bytes: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pictures, self.videos = self.plan.pictures, self.plan.videos
        self._seen: set[tuple[int, int]] = set()

    @property
    def planned(self) -> int:
        """Return how many frames there are, as far as it is known: a frame of a video counts when it was read."""
        return self.segmented + self.failed + self.skipped + self.pictures

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is left to do."""
        return not self.pictures and not self.videos

    def add(self, record: ShardRecord) -> None:
        """Count a shard, once. Raises InputError: it is of another plan."""
        if record.plan != self.plan.digest:
            raise InputError(f"shard {record.task} is of another plan; name another `output`")
        if (record.task, record.piece) in self._seen:
            return
        self._seen.add((record.task, record.piece))
        self.segmented += record.segmented
        self.failed += record.failed
        self.skipped += record.skipped
        self.bytes += record.bytes
        self.pictures -= record.pictures
        self.videos -= record.videos
        self.failures += record.failures[: max(0, _MOST_FAILURES - len(self.failures))]
        worker = self.workers.setdefault(record.worker, Worker())
        worker.frames += record.frames
        worker.seconds += record.seconds
        worker.engine = record.engine

    def stragglers(self) -> list[str]:
        """Return the workers that are less than half as fast as the median of all."""
        rates = {name: worker.fps for name, worker in self.workers.items() if worker.frames}
        usual = median(rates.values()) if rates else 0.0
        return [name for name, rate in rates.items() if rate < usual / 2]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "planned": self.planned,
            "segmented": self.segmented,
            "failed": self.failed,
            "skipped": self.skipped,
            "pending_pictures": self.pictures,
            "pending_videos": self.videos,
            "failures": [dict(zip(("name", "source", "why"), one)) for one in self.failures],
            "workers": [
                {"worker": name, "frames": one.frames, "fps": round(one.fps, 3), "engine": one.engine}
                for name, one in sorted(self.workers.items())
            ],
            "stragglers": self.stragglers(),
        }


def state_of(place: Place, plan: Plan) -> State:
    """Add up the done-files of an archive. Raises InputError, SinkError."""
    state = State(plan)
    for name, data in place.read_all(DONE):
        state.add(record_from(data, place.url(f"{DONE}/{name}")))
    return state


def done_tasks(place: Place) -> set[int]:
    """Return the numbers of tasks of which every shard is done, from the names of done-files alone."""
    return {int(name.partition("-")[0]) for name in place.names(DONE) if is_last(name)}
