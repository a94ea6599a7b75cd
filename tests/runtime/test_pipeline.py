from __future__ import annotations

import threading
import time
from typing import Any, Sequence

import numpy as np
import pytest

from edgeseg.demo import CLASSES, PALETTE
from edgeseg.errors import EngineError, SinkError, SourceError, UsageError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.loop.feed import Supervision
from edgeseg.runtime.loop.pipeline import LoopOptions, Run, confidence_per_class
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.sinks.base import FrameSink, StopRun
from edgeseg.runtime.sources import FrameSource
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.runtime.state import STAGES, RunState
from edgeseg.spec import ModelSpec
from tests.fakes import CollectingSink, ScriptedSource, ThresholdEngine

BRIGHT, DARK = (np.full((32, 48, 3), value, np.uint8) for value in (250, 5))
QUICK = Supervision(stall_s=0.3, first_wait_s=0.01, longest_wait_s=0.02, sink_patience_s=0.2)
LIVE = Policy("latest")


class SlowEngine(ThresholdEngine):
    def __init__(self, seconds: float, batch: int = 1) -> None:
        super().__init__()
        self.input = np.zeros((batch, 64, 96, 3), np.uint8)
        self._output = np.zeros((batch, 64, 96), np.uint8)
        self.seconds = seconds

    def _run(self) -> np.ndarray:
        time.sleep(self.seconds)
        return super()._run()


class Camera(ScriptedSource):
    """A live source that paces its script."""

    def __init__(self, script: Sequence[Any], every_s: float = 0.01) -> None:
        super().__init__(script, live=True)
        self._every_s = every_s

    def read(self) -> Any:
        time.sleep(self._every_s)
        frame = super().read()
        if frame is None:
            return None
        return type(frame)(frame.image, frame.index, time.perf_counter_ns(), frame.name)


def made(spec: ModelSpec, sources: Sequence[FrameSource], sinks: Sequence[FrameSink] = (), **how: Any) -> Run:
    engine = how.pop("engine", None) or ThresholdEngine()
    rest = {name: how.pop(name) for name in ("source_from", "on_frame", "on_tick") if name in how}
    running = Run(engine, spec, LoopOptions(**{"supervision": QUICK, **how}), **rest)
    for source in sources:
        running.add(source)
    for sink in sinks:
        running.add_sink(sink)
    return running


def accounted(state: RunState) -> bool:
    """Whether every frame that came is either segmented or dropped for a cause."""
    return all(source.produced == source.segmented + sum(source.dropped.values()) for source in state.sources.values())


def test_every_frame_reaches_every_sink_in_order_at_its_own_size(spec: ModelSpec) -> None:
    source, one, two = ScriptedSource([BRIGHT, None, DARK, BRIGHT]), CollectingSink(), CollectingSink()
    state = made(spec, [source], [one, two]).run()
    assert one.names == two.names == ["000000", "000001", "000002"]
    assert [int(m.max()) for m in one.maps] == [1, 0, 1] and one.maps[0].shape == (32, 48)
    assert (state.frames, state.ended, state.dropped) == (3, "end of stream", 0)
    assert (source.opened, source.closed >= 1, one.closed, two.closed) == (1, True, 1, 1)
    assert accounted(state) and state.sources["0"].status == "ended"


def test_every_stage_is_timed_for_every_frame(spec: ModelSpec) -> None:
    state = made(spec, [ScriptedSource([BRIGHT] * 5)]).run()
    latencies = state.latencies()
    assert set(latencies) == set(STAGES)
    for stage in ("preprocess", "infer", "postprocess", "frame", "age"):
        assert latencies[stage].count == 5
    parts = sum(latencies[stage].mean_ms for stage in ("preprocess", "infer", "postprocess"))
    assert latencies["frame"].mean_ms >= 0.999 * parts


