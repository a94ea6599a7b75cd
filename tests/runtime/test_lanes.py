"""Stored frames go through several engines at a time, and nobody who takes the results can tell."""

from __future__ import annotations

import threading
import time
from typing import Any, Sequence

import numpy as np
import pytest

from edgeseg.engines.base import Engine
from edgeseg.errors import EngineError, SourceError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.loop.pipeline import Run
from edgeseg.runtime.state import RunState
from edgeseg.spec import ModelSpec
from tests.fakes import CollectingSink, ScriptedSource, ThresholdEngine
from tests.runtime.test_pipeline import BRIGHT, DARK, Camera, accounted, made


class Laned(ThresholdEngine):
    """Has two lanes; notes how many run at the same time. The first takes longer than the second."""

    def __init__(self, batch: int = 1, seconds: Sequence[float] = (0.02, 0.002)) -> None:
        super().__init__(batch=batch)
        self.seconds = seconds
        self.at_once: list[int] = []
        self.made: list[ThresholdEngine] = []
        self.fails_at = 0

    def lanes(self) -> Sequence[Engine]:
        outer, running, lock = self, [0], threading.Lock()

        class Lane(ThresholdEngine):
            seconds = 0.0
            calls = 0

            def _run(self) -> np.ndarray:
                with lock:
                    running[0] += 1
                    outer.at_once.append(running[0])
                time.sleep(self.seconds)
                with lock:
                    running[0] -= 1
                self.calls += 1
                if self.calls == outer.fails_at:
                    raise EngineError("out of memory")
                return super()._run()

        for seconds in self.seconds:
            lane = Lane(batch=len(self.input))
            lane.seconds = seconds
            self.made.append(lane)
        return self.made

    @property
    def is_closed(self) -> bool:
        """Whether every lane was closed."""
        return bool(self.made) and not any(lane._open for lane in self.made)


SCRIPT = [BRIGHT, DARK, DARK, BRIGHT, None, DARK, BRIGHT, BRIGHT, DARK] * 3
EXPECTED = [int(one.max() > 127) for one in SCRIPT if one is not None]


@pytest.mark.parametrize("batch", [1, 3])
def test_results_come_in_order_though_a_lane_is_slower(spec: ModelSpec, batch: int) -> None:
    engine, sink, seen = Laned(batch), CollectingSink(), []
    sources = [ScriptedSource(SCRIPT) for _ in range(batch)]
    running = made(spec, sources, [sink], engine=engine, on_frame=lambda state, result: seen.append(result))
    state = running.run()
    for source in state.sources:
        mine = [result for result in seen if result.frame.source == source]
        assert [result.frame.index for result in mine] == list(range(len(EXPECTED)))
        assert [int(result.classes.max()) for result in mine] == EXPECTED
    assert len(sink.names) == state.frames == batch * len(EXPECTED)
    assert max(engine.at_once) == state.in_flight == 2 and engine.is_closed
    assert accounted(state) and state.dropped == 0 and state.ended == "end of stream"
    assert state.latencies()["infer"].count == state.latencies()["frame"].count == state.frames


def test_a_single_picture_opens_no_lanes(spec: ModelSpec) -> None:
    engine = Laned()
    state = made(spec, [ScriptedSource([BRIGHT])], engine=engine).run()
    assert (state.frames, state.in_flight, engine.made) == (1, 1, [])


def test_cameras_get_the_whole_engine(spec: ModelSpec) -> None:
    engine = Laned()
    state = made(spec, [Camera([BRIGHT] * 20), ScriptedSource([BRIGHT] * 20)], engine=engine).run()
    assert state.frames > 20 and state.in_flight == 1 and not engine.made and accounted(state)


def test_a_camera_that_is_added_ends_the_use_of_lanes(spec: ModelSpec) -> None:
    engine, stored, lanes_ran = Laned(), [], [0, 0]

    def on_frame(state: RunState, result: Segmentation) -> None:
        if result.frame.source == "0":
            stored.append(result.frame.index)
        if state.frames == 10:
            running.add(Camera([DARK] * 500), "camera")
        if result.frame.source == "camera":
            lanes_ran[state.sources["camera"].segmented > 1] = len(engine.at_once)
            if state.sources["camera"].segmented == 5:
                running.stop("stopped")

    running = made(spec, [ScriptedSource([BRIGHT] * 5000)], engine=engine, on_frame=on_frame)
    state = running.run()
    assert 0 < lanes_ran[0] == lanes_ran[1], "no frame went through a lane once the camera was there"
    assert stored == list(range(state.sources["0"].segmented))
    assert accounted(state) and engine.is_closed


@pytest.mark.parametrize("how", ["limit", "stop", "interrupt", "engine", "source", "sink"])
def test_every_frame_is_accounted_for_however_it_ends(spec: ModelSpec, how: str) -> None:
    engine, sink = Laned(), CollectingSink()
    script: list[Any] = [BRIGHT] * 40
    asked: dict[str, Any] = {}

    def on_frame(state: RunState, result: Segmentation) -> None:
        if state.frames == 9 and how == "stop":
            running.stop("stopped")
        if state.frames == 9 and how == "interrupt":
            raise KeyboardInterrupt

    if how == "limit":
        asked["max_frames"] = 9
    if how == "engine":
        engine.fails_at = 4
    if how == "source":
        script[9] = SourceError("unplugged", "gone")
    if how == "sink":
        sink.write = lambda result: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    running: Run = made(spec, [ScriptedSource(script)], [sink], engine=engine, on_frame=on_frame, **asked)
    failing = {"engine": EngineError, "source": SourceError, "sink": ZeroDivisionError}
    if how in failing:
        with pytest.raises(failing[how]):
            running.run()
    else:
        running.run()
    state = running.state
    assert accounted(state) and engine.is_closed
    if how != "sink":
        assert sink.names == [f"{index:06d}" for index in range(state.frames)] and state.frames >= 7
    if how in ("limit", "stop", "interrupt", "source"):
        assert state.frames == 9


def test_a_pause_holds_lanes_too(spec: ModelSpec) -> None:
    def on_frame(state: RunState, result: Segmentation) -> None:
        if state.frames == 5:
            running.pause(True)
            threading.Timer(0.1, lambda: running.pause(False)).start()

    running = made(spec, [ScriptedSource([BRIGHT] * 3000)], engine=Laned(seconds=(0.001, 0.001)), on_frame=on_frame)
    threading.Timer(0.4, lambda: running.stop("stopped")).start()
    state = running.run()
    assert state.sources["0"].dropped["paused"] > 3 and accounted(state)


def test_a_lane_that_hangs_does_not_outlive_a_stop(spec: ModelSpec) -> None:
    release = threading.Event()

    class Hanging(Laned):
        def lanes(self) -> Sequence[Engine]:
            super().lanes()
            self.made[1]._run = lambda: release.wait(20)  # type: ignore[method-assign, assignment, return-value]
            return self.made

    running = made(spec, [ScriptedSource([BRIGHT] * 50)], [CollectingSink()], engine=Hanging())
    threading.Timer(0.5, lambda: running.stop("interrupted")).start()
    began = time.monotonic()
    state = running.run()
    took = time.monotonic() - began
    release.set()
    for thread in threading.enumerate():
        if thread.name == "edgeseg-lane":
            thread.join(20)
    assert took < 2.6 and accounted(state) and state.ended == "interrupted"
