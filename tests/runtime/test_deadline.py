"""The end of a run waits for all its parts until one moment, whatever hangs. Parts here hang for ever, so that coming
back at all is what is tested; the bounds are far from both what it takes and what a wait for each part would take."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest

from edgeseg.errors import SinkError
from edgeseg.runtime.alarms.actions import ActionContext, action_from_text
from edgeseg.runtime.alarms.parser import parse
from edgeseg.runtime.alarms.roi import RoiSet
from edgeseg.runtime.alarms.sink import AlarmSink
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.loop.feed import Supervision
from edgeseg.runtime.loop.pipeline import LoopOptions, Run
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.jsonl import JsonlSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.spec import ModelSpec
from tests.fakes import CollectingSink, ScriptedSource, ThresholdEngine

BRIGHT = np.full((32, 48, 3), 250, np.uint8)
FAR_S = 40.0


class Hanging(ScriptedSource):
    """Delivers a picture; then one of its calls never returns."""

    def __init__(self, where: str, forever: threading.Event) -> None:
        super().__init__([BRIGHT], live=True)
        self._where, self._forever = where, forever

    def open(self) -> None:
        if self._where == "open":
            self._forever.wait()
        super().open()

    def read(self) -> Any:
        if self._script:
            return super().read()
        if self._where == "read":
            self._forever.wait()
        time.sleep(0.01)
        return None

    def close(self) -> None:
        if self._where == "close":
            self._forever.wait()
        super().close()


class HangingSink(FrameSink):
    def __init__(self, where: str, forever: threading.Event) -> None:
        self._where, self._forever = where, forever
        self.description = f"hangs in {where}"

    def write(self, result: Segmentation) -> None:
        if self._where == "write":
            self._forever.wait()

    def close(self) -> None:
        if self._where == "close":
            self._forever.wait()


@pytest.fixture
def forever(no_threads: None) -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def no_threads() -> Iterator[None]:
    """Wait until what was left behind ends, once what it waits for was let go: that is asked of every test."""
    yield
    until = time.monotonic() + 30
    while time.monotonic() < until and any(thread.name.startswith("edgeseg") for thread in threading.enumerate()):
        time.sleep(0.01)


def ends(running: Run, seconds: float = FAR_S) -> None:
    """Ask a run that delivers to stop, and see that it does."""
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not running.state.frames and time.monotonic() < until:
        time.sleep(0.01)
    assert running.state.frames
    running.stop("interrupted")
    thread.join(seconds)
    assert not thread.is_alive(), "the run waits for what hangs"


def made(spec: ModelSpec) -> Run:
    running = Run(ThresholdEngine(), spec, LoopOptions(supervision=Supervision(stall_s=600)))
    running.add(ScriptedSource([BRIGHT] * 10_000, live=True))
    return running


@pytest.mark.parametrize("where", ["open", "read", "close"])
def test_sources_that_hang_share_one_deadline(spec: ModelSpec, forever: threading.Event, where: str) -> None:
    """One after the other, three seconds each, a hundred of them would take five minutes."""
    running, sink = made(spec), CollectingSink()
    for _ in range(100):
        running.add(Hanging(where, forever))
    running.add_sink(sink)
    ends(running)
    assert sink.closed == 1
    said = [event.text for event in running.state.latest_events() if "left behind" in event.text]
    assert len(said) == 1 and said[0].startswith("100 sources do not end")
    for source in running.state.sources.values():
        assert source.produced == source.segmented + sum(source.dropped.values())


@pytest.mark.parametrize("where", ["write", "close"])
def test_sinks_that_hang_share_one_deadline(spec: ModelSpec, forever: threading.Event, where: str) -> None:
    running, good = made(spec), CollectingSink()
    for _ in range(20):
        running.add_sink(HangingSink(where, forever))
    running.add_sink(good)
    ends(running, 9)  # it was ten seconds
    assert good.closed == 1
    assert sum("does not finish" in event.text for event in running.state.latest_events()) == 20


def test_everything_hangs_at_once(spec: ModelSpec, forever: threading.Event) -> None:
    running, good = made(spec), CollectingSink()
    for where in ("open", "read", "close") * 10:
        running.add(Hanging(where, forever))
    for where in ("write", "close") * 5:
        running.add_sink(HangingSink(where, forever))
    running.add_sink(good)
    ends(running)
    assert good.closed == 1


def test_a_wish_to_stop_hurries_an_end_that_has_begun(spec: ModelSpec, forever: threading.Event) -> None:
    """A file is through, a sink takes a minute to close: a signal then still ends the run soon."""
    running = Run(ThresholdEngine(), spec)
    running.add(ScriptedSource([BRIGHT]))
    running.add_sink(HangingSink("close", forever))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while running.state.ended != "end of stream" and time.monotonic() < until:
        time.sleep(0.01)
    running.stop("interrupted")
    thread.join(FAR_S)
    assert not thread.is_alive() and running.state.ended == "end of stream"


def test_sinks_finish_though_the_engine_hangs(spec: ModelSpec, forever: threading.Event, tmp_path: Path) -> None:
    class Engine(ThresholdEngine):
        def _run(self) -> np.ndarray:
            if running.state.frames == 3:
                forever.wait()
            return super()._run()

    running = Run(Engine(), spec)
    running.add(ScriptedSource([BRIGHT] * 10))
    sink = CollectingSink()
    running.add_sink(sink)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while len(sink.maps) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    running.stop("interrupted")
    running.close_sinks()
    while not sink.closed and time.monotonic() < until:
        time.sleep(0.01)
    assert (len(sink.maps), sink.closed) == (3, 1)
    forever.set()
    thread.join(FAR_S)
    assert running.state.sinks[0].written + sum(running.state.sinks[0].lost.values()) == running.state.frames == 4


def test_a_run_that_never_began_leaves_no_file(spec: ModelSpec, tmp_path: Path) -> None:
    from edgeseg.runtime.sinks import sink_from_uri
    from tests.runtime.results import context

    running = Run(ThresholdEngine(), spec)
    running.add_sink(sink_from_uri(str(tmp_path / "o.avi"), context(spec)))
    running.abandon()
    assert not list(tmp_path.iterdir())


# What alarms wait for


@contextmanager
def server(answers: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that takes connections and does what it is told with them."""
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            connections.append(taken)
            threading.Thread(target=answers, args=(taken,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for taken in connections:
            with suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)


def silent(taken: socket.socket) -> None:
    with suppress(OSError):
        while taken.recv(65536):
            pass


def dripping(taken: socket.socket) -> None:
    taken.recv(65536)
    try:
        taken.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            time.sleep(0.2)
            taken.sendall(b"X-More: y\r\n")
    except OSError:
        pass


def connack_only(taken: socket.socket) -> None:
    taken.recv(65536)
    taken.sendall(b"\x20\x02\x00\x00")
    silent(taken)


@pytest.mark.parametrize("kinds", [["silent"], ["dripping"], ["mqtt"], ["silent", "dripping", "mqtt"] * 4])
def test_alarms_do_not_wait_for_who_does_not_answer(spec: ModelSpec, tmp_path: Path, kinds: list[str]) -> None:
    """The other actions get every record, and what was not delivered is counted."""
    with server(silent) as mute, server(dripping) as drips, server(connack_only) as broker:
        addresses = {
            "silent": f"http://127.0.0.1:{mute}/",
            "dripping": f"http://127.0.0.1:{drips}/",
            "mqtt": f"mqtt://127.0.0.1:{broker}/t",
        }
        texts = [*(addresses[kind] for kind in kinds), f"jsonl:{tmp_path}/o.jsonl"]
        tell = lambda level, who, text: None  # noqa: E731
        actions = [action_from_text(text, ActionContext(Painter(spec), tell)) for text in texts]
        rules = [parse("area(road) >= 0", spec.classes, ())]
        running = made(spec)
        running.add_sink(AlarmSink(rules, spec, RoiSet(spec.classes, None), actions, tell))
        ends(running)
        webhooks = [action.to_json() for action, kind in zip(actions, kinds) if kind != "mqtt"]
        assert all(hook["done"] == 0 and hook["lost"] == 1 for hook in webhooks), webhooks
        assert (tmp_path / "o.jsonl").read_text().count('"alarm"') == 1


def test_a_deadline_that_comes_nearer_is_seen_by_who_waits() -> None:
    deadline, changed, gone = Deadline(), threading.Condition(), threading.Event()

    def waits() -> None:
        with changed:
            assert not deadline.wait_for(changed, lambda: False, 600)
        gone.set()

    threading.Thread(target=waits, daemon=True).start()
    assert not gone.wait(0.3)
    deadline.bring_to(0.5)
    assert gone.wait(FAR_S)


def test_who_sees_the_end_of_a_run_finds_the_deadline(spec: ModelSpec) -> None:
    """A sink that looked between the two took the time of a run that nobody hurries."""
    running = made(spec)
    seen: list[float] = []

    class Watched(type(running.state)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "ended":
                seen.append(running._deadline.at)
            super().__setattr__(name, value)

    running.state.__class__ = Watched
    running.stop("interrupted")
    assert seen and seen[0] < time.monotonic() + FAR_S


def test_a_broker_that_acknowledges_nothing_is_not_said_to_have_taken(spec: ModelSpec) -> None:
    from edgeseg.runtime.sinks.mqtt import MqttSink

    with server(connack_only) as broker:
        running = Run(ThresholdEngine(), spec)
        running.add(ScriptedSource([BRIGHT] * 5))
        running.add_sink(MqttSink(f"mqtt://127.0.0.1:{broker}/t", spec))
        with pytest.raises(SinkError, match="5 messages were not acknowledged"):
            running.run()
        state = running.state.sinks[0]
        assert (state.written, state.lost["failed"]) == (0, 5)


# A pipe


def test_a_pipe_that_nobody_reads_does_not_hold_the_run(spec: ModelSpec, tmp_path: Path) -> None:
    """``open`` of it would wait for ever, deaf to signals."""
    os.mkfifo(tmp_path / "p")
    lines = LineFile(tmp_path / "p", b"", b"{", lambda line: True)
    with pytest.raises(SinkError, match="nobody reads the pipe"):
        lines.append(b"1\n")
    reader = os.open(tmp_path / "p", os.O_RDONLY | os.O_NONBLOCK)
    lines.append(b"2\n")
    assert os.read(reader, 100) == b"2\n"
    os.close(reader)
    with pytest.raises(SinkError):
        lines.append(b"3\n")
    lines.close()
    running = made(spec)
    running.add_sink(JsonlSink(tmp_path / "p", spec))
    ends(running)


def test_a_deadline_comes_only_nearer() -> None:
    deadline = Deadline()
    assert deadline.left(5) == 5 and not deadline.is_over()
    deadline.bring_to(1000)
    deadline.bring_to(5000)
    assert 900 < deadline.left(5000) <= 1000
    deadline.bring_to(-1)
    assert deadline.is_over() and deadline.left(5) == 0