@pytest.mark.parametrize("live", [False, True])
def test_a_broken_source_keeps_what_was_done_and_closes_all(spec: ModelSpec, live: bool) -> None:
    broken = [SourceError("unplugged", "gone")]
    source: FrameSource = Camera([BRIGHT, *broken * 3]) if live else ScriptedSource([BRIGHT, *broken])
    sink = CollectingSink()
    running = made(spec, [source], [sink], supervision=Supervision(max_restarts=2, first_wait_s=0.01))
    with pytest.raises(SourceError, match="unplugged"):
        running.run()
    assert (len(sink.maps), sink.closed) == (1, 1)
    assert running.state.sources["0"].restarts == (2 if live else 0)
    assert running.state.sources["0"].status == "failed" and accounted(running.state)


def test_a_camera_that_comes_back_goes_on(spec: ModelSpec) -> None:
    gone = SourceError("unplugged", "gone")
    source, sink = Camera([BRIGHT, gone, gone, DARK]), CollectingSink()
    state = made(spec, [source], [sink]).run()
    assert [int(m.max()) for m in sink.maps] == [1, 0]
    assert (state.sources["0"].restarts, source.opened, state.ended) == (2, 3, "end of stream")
    assert [event.level for event in state.latest_events()] == ["warning", "warning", "info"]


@pytest.mark.parametrize("kind", ["auth", "codec", "missing"])
def test_what_waiting_cannot_mend_is_not_tried_again(spec: ModelSpec, kind: str) -> None:
    source = Camera([SourceError("no", kind), DARK])
    with pytest.raises(SourceError):
        made(spec, [source], supervision=Supervision(max_restarts=0, first_wait_s=0.01)).run()
    assert source.opened == 1
    # A camera that has delivered is only rebooting.
    rebooting = Camera([BRIGHT, SourceError("no", kind), DARK])
    assert made(spec, [rebooting]).run().frames == 2


def test_a_bug_in_a_source_is_not_the_end_of_the_stream(spec: ModelSpec) -> None:
    with pytest.raises(ZeroDivisionError):
        made(spec, [ScriptedSource([BRIGHT, ZeroDivisionError("a bug")])]).run()

    class Unclosable(ScriptedSource):
        def close(self) -> None:
            raise ZeroDivisionError("a bug in close")

    with pytest.raises(ZeroDivisionError):
        made(spec, [Unclosable([BRIGHT])]).run()
    # What the machine runs out of may come back.
    state = made(spec, [Camera([BRIGHT, OSError("too many open files"), DARK])]).run()
    assert state.frames == 2 and state.sources["0"].restarts == 1


def test_a_driver_that_hangs_is_found_beside_a_camera_that_works(spec: ModelSpec) -> None:
    release = threading.Event()

    class Hanging(Camera):
        def read(self) -> Any:
            if len(self._script) < 3:
                release.wait(20)
            return super().read()

    hanging, fine = Hanging([BRIGHT] * 5), Camera([BRIGHT] * 900)
    running = made(spec, [hanging, fine], supervision=Supervision(stall_s=-4.5, max_restarts=3))
    seen: list[str] = []

    def on_frame(state: RunState, result: Segmentation) -> None:
        if state.sources["0"].status == "failed":
            seen.append(state.sources["0"].error)
            release.set()
            running.stop("stopped")

    running._on_frame = on_frame
    running.run()
    assert "hangs in a read" in seen[0] and running.state.sources["0"].status == "failed"


def test_a_camera_that_is_off_for_long_is_not_taken_for_a_hanging_driver(spec: ModelSpec) -> None:
    class Off(Camera):
        def open(self) -> None:
            super().open()
            if self.opened < 12:
                raise SourceError("is off", "unreachable")

    patient = Supervision(stall_s=-4.9, max_restarts=0, first_wait_s=0.03, longest_wait_s=0.05)
    assert made(spec, [Off([])], supervision=patient).run().ended == "end of stream"


