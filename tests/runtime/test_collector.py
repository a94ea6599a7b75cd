"""The collector's choice: whose turn it is, for whom a batch waits, and what comes too late."""

from __future__ import annotations

import threading
import time
from typing import Callable

import numpy as np
import pytest

from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.loop.collector import Collector
from edgeseg.runtime.loop.feed import Feed, Supervision
from edgeseg.runtime.policy import Policy
from edgeseg.runtime.state import RunState, SourceState
from tests import HANG_S
from tests.fakes import ScriptedSource

FOREVER_S = 3600.0
"""A window that a test would notice."""


class StillFeed(Feed):
    """A feed without its thread: the test puts its frames into the mailbox."""

    def start(self) -> None:
        self.state.status = "streaming"

    def deliver(self, captured_ns: int = 0) -> None:
        with self._changed:
            at = captured_ns or time.perf_counter_ns()
            self._mail = Frame(np.zeros((2, 2, 3), np.uint8), 0, at, "0", source=self.state.name)
            self._changed.notify_all()


Made = Callable[..., "tuple[Collector, list[StillFeed]]"]


@pytest.fixture
def collector_of() -> Made:
    def make(count: int, window_s: float = 0.0, policy: Policy = Policy("latest")) -> tuple[Collector, list[StillFeed]]:
        collector, run = Collector(window_s), RunState(ConfusionMatrix(2, 255))
        feeds = []
        for number in range(count):
            mine = SourceState(str(number), f"camera {number}", is_live=True)
            feeds.append(StillFeed(ScriptedSource([]), run, mine, policy, Supervision(), collector.changed))
            collector.add(feeds[-1])
        return collector, feeds

    return make


def collected(collector: Collector, most: int) -> list[str]:
    """The names that a batch holds; fails where the collector waits for what cannot come."""
    found: list[list[str]] = []

    def collect() -> None:
        found.append([feed.state.name for feed, _ in collector.collect(most, FOREVER_S)])

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "the collector still waits"
    return found[0]


def test_the_source_that_waited_longest_comes_first(collector_of: Made) -> None:
    collector, feeds = collector_of(3)
    turns = []
    for _ in range(6):
        for feed in feeds:
            feed.deliver()
        turns += collected(collector, 1)
    assert turns == ["0", "1", "2"] * 2


def test_a_batch_takes_those_that_the_last_one_left(
    collector_of: Made,
) -> None:
    collector, feeds = collector_of(3)
    batches = []
    for _ in range(3):
        for feed in feeds:
            feed.deliver()
        batches.append(collected(collector, 2))
    assert batches == [["0", "1"], ["2", "0"], ["1", "2"]]


def test_a_full_batch_waits_for_nobody(collector_of: Made) -> None:
    collector, feeds = collector_of(3, FOREVER_S)
    feeds[0].deliver()
    feeds[2].deliver()
    assert collected(collector, 2) == ["0", "2"]


@pytest.mark.parametrize("status", ["opening", "restarting", "failed"])
def test_a_batch_does_not_wait_for_a_source_that_brings_nothing(collector_of: Made, status: str) -> None:
    collector, feeds = collector_of(2, FOREVER_S)
    feeds[1].state.status = status
    feeds[0].deliver()
    assert collected(collector, 2) == ["0"]


def test_a_batch_does_not_wait_for_a_source_that_ended(
    collector_of: Made,
) -> None:
    collector, feeds = collector_of(2, FOREVER_S)
    feeds[1].finished = True
    feeds[0].deliver()
    assert collected(collector, 2) == ["0"]
    assert not collector.all_finished()
    feeds[0].finished = True
    assert collector.all_finished() and collected(collector, 2) == []


def test_a_batch_waits_for_a_source_that_streams(
    collector_of: Made,
) -> None:
    collector, feeds = collector_of(2, FOREVER_S)
    feeds[1].deliver()
    late = threading.Timer(0.2, feeds[0].deliver)
    late.start()
    assert collected(collector, 2) == ["0", "1"]


def test_without_a_window_a_batch_takes_what_is_there(
    collector_of: Made,
) -> None:
    collector, feeds = collector_of(2)
    feeds[1].deliver()
    assert collected(collector, 2) == ["1"]


def test_what_is_too_old_is_counted_and_not_taken(
    collector_of: Made,
) -> None:
    collector, feeds = collector_of(2, policy=Policy("deadline", 60_000))
    feeds[0].deliver(captured_ns=time.perf_counter_ns() - 61 * 10**9)
    feeds[1].deliver()
    assert collected(collector, 2) == ["1"]
    assert feeds[0].state.dropped["stale"] == 1 and not feeds[0].has_mail()


class Held(ScriptedSource):
    """A camera whose read returns when the test lets it, with the end of the stream."""

    def __init__(self) -> None:
        super().__init__([], live=True)
        self.may_end = threading.Event()

    def read(self) -> Frame | None:
        assert self.may_end.wait(HANG_S)
        return super().read()


def test_close_waits_for_who_ends_and_names_who_does_not() -> None:
    collector, run, sources = Collector(), RunState(ConfusionMatrix(2, 255)), [Held(), Held()]
    for number, source in enumerate(sources):
        mine = SourceState(str(number), source.description, is_live=True)
        collector.add(Feed(source, run, mine, Policy("latest"), Supervision(), collector.changed))
    feeds = list(collector)

    def is_over() -> bool:
        """Nobody waits any longer as soon as the first feed has ended."""
        sources[0].may_end.set()
        return not feeds[0].lives()

    assert collector.close(is_over) == ["1"]
    assert sources[0].closed == 1 and feeds[0].state.status == feeds[1].state.status == "ended"
    sources[1].may_end.set()
    feeds[1].wait(HANG_S)


def test_what_waited_at_the_end_is_counted(collector_of: Made) -> None:
    collector, feeds = collector_of(2)
    feeds[1].deliver()
    collector.remove(feeds[0])
    assert collector.close(lambda: True) == []
    assert [feed.state.dropped["stopped"] for feed in feeds] == [0, 1]


@pytest.mark.parametrize(
    ("is_live", "message"), [(True, "the driver hangs in a read"), (False, "one picture takes too long to read")]
)
def test_who_hangs_in_a_read_has_failed(collector_of: Made, is_live: bool, message: str) -> None:
    collector, (hangs, works) = collector_of(2)
    hangs.state.is_live = is_live
    hangs._reading_since, works._reading_since = time.monotonic() - FOREVER_S, time.monotonic()
    collector.check_stuck()
    assert hangs.finished and message in str(hangs.failure) and not works.finished
