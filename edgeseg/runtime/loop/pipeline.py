"""The loop: collect, preprocess, infer, hand out. Capture and sinks run beside it, in threads of their own."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Callable, Iterator, List, Tuple

import numpy as np

from edgeseg.engines.base import Engine
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.loop.collector import Collector
from edgeseg.runtime.loop.feed import Feed, Supervision
from edgeseg.runtime.loop.lanes import Lanes
from edgeseg.runtime.loop.sink_worker import SinkWorker
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.recycle import Recycler
from edgeseg.runtime.sinks import FrameSink
from edgeseg.runtime.sources import FrameSource, source_from_uri
from edgeseg.runtime.state import RunState, SourceState
from edgeseg.spec import ModelSpec

__all__ = ["LoopOptions", "Run", "confidence_per_class"]

_TICK_S = 0.2
_CLOSE_S, _STOP_S = 60.0, 1.6
"""For the end of all: in its own time, and when somebody asks to stop. What that leaves of two seconds is for the
summary and the interpreter."""
_CLOSE_LANES_S = 5.0
_CLOSE_SOURCES_S, _STOP_SOURCES_S = 5.0, 0.8
"""Of that at most for the sources, which end first: sinks report what came of them."""
_REMOVE_S = 3.0
_ASKED = ("interrupted", "stopped")

_Batch = List[Tuple[Feed, Frame]]


@dataclass(frozen=True)
class LoopOptions:
    """Which frames a run takes, and how long it waits for them.

    Attributes:
        policy: of sources that have none of their own; None is ``latest`` for live ones and ``every`` for stored ones.
        supervision: how sources are kept alive.
        window_s: how long the first frame of a batch waits for others.
        max_frames: stop after so many frames; 0 is no limit.
    """

    policy: Policy | None = None
    supervision: Supervision = Supervision()
    window_s: float = 0.01
    max_frames: int = 0


@dataclass(frozen=True)
class _Segmented:
    """What came of a batch.

    Attributes:
        results: one per frame.
        laps_ns: stage and nanoseconds, once per frame; what the engine timed itself, once.
        frame_ns: all stages together, per frame.
    """

    results: list[Segmentation]
    laps_ns: list[tuple[str, int]]
    frame_ns: int


class Run:
    """Sources, an engine and sinks; ``run`` is the loop. Everything else may be called from any thread.

    Args:
        engine: for batches of its own size; frames of several sources share a batch, empty places are ignored.
        spec: of the engine's graph.
        options: see ``LoopOptions``.
        source_from: makes a source of a URI, for ``add_source``.
        on_frame: called after each frame, in the loop's thread.
        on_tick: called at least every 0.2 s while the loop is alive, whether frames come or not.

    Attributes:
        state: live; see ``RunState``.
    """

    def __init__(
        self,
        engine: Engine,
        spec: ModelSpec,
        options: LoopOptions = LoopOptions(),
        *,
        source_from: Callable[[str], FrameSource] = source_from_uri,
        on_frame: Callable[[RunState, Segmentation], None] = lambda state, result: None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine, self.spec = engine, spec
        self.state = RunState(ConfusionMatrix(len(spec.classes), spec.ignore_id))
        self._options, self._source_from = options, source_from
        self._on_frame, self._on_tick = on_frame, on_tick
        self._collector = Collector(options.window_s)
        self._workers: list[SinkWorker] = []
        self._recycler = Recycler()
        self._names = (str(number) for number in itertools.count())
        self._not_started: list[Feed] = []
        self._running = False
        self._lanes: Lanes[_Batch, _Segmented] | None = None
        self._has_asked = False
        self._lock = threading.RLock()
        self._deadline = Deadline()

    def add(self, source: FrameSource, name: str = "", policy: Policy | None = None) -> str:
        """Take a source in, before or while the loop runs, and return its name.

        Raises:
            UsageError: the name is taken, or means a folder, in which the results of sources are kept by name.
        """
        with self._lock:
            name = name or next(free for free in self._names if free not in self.state.sources)
            if name in (".", ".."):
                raise UsageError(f"a source cannot be called {name!r}; take another name")
            if name in self.state.sources:
                raise UsageError(f"this run has or had a source {name!r}; take another name")
            mine = self.state.sources[name] = SourceState(name, source.description, is_live=source.is_live)
            chosen = policy or self._options.policy or Policy("latest" if source.is_live else "every")
            feed = Feed(source, self.state, mine, chosen, self._options.supervision, self._collector.changed)
            if self._running:
                self._collector.add(feed)
            else:
                self._not_started.append(feed)
            return name

    def add_source(self, uri: str, name: str = "") -> str:
        """Add a source; see ``RunControl``."""
        return self.add(self._source_from(uri), name)

    def remove_source(self, name: str) -> None:
        """Remove a source; see ``RunControl``."""
        with self._lock:
            feeds = list(self._collector)
            mine = [feed for feed in feeds if feed.state.name == name]
            if not mine:
                raise UsageError(f"no source {name!r}; there are {', '.join(feed.state.name for feed in feeds)}")
            if all(feed.finished or feed is mine[0] for feed in feeds):
                raise UsageError(f"{name!r} is the only source; stop the run instead")
            self._collector.remove(mine[0])
        mine[0].ask_to_stop()
        mine[0].wait(_REMOVE_S)
        if mine[0].lives():
            self.state.tell("warning", name, "the source does not end; its thread is left behind")
        mine[0].settle()

    def add_sink(self, sink: FrameSink) -> None:
        """Add a sink, which takes every result. Before the loop runs."""
        depth = 2 * len(self.engine.input)
        patience_s = self._options.supervision.sink_patience_s
        self._workers.append(SinkWorker(sink, self.state, depth, patience_s, self.stop, self._deadline))

    def pause(self, on: bool) -> None:
        """Pause or go on; see ``RunControl``."""
        self.state.paused = on
        self.state.tell("info", "run", "paused" if on else "goes on")

    def stop(self, reason: str) -> None:
        """Stop the run; see ``RunControl``. Safe in a signal handler. Also hurries a run that is ending already."""
        if reason in _ASKED:
            self._deadline.bring_to(_STOP_S)  # first: whoever sees the end finds how long it may last
        self.state.ended = self.state.ended or reason

    def close_sinks(self, *, whole: bool = True) -> None:
        """Let the sinks finish though ``run`` does not: the loop hangs, or never began. Returns at once."""
        for worker in self._workers:
            worker.begin_close(whole=whole)

    def abandon(self) -> None:
        """End a run that never began: sinks leave nothing that looks like a result."""
        self._deadline.bring_to(_STOP_S)
        self.close_sinks(whole=False)
        for worker in self._workers:
            with suppress(EdgesegError, OSError):  # what went wrong before is what is told
                worker.join(self._on_tick)

    def run(self) -> RunState:
        """Segment frames until the sources end or somebody stops the run.

        Returns:
            The final state; Ctrl-C ends a run as the end of the stream does.

        Raises:
            EdgesegError: the last source, the engine or a sink of a stored source failed; ``state`` says what was done.
        """
        with self._everything_open():
            self.engine.infer(self.engine.input)  # the first run allocates; it is no measurement
            while not self.state.ended:
                self._on_tick()
                self._collector.check_stuck()
                lanes = self._lanes_for_now()
                if lanes is None:
                    self._segment_next()
                else:
                    self._keep_busy(lanes)
        return self.state

    def _segment_next(self) -> None:
        """Segment one batch and hand its results out; the second one may open the lanes, and goes there."""
        batch = self._collected()
        if batch:
            try:
                lanes = self._opened_lanes()
                done = None if lanes else self._segmented(self.engine, batch)
            except BaseException:
                _count_stopped(batch)
                raise
            if lanes:
                lanes.put(batch)
            elif done:
                self._account(batch, done)
        elif self._collector.all_finished():
            self._no_more_frames()

    def _keep_busy(self, lanes: Lanes[_Batch, _Segmented]) -> None:
        """Put a batch into a lane that is free, and hand out what the oldest gave."""
        if lanes.has_room():
            batch = self._collected(lanes.oldest_is_done)
            if batch:
                lanes.put(batch)
            elif lanes.is_empty() and self._collector.all_finished():
                self._no_more_frames()
        else:
            lanes.wait(_TICK_S)
        if lanes.oldest_is_done():
            self._account(*lanes.take())

    def _collected(self, or_when: Callable[[], bool] = lambda: False) -> _Batch:
        """Wait for the next batch; empty where none came in time, or the run is paused."""
        with self.state.watch.lap("wait"):
            batch = self._collector.collect(len(self.engine.input), _TICK_S, or_when)
        if not self.state.paused:
            return batch
        for feed, _ in batch:
            feed.drop("paused")
        return []

    def _lanes_for_now(self) -> Lanes[_Batch, _Segmented] | None:
        """Return the lanes, if they are open and every frame of every source counts.

        A frame takes longer in a lane than alone, which is no matter where frames wait to be read. Cameras get the
        whole engine; where one is added meanwhile, what is in the lanes comes first.
        """
        lanes = self._lanes
        if lanes is None or self._every_frame_counts():
            return lanes
        while not lanes.is_empty() and self._goes_on():
            if lanes.wait(_TICK_S):
                self._account(*lanes.take())
        return None

    def _opened_lanes(self) -> Lanes[_Batch, _Segmented] | None:
        """Open the lanes where that pays: for more than one batch, of sources of which every frame counts."""
        if self._has_asked or not self.state.frames or not self._every_frame_counts():
            return None
        self._has_asked = True
        engines = self.engine.lanes()
        if engines:
            self._lanes = Lanes(engines, self._segmented, self._collector.changed)
            self.state.in_flight = len(engines)
        return self._lanes

    def _every_frame_counts(self) -> bool:
        return all(feed.policy.lossless for feed in self._collector)

    def _segmented(self, engine: Engine, batch: _Batch) -> _Segmented:
        """Segment a batch. Of the run it touches nothing but the memory of results: lanes do it at the same time."""
        laps_ns: list[tuple[str, int]] = []
        laps_ms: dict[str, float] = {}
        started = before = time.perf_counter_ns()

        def lap(stage: str) -> None:
            nonlocal before
            now = time.perf_counter_ns()
            share = (now - before) // len(batch)
            before, laps_ms[stage] = now, share / 1e6
            laps_ns.extend([(stage, share)] * len(batch))

        for place, (_, frame) in enumerate(batch):
            self.spec.resized(frame.image, out=engine.input[place])
        lap("preprocess")
        classes = engine.infer(engine.input)
        lap("infer")
        laps_ns += [(part, int(ms * 1e6)) for part, ms in engine.laps_ms.items()]
        scores = engine.scores
        results = [
            self._result(frame, classes[place], None if scores is None else scores[place], laps_ms)
            for place, (_, frame) in enumerate(batch)
        ]
        lap("postprocess")
        return _Segmented(results, laps_ns, (before - started) // len(batch))

    def _account(self, batch: _Batch, done: _Segmented) -> None:
        """Write down how long a batch took, and hand its results out."""
        watch = self.state.watch
        for stage, lap_ns in done.laps_ns:
            watch.add(stage, lap_ns)
        for (feed, _), result in zip(batch, done.results):
            if self.state.ended == "frame limit":
                feed.drop("stopped")
                continue
            watch.add("frame", done.frame_ns)
            self._hand_out(feed, result)

    def _result(
        self, frame: Frame, classes: np.ndarray, scores: np.ndarray | None, laps: dict[str, float]
    ) -> Segmentation:
        ids = self._recycler.take(*classes.shape)
        np.copyto(ids, classes)
        confidence = None if scores is None else confidence_per_class(scores, ids)
        return Segmentation(frame, ids, laps, len(self.spec.classes), confidence, self.spec.preprocess.resize)

    def _hand_out(self, feed: Feed, result: Segmentation) -> None:
        state, frame, now = self.state, result.frame, time.perf_counter_ns()
        if feed.policy.too_old(frame, now):
            feed.drop("late")
            return
        if state.frames == 0:
            state.started_ns = frame.captured_ns
        state.watch.add("age", now - frame.captured_ns)
        feed.state.watch.add("age", now - frame.captured_ns)
        feed.state.segmented += 1
        state.frames += 1
        state.latest_ns = now
        if frame.label is not None and feed.source.label_classes == self.spec.classes:
            state.confusion.update(result.classes, frame.label)
        for worker in self._workers:
            worker.offer(result, feed.policy, self._goes_on)
        feed.state.area = dict(zip(self.spec.classes, result.area.tolist()))
        self._on_frame(state, result)
        if state.frames == self._options.max_frames:
            self.stop("frame limit")

    def _goes_on(self) -> bool:
        """For a sink that makes the loop wait: whether it may."""
        self._on_tick()
        return not self.state.ended

    def _no_more_frames(self) -> None:
        failures = [feed.failure for feed in self._collector if feed.failure is not None]
        if failures:
            raise failures[-1]
        self.stop("end of stream")

    @contextmanager
    def _everything_open(self) -> Iterator[None]:
        """Starts the feeds; ends feeds and sinks in good order, whatever happens in between."""
        failure: BaseException | None = None
        try:
            self._running = True
            for feed in self._not_started:
                self._collector.add(feed)
            yield
        except KeyboardInterrupt:
            self.stop("interrupted")
        except BaseException as error:
            failure = error
            self.stop("failed")
        self._deadline.bring_to(_CLOSE_S)
        self._close_lanes()
        self._close_sources()
        broken = self._close_sinks(failure)
        failure = failure or broken
        if failure is not None:
            raise failure

    def _close_lanes(self) -> None:
        """End the lanes, and count the frames whose results nobody took."""
        if self._lanes is not None:
            for batch in self._lanes.close(min(_CLOSE_LANES_S, (self._deadline.at - time.monotonic()) / 4)):
                _count_stopped(batch)

    def _close_sources(self) -> None:
        began = time.monotonic()

        def is_over() -> bool:
            asked = self._deadline.at - (_STOP_S - _STOP_SOURCES_S)
            return time.monotonic() >= min(began + _CLOSE_SOURCES_S, asked)

        left = self._collector.close(is_over)
        if left:
            shown = ", ".join(left[:5]) + (" ..." if len(left) > 5 else "")
            self.state.tell("warning", "run", f"{len(left)} sources do not end and are left behind: {shown}")

    def _close_sinks(self, failure: BaseException | None) -> BaseException | None:
        """Close every sink; what came of stored sources must not look whole after a failure."""
        stored = any(feed.policy.lossless for feed in self._collector)
        self.close_sinks(whole=failure is None or not stored)
        broken = None
        for worker in self._workers:
            try:
                worker.join(self._on_tick)
            except BaseException as error:
                broken = broken or error
        return broken


def _count_stopped(batch: _Batch) -> None:
    for feed, _ in batch:
        feed.drop("stopped")


def confidence_per_class(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Mean probability of each class where it won.

    Args:
        scores: CxHxW float32 probabilities.
        ids: HxW uint8, the argmax of them.

    Returns:
        (C,) float32; 0 for a class that won nowhere.
    """
    best = scores.max(axis=0).ravel()
    count = np.bincount(ids.ravel(), minlength=len(scores))[: len(scores)]
    total = np.bincount(ids.ravel(), weights=best, minlength=len(scores))[: len(scores)]
    return (total / np.maximum(count, 1)).astype(np.float32)
