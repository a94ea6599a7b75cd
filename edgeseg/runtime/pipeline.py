"""The loop: capture, preprocess, infer, postprocess, sinks. Readable in one screen."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from edgeseg.engines import Engine
from edgeseg.metrics import ConfusionMatrix
from edgeseg.preprocess import class_map_at, resized_frame
from edgeseg.runtime.frame import Frame, Segmentation
from edgeseg.runtime.sinks import FrameSink
from edgeseg.runtime.sinks.window import WindowClosed
from edgeseg.runtime.sources import EndOfStream, FrameSource
from edgeseg.runtime.sources.latest import LatestFrame
from edgeseg.spec import ModelSpec
from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["STAGES", "RunState", "run_pipeline"]

STAGES = ("capture", "preprocess", "infer", "postprocess", "sinks", "frame", "age")
"""``capture``: waiting for the source. ``frame``: preprocess to sinks, the ms/frame of the loop. ``age``: from the
frame's arrival to the end of its sinks. An engine may add parts of ``infer``: ``h2d``, ``compute`` and ``d2h``."""


@dataclass
class RunState:
    """What a run knows about itself, live and at its end.

    Attributes:
        frames: segmented so far.
        started_ns: ``time.perf_counter_ns`` at the first frame's arrival.
        latest_ns: when the latest frame was done.
        watch: laps of ``STAGES``.
        confusion: against ground truth where the source has it.
        dropped: frames that the latest-frame policy skipped.
        ended: why the run stopped: ``"end of stream"``, ``"frame limit"``, ``"window closed"``, ``"interrupted"``.
    """

    frames: int
    started_ns: int
    latest_ns: int
    watch: Stopwatch
    confusion: ConfusionMatrix
    dropped: int = 0
    ended: str = ""

    def fps(self) -> float:
        """Frames per second from the first frame's arrival to the latest frame's end."""
        return self.frames / (self.latest_ns - self.started_ns) * 1e9 if self.frames else 0.0

    def latencies(self) -> dict[str, LatencySummary]:
        """A summary per stage."""
        return self.watch.summaries()

    def to_json(self) -> dict[str, Any]:
        """The machine-readable summary of a run."""
        has_labels = bool(self.confusion.counts.sum())
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "fps": round(self.fps(), 2),
            "ended": self.ended,
            "ms": {stage: summary.to_json() for stage, summary in self.latencies().items()},
            "miou": self.confusion.miou() if has_labels else None,
        }


def run_pipeline(
    source: FrameSource,
    engine: Engine,
    spec: ModelSpec,
    sinks: Sequence[FrameSink],
    *,
    latest: bool,
    max_frames: int = 0,
    on_frame: Callable[[RunState, Segmentation], None] = lambda state, result: None,
) -> RunState:
    """Segment frames until the source ends.

    Args:
        source: not yet opened.
        engine: for one frame at a time.
        spec: of the engine's graph.
        sinks: every result goes to all of them, in order.
        latest: drop frames that were not read in time (cameras); else every frame is segmented (files).
        max_frames: stop after so many frames; 0 is no limit.
        on_frame: called after each frame.

    Returns:
        The final state; Ctrl-C ends a run as the end of the stream does.

    Raises:
        EdgesegError: source, engine or sink failed; frames before that are in the sinks.
    """
    now = time.perf_counter_ns()
    state = RunState(0, now, now, Stopwatch(), ConfusionMatrix(len(spec.classes), spec.ignore_id))
    engine.infer(engine.input)  # the first run allocates; it is no measurement
    stream: FrameSource = LatestFrame(source) if latest else source
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        stack.enter_context(stream)
        try:
            while not state.ended:
                with state.watch.lap("capture"):
                    frame = stream.read()
                if frame is None:
                    continue
                if state.frames == 0:
                    state.started_ns = frame.captured_ns
                result = _segment(frame, engine, spec, sinks, state.watch)
                state.frames += 1
                state.latest_ns = time.perf_counter_ns()
                state.dropped = stream.dropped if isinstance(stream, LatestFrame) else 0
                if frame.label is not None and stream.label_classes == spec.classes:
                    state.confusion.update(result.classes, frame.label)
                on_frame(state, result)
                if state.frames == max_frames:
                    state.ended = "frame limit"
        except EndOfStream:
            state.ended = "end of stream"
        except WindowClosed:
            state.ended = "window closed"
        except KeyboardInterrupt:
            state.ended = "interrupted"
    return state


def _segment(
    frame: Frame, engine: Engine, spec: ModelSpec, sinks: Sequence[FrameSink], watch: Stopwatch
) -> Segmentation:
    started = time.perf_counter_ns()
    with watch.lap("preprocess"):
        resized_frame(frame.image, spec.size_hw, out=engine.input[0])
    with watch.lap("infer"):
        classes = engine.infer(engine.input)[0]
    for part, ms in engine.laps_ms.items():
        watch.add(part, int(ms * 1e6))
    with watch.lap("postprocess"):
        height, width = frame.image.shape[:2]
        classes = class_map_at(classes, (height, width))
    laps = {stage: watch.last_ms(stage) for stage in ("preprocess", "infer", "postprocess")}
    result = Segmentation(frame, classes, laps)
    with watch.lap("sinks"):
        for sink in sinks:
            sink.write(result)
    now = time.perf_counter_ns()
    watch.add("frame", now - started)
    watch.add("age", now - frame.captured_ns)
    return result
