from __future__ import annotations

import numpy as np
import pytest

from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Contender, Effort, measured_side_by_side
from edgeseg.spec import ModelSpec
from edgeseg.timing import Stopwatch
from tests.fakes import FakeClock, ThresholdEngine

FRAMES = [np.zeros((8, 8, 3), np.uint8)]


def _taking(clock: FakeClock, name: str, ms: float, calls: list[str]) -> Contender:
    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        calls.append(name)
        clock.advance_ms(ms)
        return frame[..., 0]

    return Contender(name, segment)


def test_turns_alternate_and_ratios_are_paired() -> None:
    clock, calls = FakeClock(), []  # type: ignore[var-annotated]
    fast, slow = _taking(clock, "fast", 2, calls), _taking(clock, "slow", 10, calls)
    first, second = measured_side_by_side([fast, slow], FRAMES, Effort(10, 0.1), clock_ns=clock)
    assert first.frame.p50_ms == 2.0 and second.frame.p99_ms == 10.0
    assert first.ratio_to(second) == (5.0, 5.0, 5.0) and second.ratio_to(first)[0] == pytest.approx(0.2)
    assert len(first.turn_medians_ms) == len(second.turn_medians_ms) == 20
    counted = calls[calls.index("slow") :]
    counted = counted[counted.index("fast") :]
    assert counted[:550] == ["fast"] * 250 + ["slow"] * 50 + ["fast"] * 250, "turns of half a second each"


def test_warm_up_is_not_counted() -> None:
    clock = FakeClock()
    calls: list[int] = []

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        calls.append(1)
        clock.advance_ms(100 if len(calls) <= 5 else 10)
        return frame[..., 0]

    (measured,) = measured_side_by_side([Contender("x", segment)], FRAMES, Effort(0.2, 0.5), clock_ns=clock)
    assert measured.frame.max_ms == 10.0


def test_drift_is_called_unstable() -> None:
    clock = FakeClock()
    calls: list[int] = []

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        calls.append(1)
        clock.advance_ms(10 if len(calls) < 400 else 13)
        return frame[..., 0]

    (measured,) = measured_side_by_side([Contender("x", segment)], FRAMES, Effort(9, 0), clock_ns=clock)
    assert measured.unstable and measured.drift == pytest.approx(0.3)
    assert measured.to_json()["unstable"] is True


def test_an_engine_contender_takes_the_steps_of_a_run(spec: ModelSpec) -> None:
    watch = Stopwatch()
    bright = np.full((32, 48, 3), 200, np.uint8)
    classes = engine_contender("x", ThresholdEngine(), spec).segment(bright, watch)
    assert classes.shape == (32, 48) and (classes == 1).all()
    assert set(watch.summaries()) == {"preprocess", "infer", "postprocess"}
