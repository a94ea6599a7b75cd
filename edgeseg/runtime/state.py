"""What a run knows about itself: written by its threads, read by the terminal, the preview page and the metrics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Callable

from edgeseg.metrics import ConfusionMatrix
from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["DROP_CAUSES", "FINAL", "STAGES", "Event", "RunState", "SinkState", "SourceState"]

STAGES = ("wait", "preprocess", "infer", "postprocess", "frame", "age")
"""``wait``: for a frame to come. ``frame``: preprocess to postprocess, the ms/frame of the loop. A batch is shared
equally by its frames. ``age``: from a frame's capture until its result is handed to the sinks. An engine may add parts
of ``infer``, for the whole batch: ``h2d``, ``compute`` and ``d2h``."""

DROP_CAUSES = {
    "superseded": "a newer frame came before the engine was free (policy latest or deadline)",
    "corrupt": "the decoder marked it as damaged",
    "busy": "the reader had no free memory for it: frames come faster than they can be taken",
    "stale": "older than `deadline_ms` before the engine could take it",
    "late": "older than `deadline_ms` after the engine; the result was not handed out",
    "paused": "the run was paused",
    "stopped": "in flight when the source was stopped or restarted, or when the run ended",
}
"""Why a frame that a source produced was not segmented: ``produced == segmented + sum(dropped.values())`` at the end
of a run, for every source."""

FINAL = ("failed", "ended")
"""A source of this status stays so."""


@dataclass(frozen=True)
class Event:
    """Something worth telling.

    Attributes:
        at: ``time.time()``.
        level: ``"info"``, ``"warning"`` or ``"error"``.
        who: the source's name, the sink's description, ``"run"`` or ``"alarm"``.
        text: one line without credentials.
    """

    at: float
    level: str
    who: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {"at": round(self.at, 3), "level": self.level, "who": self.who, "text": self.text}


@dataclass
class SourceState:
    """One source of a run.

    Attributes:
        name: within the run: ``"0"``, ``"1"`` ... or what a ``.streams`` list calls it.
        description: for people, without credentials.
        status: ``"opening"``, ``"streaming"``, ``"stalled"``, ``"restarting"``, ``"failed"``, ``"ended"``.
        error: the latest error, without credentials; empty while all is well.
        produced: frames that the source produced.
        segmented: frames whose result was handed to the sinks.
        dropped: frames that were not, by cause (``DROP_CAUSES``).
        restarts: how often it was opened again.
        size_hw: of its latest frame.
        announced_fps: what the source says; 0 where it does not.
        watch: laps of this source's frames: ``"age"``.
        area: class name -> share of the latest class map.
        is_live: frames arrive by themselves (cameras); else they wait to be read (files).
    """

    name: str
    description: str
    status: str = "opening"
    error: str = ""
    produced: int = 0
    segmented: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    size_hw: tuple[int, int] = (0, 0)
    announced_fps: float = 0.0
    watch: Stopwatch = field(default_factory=Stopwatch)
    area: dict[str, float] = field(default_factory=dict)
    is_live: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        ages = self.watch.summaries().get("age")
        return {
            "name": self.name,
            "description": self.description,
            "status": self.status,
            "error": self.error,
            "produced": self.produced,
            "segmented": self.segmented,
            "dropped": {cause: self.dropped[cause] for cause in DROP_CAUSES if self.dropped[cause]},
            "restarts": self.restarts,
            "size": f"{self.size_hw[1]}x{self.size_hw[0]}",
            "fps": self.announced_fps,
            "age_ms": ages.to_json() if ages else None,
            "area": {name: round(share, 5) for name, share in self.area.items()},
        }


@dataclass
class SinkState:
    """One sink of a run.

    Attributes:
        description: for people, without credentials.
        status: ``"ok"``, ``"slow"`` (results were dropped lately) or ``"failing"`` (writes raise; tried again).
        error: the latest error; empty while all is well.
        written: results that it took.
        kept: of those, what the death of a process no longer takes away; None where that is all of them.
        lost: results that it did not, by cause: ``"slow"``, ``"failed"``, ``"late"`` (older than the deadline),
            ``"stopped"`` (the run ended before it took them).
        watch: laps ``"write"`` and ``"age"`` (from a frame's capture to the end of its write).
    """

    description: str
    status: str = "ok"
    error: str = ""
    written: int = 0
    kept: int | None = None
    lost: Counter[str] = field(default_factory=Counter)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        laps = self.watch.summaries()
        return {
            "description": self.description,
            "status": self.status,
            "error": self.error,
            "written": self.written,
            "kept": self.written if self.kept is None else self.kept,
            "lost": dict(self.lost),
            "write_ms": laps["write"].to_json() if "write" in laps else None,
            "age_ms": laps["age"].to_json() if "age" in laps else None,
        }


@dataclass
class RunState:
    """What a run knows about itself, live and at its end.

    Attributes:
        confusion: against ground truth where a source has it.
        sources, sinks: one entry each; sources that were removed stay, as ``"ended"``.
        frames: segmented so far, all sources together.
        started_ns: ``time.perf_counter_ns`` at the first frame's arrival.
        latest_ns: when the latest frame was done.
        watch: laps of ``STAGES``.
        in_flight: batches that are segmented at the same time; above 1 the laps of a stage overlap, and ``fps`` is the
            pace.
        paused: nothing is inferred at the moment.
        ended: why the run stopped: ``"end of stream"``, ``"frame limit"``, ``"window closed"``, ``"interrupted"``,
            ``"stopped"``, ``"failed"``.
        events: the latest 512.
        on_event: called with every event, from the thread where it happens.
    """

    confusion: ConfusionMatrix
    sources: dict[str, SourceState] = field(default_factory=dict)
    sinks: list[SinkState] = field(default_factory=list)
    frames: int = 0
    started_ns: int = field(default_factory=time.perf_counter_ns)
    latest_ns: int = field(default_factory=time.perf_counter_ns)
    watch: Stopwatch = field(default_factory=Stopwatch)
    in_flight: int = 1
    paused: bool = False
    ended: str = ""
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=512))
    on_event: Callable[[Event], None] = lambda event: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, level: str, who: str, text: str) -> None:
        """Record an event and pass it on."""
        event = Event(time.time(), level, who, text)
        with self._lock:
            self.events.append(event)
        self.on_event(event)

    def latest_events(self) -> list[Event]:
        """Return a copy of the latest events, oldest first."""
        with self._lock:
            return list(self.events)

    @property
    def produced(self) -> int:
        """Frames that all sources produced."""
        return sum(source.produced for source in list(self.sources.values()))

    @property
    def dropped(self) -> int:
        """Frames that were not segmented, all causes and sources together."""
        return sum(sum(source.dropped.values()) for source in list(self.sources.values()))

    def fps(self) -> float:
        """Frames per second from the first frame's arrival to the latest frame's end."""
        return self.frames / (self.latest_ns - self.started_ns) * 1e9 if self.frames else 0.0

    def latencies(self) -> dict[str, LatencySummary]:
        """Summarise each stage."""
        return self.watch.summaries()

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable summary of a run."""
        has_labels = bool(self.confusion.counts.sum())
        return {
            "frames": self.frames,
            "produced": self.produced,
            "dropped": self.dropped,
            "fps": round(self.fps(), 2),
            "ended": self.ended,
            "in_flight": self.in_flight,
            "paused": self.paused,
            "ms": {stage: summary.to_json() for stage, summary in self.latencies().items()},
            "miou": self.confusion.miou() if has_labels else None,
            "sources": [source.to_json() for source in list(self.sources.values())],
            "sinks": [sink.to_json() for sink in self.sinks],
        }
