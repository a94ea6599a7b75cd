from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.bench.measure import Contender, Interrupted
from edgeseg.bench.soak import Soak, soaked
from edgeseg.device.telemetry import Clock, Sample
from edgeseg.timing import Stopwatch
from tests.fakes import FakeClock

FRAMES = [np.zeros((2, 2, 3), np.uint8)]


def _board(clock: FakeClock, gets_hot: bool) -> tuple[Contender, list[Sample]]:
    """A board that takes 10 ms a frame, and 20 from its 60th second on if it gets hot."""
    read: list[Sample] = []

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        clock.advance_ms(20 if gets_hot and clock() >= 60e9 else 10)
        return frame[..., 0]

    return Contender("x", segment), read


def test_a_board_that_gets_hot_is_told_when() -> None:
    clock = FakeClock()
    contender, _ = _board(clock, gets_hot=True)

    def sample() -> Sample:
        is_hot = clock() >= 60e9
        alert = {"gpu-throttle-alert": int(is_hot)}
        return Sample({"tj": 95.0 if is_hot else 50.0}, {"VDD_IN": 10_000.0}, {"gpu": Clock(600)}, cooling=alert)

    found = soaked(contender, FRAMES, 120, sample, clock_ns=clock)
    assert len(found.windows) == 60 and found.throttled_at_s is not None and 60 <= found.throttled_at_s <= 64
    assert (found.cold.p99_ms, found.hot.p99_ms) == (10, 20)
    assert found.energy_j == pytest.approx(10 * 120 / 9000, rel=1e-3), "10 W for two minutes, by all frames"
    assert found.windows[-1].hottest_c == 95 and found.windows[0].gpu_mhz == 600
    assert found.to_json()["windows"][-1]["throttled"] == ["gpu-throttle-alert is active (state 1)"]


def test_a_machine_without_sensors_says_so() -> None:
    clock = FakeClock()
    contender, _ = _board(clock, gets_hot=False)
    found = soaked(contender, FRAMES, 3, Sample, clock_ns=clock)
    assert found.throttled_at_s is None and found.energy_j is None and found.windows[0].power_w is None
    assert sum(window.frame.count for window in found.windows) == 300


@given(seconds=st.floats(0.001, 20), ms=st.integers(1, 3000))
def test_every_frame_is_in_a_window(seconds: float, ms: int) -> None:
    clock, calls = FakeClock(), []  # type: ignore[var-annotated]

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        calls.append(1)
        clock.advance_ms(ms)
        return frame[..., 0]

    def sample() -> Sample:
        clock.advance_ms(700)  # reading sensors takes time, and may take the rest of it
        return Sample()

    found = soaked(Contender("x", segment), FRAMES, seconds, sample, clock_ns=clock)
    assert sum(window.frame.count for window in found.windows) == len(calls) >= 1
    assert all(window.frame.max_ms == ms for window in found.windows)


@pytest.mark.parametrize("at", [1, 99, 100, 150, 250])
def test_a_soak_that_is_interrupted_keeps_its_frames(at: int) -> None:
    clock, calls = FakeClock(), []  # type: ignore[var-annotated]

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        if len(calls) == at:
            raise KeyboardInterrupt
        calls.append(1)
        clock.advance_ms(10)
        return frame[..., 0]

    with pytest.raises(Interrupted) as stopped:
        soaked(Contender("x", segment), FRAMES, 3, Sample, clock_ns=clock)
    found = stopped.value.found
    assert isinstance(found, Soak) and sum(window.frame.count for window in found.windows) == at


def test_a_soak_without_a_frame_has_nothing_to_keep() -> None:
    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        soaked(Contender("x", segment), FRAMES, 3, Sample)
    assert not isinstance(stopped.value, Interrupted)


@pytest.mark.parametrize("sample", [Sample(), Sample(clocks={"gpu": Clock(600, 300, 900)})])
def test_no_throttling_is_said_only_where_a_sensor_would_say_it(sample: Sample) -> None:
    clock = FakeClock()

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        clock.advance_ms(10)
        return frame[..., 0]

    found = soaked(Contender("x", segment), FRAMES, 3, lambda: sample, clock_ns=clock)
    assert (found.throttling == "no throttling was seen") == bool(sample.clocks)
    assert ("is not known" in found.throttling) == (not sample.clocks)
