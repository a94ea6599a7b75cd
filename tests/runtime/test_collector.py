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