def test_a_hanging_sink_does_not_outlive_a_stop(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    ticks: list[float] = []

    class Hanging(CollectingSink):
        def write(self, result: Segmentation) -> None:
            release.wait(20)

    monkeypatch.setattr("edgeseg.runtime.loop.pipeline._STOP_S", 0.3)
    running = made(spec, [ScriptedSource([BRIGHT] * 50)], [Hanging()], on_tick=lambda: ticks.append(time.monotonic()))
    timer = threading.Timer(0.5, running.stop, ["interrupted"])
    timer.start()
    started = time.monotonic()
    state = running.run()
    assert time.monotonic() - started < 3 and state.ended == "interrupted"
    assert max(np.diff(ticks)) < 0.5, "the watchdog hears of it while the loop waits for a sink"
    sink = state.sinks[0]
    assert sink.written + sum(sink.lost.values()) >= state.frames - 1, "the one in its hands is not known"
    release.set()
    timer.join()
    for worker in running._workers:
        worker._thread.join()


def test_what_a_sink_loses_afterwards_is_counted(spec: ModelSpec) -> None:
    class Forgetful(CollectingSink):
        def write(self, result: Segmentation) -> None:
            if len(self.names) == 5:
                self.names.clear()
                raise SinkError("the encoder died", lost=5)
            super().write(result)

    state = made(spec, [Camera([BRIGHT] * 40)], [Forgetful()]).run()
    sink = state.sinks[0]
    assert sink.lost["failed"] >= 6 and sink.written + sum(sink.lost.values()) == state.frames
    with pytest.raises(SinkError, match="the encoder died"):
        made(spec, [ScriptedSource([BRIGHT] * 40)], [Forgetful()]).run()


def test_a_source_that_never_delivered_fails_at_once_unless_told_otherwise(spec: ModelSpec) -> None:
    off = SourceError("is off", "unreachable")
    impatient = Camera([off, BRIGHT])
    with pytest.raises(SourceError, match="is off"):
        made(spec, [impatient]).run()
    patient = Supervision(max_restarts=0, first_wait_s=0.01)
    assert made(spec, [Camera([off, off, BRIGHT])], supervision=patient).run().frames == 1


def test_a_silent_camera_is_opened_again(spec: ModelSpec) -> None:
    source = Camera([BRIGHT, *[None] * 60, DARK], every_s=0.01)
    state = made(spec, [source]).run()
    assert state.sources["0"].restarts >= 1 and state.frames == 2
    assert any("stalled" in event.text for event in state.latest_events())


def test_the_latest_frame_wins_and_drops_are_counted(spec: ModelSpec) -> None:
    sink = CollectingSink()
    state = made(spec, [Camera([BRIGHT] * 50)], [sink], engine=SlowEngine(0.05)).run()
    assert state.sources["0"].dropped["superseded"] > 20 and state.produced == 50 and accounted(state)
    assert state.latencies()["age"].p50_ms < 80, "one engine time and one frame interval"


def test_no_result_older_than_its_deadline_leaves(spec: ModelSpec) -> None:
    ages: list[float] = []

    class Clocked(CollectingSink):
        def write(self, result: Segmentation) -> None:
            ages.append((time.perf_counter_ns() - result.frame.captured_ns) / 1e6)

    slow = iter([0.02, 0.02, 0.2, 0.02, 0.2, *[0.02] * 100])

    class Uneven(SlowEngine):
        def _run(self) -> np.ndarray:
            self.seconds = next(slow)
            return super()._run()

    engine = Uneven(0.02)
    running = made(spec, [Camera([BRIGHT] * 60)], [Clocked()], engine=engine, policy=Policy("deadline", 60))
    state = running.run()
    assert state.sources["0"].dropped["late"] == 2 and ages and max(ages) < 61
    assert accounted(state)


def test_a_stored_source_loses_nothing_to_a_slow_sink(spec: ModelSpec) -> None:
    class Slow(CollectingSink):
        def write(self, result: Segmentation) -> None:
            time.sleep(0.02)
            super().write(result)

    sink = Slow()
    state = made(spec, [ScriptedSource([BRIGHT] * 20)], [sink]).run()
    assert len(sink.names) == 20 and state.sinks[0].written == 20 and not state.sinks[0].lost


def test_a_slow_sink_does_not_slow_a_camera(spec: ModelSpec) -> None:
    class Slow(CollectingSink):
        def write(self, result: Segmentation) -> None:
            time.sleep(0.1)
            super().write(result)

    slow, quick = Slow(), CollectingSink()
    state = made(spec, [Camera([BRIGHT] * 50)], [slow, quick]).run()
    mine, other = state.sinks
    assert state.frames >= 45 and len(quick.names) == state.frames
    assert mine.lost["slow"] > 20 and mine.written + mine.lost["slow"] == state.frames and not other.lost
    assert any("slower" in event.text for event in state.latest_events())


def test_a_sink_that_samples_is_never_slow(spec: ModelSpec) -> None:
    class Sampling(CollectingSink):
        samples = True

        def write(self, result: Segmentation) -> None:
            time.sleep(0.1)
            super().write(result)

    state = made(spec, [Camera([BRIGHT] * 50)], [Sampling()]).run()
    (mine,) = state.sinks
    assert mine.status == "ok" and not any("slower" in event.text for event in state.latest_events())
    assert mine.lost["slow"] > 20 and mine.written + mine.lost["slow"] == state.frames


def test_a_failing_sink_is_tried_again_and_its_losses_counted(spec: ModelSpec) -> None:
    class Full(CollectingSink):
        until = time.monotonic() + 0.4

        def write(self, result: Segmentation) -> None:
            if time.monotonic() < self.until:
                raise SinkError("disk full")
            super().write(result)

    sink, fine = Full(), CollectingSink()
    state = made(spec, [Camera([BRIGHT] * 150)], [sink, fine]).run()
    assert state.sinks[0].lost["failed"] > 0 and state.sinks[0].written > 0 and state.sinks[0].status == "ok"
    assert len(fine.names) == state.frames
    texts = [event.text for event in state.latest_events()]
    assert any("disk full" in text for text in texts) and "takes results again" in texts


def test_a_sink_of_a_stored_source_that_stays_broken_ends_the_run(spec: ModelSpec) -> None:
    class Full(CollectingSink):
        discarded = 0

        def write(self, result: Segmentation) -> None:
            raise SinkError("disk full")

        def discard(self) -> None:
            self.discarded += 1

    fine, full = CollectingSink(), Full()
    with pytest.raises(SinkError, match="disk full"):
        made(spec, [ScriptedSource([BRIGHT] * 30)], [fine, full]).run()
    assert full.discarded >= 1


def test_a_bug_in_a_sink_is_not_hidden(spec: ModelSpec) -> None:
    class Wrong(CollectingSink):
        def write(self, result: Segmentation) -> None:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        made(spec, [ScriptedSource([BRIGHT] * 30)], [Wrong()]).run()


def test_a_failing_engine_ends_the_run_and_closes_all(spec: ModelSpec) -> None:
    class Failing(ThresholdEngine):
        calls = 0

        def _run(self) -> np.ndarray:
            self.calls += 1
            if self.calls == 3:
                raise EngineError("out of memory")
            return super()._run()

    sink, source = CollectingSink(), ScriptedSource([BRIGHT] * 9)
    with pytest.raises(EngineError, match="out of memory"):
        made(spec, [source], [sink], engine=Failing()).run()
    assert sink.closed == 1 and source.closed >= 1 and len(sink.names) == 1


def test_a_sink_may_end_the_run(spec: ModelSpec) -> None:
    class Closed(CollectingSink):
        def write(self, result: Segmentation) -> None:
            raise StopRun("window closed")

    assert made(spec, [Camera([BRIGHT] * 500)], [Closed()]).run().ended == "window closed"


def test_stop_and_frame_limit(spec: ModelSpec) -> None:
    running = made(spec, [Camera([BRIGHT] * 500)], on_frame=lambda state, result: running.stop("interrupted"))
    state = running.run()
    assert (state.frames, state.ended) == (1, "interrupted") and accounted(state)
    state = made(spec, [ScriptedSource([BRIGHT] * 9)], max_frames=4).run()
    assert (state.frames, state.ended) == (4, "frame limit") and accounted(state)


def test_live_miou_only_when_the_classes_are_the_sources(spec: ModelSpec) -> None:
    uri = "demo://street?frames=2&size=96x64"
    street = ModelSpec(CLASSES, PALETTE, (64, 96), ignore_id=11)
    every = Policy("every")
    scored = made(street, [StreetSource(uri, sleep=lambda s: None)], policy=every).run()
    assert scored.confusion.counts.sum() == 2 * 64 * 96 and scored.to_json()["miou"] is not None
    plain = made(spec, [StreetSource(uri, sleep=lambda s: None)], policy=every).run()
    assert plain.to_json()["miou"] is None


def test_pause_drops_and_says_so(spec: ModelSpec) -> None:
    def on_frame(state: RunState, result: Segmentation) -> None:
        if state.frames == 5:
            running.pause(True)
            threading.Timer(0.2, running.pause, [False]).start()

    running = made(spec, [Camera([BRIGHT] * 80)], on_frame=on_frame)
    state = running.run()
    assert 3 < state.sources["0"].dropped["paused"] < 60 and accounted(state)


def test_several_sources_share_a_batch_fairly(spec: ModelSpec) -> None:
    cameras = [Camera([shade] * 60) for shade in (BRIGHT, DARK, BRIGHT, DARK)]
    sink = CollectingSink()
    engine = SlowEngine(0.03, batch=2)
    state = made(spec, cameras, [sink], engine=engine, window_s=0.01).run()
    served = [source.segmented for source in state.sources.values()]
    assert max(served) - min(served) <= 3 and min(served) >= 5, served
    assert accounted(state) and list(state.sources) == ["0", "1", "2", "3"]


def test_a_batch_gives_each_source_its_own_result(spec: ModelSpec) -> None:
    by_source: dict[str, set[int]] = {}

    class Sorted(CollectingSink):
        def write(self, result: Segmentation) -> None:
            by_source.setdefault(result.frame.source, set()).add(int(result.classes.max()))

    stored = [ScriptedSource([BRIGHT] * 20), ScriptedSource([DARK] * 20), ScriptedSource([BRIGHT] * 20)]
    state = made(spec, stored, [Sorted()], engine=SlowEngine(0.001, batch=3)).run()
    assert by_source == {"0": {1}, "1": {0}, "2": {1}} and state.frames == 60


def test_one_dead_camera_does_not_end_the_others(spec: ModelSpec) -> None:
    dead, alive = Camera([SourceError("off", "auth")]), Camera([BRIGHT] * 30)
    running = made(spec, [dead, alive])
    with pytest.raises(SourceError, match="off"):  # at the end, since one of them did not do what was asked
        running.run()
    assert running.state.sources["1"].produced == 30 and running.state.sources["0"].status == "failed"


def test_sources_come_and_go_while_it_runs(spec: ModelSpec) -> None:
    problems: list[str] = []

    def on_frame(state: RunState, result: Segmentation) -> None:
        if state.frames == 5:
            assert running.add_source("second") == "1"
            with pytest.raises(UsageError, match="has or had"):
                running.add_source("third", "0")
        if state.frames == 40:
            running.remove_source("0")
            for wrong in ("0", "nobody"):
                with pytest.raises(UsageError) as refused:
                    running.remove_source(wrong)
                problems.append(str(refused.value))
            with pytest.raises(UsageError, match="only source"):
                running.remove_source("1")

    running = made(spec, [Camera([BRIGHT] * 400)], on_frame=on_frame, source_from=lambda uri: Camera([DARK] * 100))
    state = running.run()
    assert state.sources["0"].status == "ended" and state.sources["0"].produced < 400
    assert state.sources["1"].produced == 100 and accounted(state)
    assert all("there are 1" in problem for problem in problems)


def test_nothing_is_allocated_per_frame(spec: ModelSpec) -> None:
    running = made(spec, [ScriptedSource([BRIGHT] * 500)], [CollectingSink()])
    running.run()
    assert running._recycler.blocks <= 8


def test_confidence_is_the_mean_probability_where_a_class_won() -> None:
    scores = np.array([[[0.9, 0.6, 0.2]], [[0.1, 0.4, 0.8]]], np.float32)
    confidence = confidence_per_class(scores, scores.argmax(axis=0).astype(np.uint8))
    np.testing.assert_allclose(confidence, [0.75, 0.8], rtol=1e-6)
    assert confidence_per_class(scores[:, :, :2], np.zeros((1, 2), np.uint8))[1] == 0
