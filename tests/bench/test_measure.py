from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.bench.contenders import engine_contender
from edgeseg.bench.measure import Contender, Effort, Interrupted, measured_side_by_side
from edgeseg.device.telemetry import Clock, Sample, total_power_mw
from edgeseg.errors import EngineError
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


def test_calls_are_counted_where_they_were_asked_for() -> None:
    clock, calls = FakeClock(), []  # type: ignore[var-annotated]
    pair = [_taking(clock, "fast", 2, calls), _taking(clock, "slow", 1000, calls)]
    effort = Effort(warmup_s=0, calls=50, warmup_calls=7)
    fast, slow = measured_side_by_side(pair, FRAMES, effort, clock_ns=clock)
    assert (fast.frame.count, slow.frame.count, len(calls)) == (50, 50, 2 * 57)
    assert len(fast.turn_medians_ms) == len(slow.turn_medians_ms) == 20, "paired, however slow one is"


@pytest.mark.parametrize("calls", [1, 3, 19, 21])
def test_any_number_of_calls_is_exact(calls: int) -> None:
    clock, made = FakeClock(), []  # type: ignore[var-annotated]
    effort = Effort(warmup_s=0, calls=calls)
    (found,) = measured_side_by_side([_taking(clock, "x", 1, made)], FRAMES, effort, clock_ns=clock)
    assert found.frame.count == calls


def test_no_call_is_forgotten_however_many_there_are() -> None:
    clock, made = FakeClock(), []  # type: ignore[var-annotated]
    effort = Effort(warmup_s=0, calls=25_000)
    (found,) = measured_side_by_side([_taking(clock, "x", 1, made)], FRAMES, effort, clock_ns=clock)
    assert found.frame.count == 25_000


@given(calls=st.integers(1, 60), at=st.integers(0, 130))
def test_what_was_measured_before_an_interrupt_is_kept(calls: int, at: int) -> None:
    clock, made = FakeClock(), []  # type: ignore[var-annotated]
    slow = _taking(clock, "slow", 10, made)

    def interrupted(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        if len(made) >= at:
            raise KeyboardInterrupt
        return slow.segment(frame, watch)

    pair = [_taking(clock, "fast", 1, made), Contender("slow", interrupted)]
    try:
        found = measured_side_by_side(pair, FRAMES, Effort(warmup_s=0, calls=calls), clock_ns=clock)
    except Interrupted as stopped:
        found = stopped.found
    except KeyboardInterrupt:
        assert len(made) <= 4, "only before the first call that counts"
        return
    assert [one.frame.p50_ms for one in found] == [1, 10][: len(found)]
    assert all(1 <= one.frame.count <= calls for one in found)
    assert sum(one.frame.count for one in found) == len(made) - 4, "no call is lost"
    assert len(found) == 1 or found[0].ratio_to(found[1]) == (10, 10, 10)


@given(calls=st.integers(0, 30), after=st.integers(0, 40), which=st.integers(0, 2))
def test_a_contender_that_fails_costs_the_others_nothing(calls: int, after: int, which: int) -> None:
    clock, made, said = FakeClock(), [], []  # type: ignore[var-annotated]
    racers = [_taking(clock, name, 100, made) for name in "abc"]
    count = itertools.count()

    def failing(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        if next(count) >= after:
            raise EngineError("no memory")
        clock.advance_ms(100)
        return frame[..., 0]

    racers[which] = Contender("odd", failing)
    found = measured_side_by_side(racers, FRAMES, Effort(1, 0, calls), clock_ns=clock, failed=said.append)
    if said:
        assert said == ["odd failed while it was timed: no memory"]
        assert [one.name for one in found] == [one.name for one in racers if one.name != "odd"]
    assert all(one.frame.count == (calls or 10) for one in found if one.name != "odd")
    with pytest.raises(EngineError, match="no memory"):
        measured_side_by_side([racers[which]], FRAMES, Effort(1, 0, 1000), clock_ns=clock, failed=said.append)


def test_a_batch_is_divided_among_its_frames() -> None:
    clock = FakeClock()

    def segment(frame: np.ndarray, watch: Stopwatch) -> np.ndarray:
        with watch.lap("infer"):
            clock.advance_ms(40)
        return frame[..., 0]

    (found,) = measured_side_by_side([Contender("x", segment, 4)], FRAMES, Effort(1, 0), clock_ns=clock)
    assert found.frame.p50_ms == 10 and found.turn_medians_ms[0] == 10
    document = found.to_json()
    assert document["trtexec_ms"]["Latency"]["p50_ms"] == 40 and document["frames_per_second"] == 100


def test_an_engine_of_a_batch_works_on_all_of_it(spec: ModelSpec) -> None:
    engine = ThresholdEngine(batch=3)
    bright = np.full((32, 48, 3), 200, np.uint8)
    contender = engine_contender("x", engine, spec)
    assert contender.batch == 3
    contender.segment(bright, Stopwatch())
    assert (engine.input == 200).all()


def test_the_sensors_are_read_once_a_turn_and_give_energy() -> None:
    clock, read = FakeClock(), []  # type: ignore[var-annotated]

    def sample() -> Sample:
        read.append(1)
        clock.advance_ms(100)
        gpu = Clock(500.0 + len(read))
        return Sample({"tj": 40.0 + len(read)}, {"VDD_IN": 8000.0, "VDD_CPU": 3000.0}, {"gpu": gpu})

    one = _taking(clock, "x", 10, [])
    (found,) = measured_side_by_side([one], FRAMES, Effort(2, 0), sample=sample, clock_ns=clock)
    assert len(read) == len(found.turn_medians_ms) == 4 and found.frame.max_ms == 10, "reading is not timed"
    assert found.power_w == 8 and found.energy_j == pytest.approx(0.08)
    assert found.to_json()["sensors"] == {"hottest_c": [41.0, 44.0], "clocks_mhz": {"gpu": [501, 504]}}


@pytest.mark.parametrize(
    ("rails", "milliwatts"),
    [
        ({}, None),
        ({"VDD_IN": 5000, "VDD_CPU_GPU_CV": 3000}, 5000),
        ({"VIN": 40000, "VDD_GPU": 9000}, 40000),
        ({"VDD_GPU_SOC": 4000, "VDD_CPU_CV": 2000, "VIN_SYS_5V0": 3000}, 9000),
    ],
)
def test_the_input_rail_is_the_whole_module(rails: dict[str, float], milliwatts: float | None) -> None:
    assert total_power_mw(Sample(power_mw=rails)) == milliwatts
