from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.bench.camera_rate import at_camera_rate
from edgeseg.bench.measure import Contender
from edgeseg.timing import Stopwatch
from tests.fakes import FakeClock

FRAMES = [np.full((2, 2, 3), value, np.uint8) for value in range(4)]


@pytest.mark.parametrize(
    ("takes_ms", "oldest_ms", "every"),
    [
        (10, 10, 1),  # faster than the camera: each frame, as soon as it is there
        (100, 100, 1),  # exactly as fast
        (150, 200, 2),  # slower: every second frame is never shown, and the next one has waited
        (1000, 1000, 10),
        (30_000, 30_000, 300),  # the only one takes longer than the measurement: what came meanwhile is never shown
    ],
)
def test_age_and_drops_are_those_of_the_newest_frame(takes_ms: float, oldest_ms: float, every: int) -> None:
    clock = FakeClock()
    seen: list[int] = []

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        seen.append(int(frame[0, 0, 0]))
        clock.advance_ms(takes_ms)
        return frame[..., 0]

    found = at_camera_rate(
        Contender("x", segment), FRAMES, 10, 20, clock_ns=clock, sleep=lambda s: clock.advance_ms(s * 1000 + 0.001)
    )
    assert takes_ms <= found.age.p50_ms <= found.age.max_ms <= oldest_ms + 1
    assert found.shown + found.dropped == pytest.approx(max(200, takes_ms / 100), abs=2)
    assert found.shown == len(seen) and seen[0] == 0
    assert found.to_json()["age_ms"]["p50_ms"] == pytest.approx(found.age.p50_ms, abs=1e-3)


@given(fps=st.floats(1e-3, 100), seconds=st.floats(0.1, 20), takes_ms=st.integers(1, 3000))
def test_it_ends_in_time_however_slow_the_camera_is(fps: float, seconds: float, takes_ms: int) -> None:
    clock = FakeClock()

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        clock.advance_ms(takes_ms)
        return frame[..., 0]

    started = clock()
    found = at_camera_rate(
        Contender("x", segment),
        FRAMES,
        fps,
        seconds,
        clock_ns=clock,
        sleep=lambda s: clock.advance_ms(s * 1000 + 0.001),
    )
    assert found.shown >= 1 and clock() - started <= (seconds + takes_ms / 1000) * 1e9 + 1e5
