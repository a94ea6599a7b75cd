from __future__ import annotations

import numpy as np
import pytest

from edgeseg.timing import LatencySummary, Stopwatch
from tests.fakes import FakeClock


def test_laps_are_what_the_clock_says() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    for ms in (10, 20, 30):
        with watch.lap("infer"):
            clock.advance_ms(ms)
    summary = watch.summaries()["infer"]
    assert (summary.count, summary.p50_ms, summary.max_ms, summary.mean_ms) == (3, 20.0, 30.0, 20.0)
    assert watch.last_ms("infer") == 30.0


def test_a_failed_lap_is_not_recorded() -> None:
    watch = Stopwatch(FakeClock())
    with pytest.raises(RuntimeError), watch.lap("infer"):
        raise RuntimeError
    assert watch.summaries() == {}


def test_percentiles_and_empty() -> None:
    summary = LatencySummary.of([int(ms * 1e6) for ms in range(1, 101)])
    assert summary.p50_ms == pytest.approx(50.5)
    assert summary.p99_ms == pytest.approx(99.01)
    assert summary.to_json()["p90_ms"] == pytest.approx(90.1)
    with pytest.raises(ValueError, match="no durations"):
        LatencySummary.of([])


def test_memory_is_bounded_and_keeps_the_latest() -> None:
    watch = Stopwatch(FakeClock(), keep=10)
    for ms in range(1000):
        watch.add("infer", int(ms * 1e6))
    summary = watch.summaries()["infer"]
    assert summary.count == 10 and summary.max_ms == 999.0
    np.testing.assert_array_equal(watch.latest_ms("infer", 3), [997, 998, 999])
    assert watch.latest_ms("other", 3).size == 0
