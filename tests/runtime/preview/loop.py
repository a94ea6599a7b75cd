"""A small real run: threads that read rendered streets, take their labels for results and feed a sink."""

from __future__ import annotations

import threading
import time
from typing import Any

from edgeseg.demo import CLASSES, PALETTE
from edgeseg.errors import SourceError, UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks import FrameSink
from edgeseg.runtime.sources.demo import StreetSource
from edgeseg.runtime.state import RunState, SinkState, SourceState
from edgeseg.spec import ModelSpec

SPEC = ModelSpec(tuple(CLASSES), tuple(tuple(colour) for colour in PALETTE), (96, 128))


class Alarms:
    """What is on is what a test put into ``on``."""

    def __init__(self) -> None:
        self.on: list[dict[str, Any]] = []

    def active(self) -> list[dict[str, Any]]:
        return self.on


class Run:
    """Implements RunControl. ``freeze`` stops a source from delivering, as a camera that hangs."""

    def __init__(self, fps: int = 15, size: str = "320x240") -> None:
        self.spec = SPEC
        self.state = RunState(ConfusionMatrix(len(CLASSES)))
        self.sinks: list[FrameSink] = []
        self.frozen: set[str] = set()
        self._query = f"fps={fps}&size={size}"
        self._threads: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._scenes: dict[str, StreetSource] = {}
        self._lock = threading.Lock()

    def attach(self, sink: FrameSink) -> None:
        self.state.sinks.append(SinkState(sink.description))
        self.sinks.append(sink)

    def pause(self, on: bool) -> None:
        self.state.paused = on
        self.state.tell("info", "run", "paused" if on else "goes on")

    def stop(self, reason: str) -> None:
        self.state.ended = reason
        for thread, end in self._threads.values():
            end.set()
            thread.join()

    def add_source(self, uri: str, name: str = "") -> str:
        with self._lock:
            name = name or str(len(self.state.sources))
            if name in self.state.sources:
                raise UsageError(f"there is a source {name} already")
            if not uri.startswith("demo://"):
                raise SourceError(f"{uri} cannot be opened: no route to host")
            if len(self._threads) >= 3:
                raise SourceError("there are three sources already")
            source = StreetSource(f"{uri}{'&' if '?' in uri else '?'}{self._query}" if "fps=" not in uri else uri)
            self._scenes[name] = source
            self.state.sources[name] = SourceState(name, source.description, size_hw=(240, 320))
            end = threading.Event()
            thread = threading.Thread(target=self._loop, args=(name, source, end), name=f"edgeseg-test-{name}")
            self._threads[name] = thread, end
            thread.start()
            return name

    def rendered(self, name: str, index: int) -> tuple[Any, Any]:
        """The frame and class ids of a source, rendered anew."""
        return self._scenes[name]._uri.scene().render(index)

    def remove_source(self, name: str) -> None:
        with self._lock:
            if len(self._threads) == 1:
                raise UsageError(f"{name} is the last source")
            thread, end = self._threads.pop(name)
        end.set()
        thread.join()
        self.state.sources[name].status = "ended"

    def _loop(self, name: str, source: StreetSource, end: threading.Event) -> None:
        mine = self.state.sources[name]
        source.open()
        mine.status = "streaming"
        while not end.is_set():
            frame = source.read()
            assert frame is not None
            mine.produced += 1
            if self.state.paused or name in self.frozen:
                mine.dropped["paused"] += 1
                continue
            start = time.perf_counter_ns()
            frame = type(frame)(frame.image, frame.index, frame.captured_ns, frame.name, frame.label, name)
            result = Segmentation(frame, frame.label, {"infer": 1.0}, len(CLASSES))
            with self._lock:
                for stage in ("preprocess", "infer", "postprocess", "frame"):
                    self.state.watch.add(stage, time.perf_counter_ns() - start)
            mine.watch.add("age", time.perf_counter_ns() - frame.captured_ns)
            mine.area = {label: float(share) for label, share in zip(CLASSES, result.area) if share}
            mine.segmented += 1
            self.state.frames += 1
            self.state.latest_ns = time.perf_counter_ns()
            for sink, known in zip(self.sinks, self.state.sinks):
                sink.write(result)
                known.written += 1
