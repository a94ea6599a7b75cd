"""Timing contenders side by side: warmed up, interleaved, percentiles, paired ratios."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from edgeseg.bench.compare import paired_ratio, ratio_in_words
from edgeseg.device.telemetry import Sample, total_power_mw
from edgeseg.errors import EdgesegError
from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["Contender", "Effort", "Interrupted", "Measurement", "measured_side_by_side"]

_TURN_NS = 500_000_000
_TURNS_OF_COUNTED_CALLS = 20
_UNSTABLE = 0.15


@dataclass(frozen=True)
class Contender:
    """Something that turns a camera frame into a class map, end to end.

    Attributes:
        name: for the table.
        segment: HxWx3 uint8 BGR frame and a Stopwatch that takes its laps -> HxW uint8 class map.
        batch: how many frames it works on at a time.
        facts: of its model, engine and threads, for those who read the results.
    """

    name: str
    segment: Callable[[np.ndarray, Stopwatch], np.ndarray]
    batch: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How long each contender is timed.

    Attributes:
        seconds: measuring time, counted after the warm-up.
        warmup_s: it runs so long before anything counts.
        calls: this many calls of the contender in place of ``seconds``; 0 goes by time.
        warmup_calls: it runs at least so many calls, and two, before anything counts.
    """

    seconds: float = 10.0
    warmup_s: float = 2.0
    calls: int = 0
    warmup_calls: int = 2


@dataclass(frozen=True)
class Measurement:
    """What was measured of one contender.

    Attributes:
        name: of the contender.
        frame: end-to-end latency per frame; of a batch, its share.
        stages: latency of the laps that the contender took, of a whole batch.
        turn_medians_ms: median ms/frame of each turn, in order; turns of all contenders alternate.
        drift: how much the last quarter of turns is slower than the first, as a fraction.
        batch: frames of a call.
        facts: those of the contender.
        samples: readings of the sensors, one in the middle of each turn.
    """

    name: str
    frame: LatencySummary
    stages: dict[str, LatencySummary]
    turn_medians_ms: list[float] = field(repr=False)
    drift: float
    batch: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Sample] = field(default=(), repr=False)

    @property
    def unstable(self) -> bool:
        """Tell whether the machine changed its speed during the measurement."""
        return abs(self.drift) > _UNSTABLE

    @property
    def power_w(self) -> float | None:
        """Return the mean power of the board while this ran, in watts; None where no sensor says it."""
        readings = [total_power_mw(sample) for sample in self.samples]
        known = [one for one in readings if one is not None]
        return mean(known) / 1000 if known else None

    @property
    def energy_j(self) -> float | None:
        """Return the energy of the board per frame, in joules; None where no sensor says its power."""
        return None if self.power_w is None else self.power_w * self.frame.mean_ms / 1000

    def latencies(self) -> dict[str, LatencySummary]:
        """Return the times of a batch under trtexec's names; those that nobody times are absent."""
        return {name: self.stages[stage] for name, stage in _TRTEXEC.items() if stage in self.stages}

    def ratio_to(self, other: Measurement) -> tuple[float, float, float]:
        """Return how many times faster this is than ``other``: median of paired turns, ends of its 95 % interval."""
        turns = min(len(self.turn_medians_ms), len(other.turn_medians_ms))  # an interrupt leaves one more of the first
        return paired_ratio(self.turn_medians_ms[:turns], other.turn_medians_ms[:turns])

    def beside(self, other: Measurement) -> str:
        """Say how fast this is beside another one."""
        return ratio_in_words(self.ratio_to(other), min(len(self.turn_medians_ms), len(other.turn_medians_ms)))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict; what no sensor said is None."""
        return {
            "name": self.name,
            **self.facts,
            "batch": self.batch,
            "ms_per_frame": self.frame.to_json(),
            "frames_per_second": round(1000 / self.frame.mean_ms, 3),
            "stages_ms": {stage: summary.to_json() for stage, summary in self.stages.items()},
            "trtexec_ms": {name: summary.to_json() for name, summary in self.latencies().items()},
            "turns": len(self.turn_medians_ms),
            "turn_medians_ms": [round(one, 4) for one in self.turn_medians_ms],
            "drift": round(self.drift, 4),
            "unstable": self.unstable,
            "power_w": _rounded(self.power_w),
            "energy_j_per_frame": _rounded(self.energy_j, 5),
            "sensors": _sensors(self.samples),
        }


class Interrupted(KeyboardInterrupt):
    """A measurement was interrupted; ``found`` is what it had measured by then."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


_TRTEXEC = {
    "Latency": "infer",
    "Enqueue Time": "enqueue",
    "H2D Latency": "h2d",
    "GPU Compute Time": "compute",
    "D2H Latency": "d2h",
}
"""trtexec's name -> name of our lap. Our latency is a host's: from the call to the result."""


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _sensors(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what the sensors said while a contender ran: hottest zone first and last, lowest and highest clocks."""
    if not samples:
        return {}
    hottest = [sample.hottest for sample in (samples[0], samples[-1])]
    clocks: dict[str, list[float]] = {}
    for sample in samples:
        for name, clock in sample.clocks.items():
            clocks.setdefault(name, []).append(clock.mhz)
    return {
        "hottest_c": [None if zone is None else round(zone[1], 1) for zone in hottest],
        "clocks_mhz": {name: [round(min(mhz)), round(max(mhz))] for name, mhz in clocks.items()},
    }


def measured_side_by_side(
    contenders: Sequence[Contender],
    frames: Sequence[np.ndarray],
    effort: Effort = Effort(),
    *,
    sample: Callable[[], Sample] | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
    failed: Callable[[str], None] | None = None,
) -> list[Measurement]:
    """Time contenders in alternating short turns, so that a noisy machine is noisy for all of them.

    Args:
        contenders: at least one.
        frames: camera frames, cycled through.
        effort: how long.
        sample: reads the sensors, in the middle of each turn and outside of what is timed; None reads none.
        clock_ns: monotonic clock; injected in tests.
        report: called with (what is done, done, in all): contenders while they warm up, then seconds or turns.
        failed: takes a line for a contender that raised an EdgesegError, and the others go on; None raises it.

    Raises:
        Interrupted: while turns went on; it holds the measurements so far, of those that had a call by then.
        EdgesegError: a contender failed and ``failed`` is None, or all of them failed.
    """
    racers = [_Racer(contender, frames, sample, clock_ns) for contender in contenders]
    field = _Field(racers, failed)
    for index, racer in enumerate(racers):
        report("warming up", index, len(racers))
        field.let(racer, racer.warm_up, effort)
    report("warming up", len(racers), len(racers))
    try:
        _race(field, effort, report)
    except KeyboardInterrupt:
        found = [racer.measurement() for racer in field.racers if racer.has_turns]
        if found:
            raise Interrupted(found) from None
        raise
    return [racer.measurement() for racer in field.racers]


class _Field:
    """Racers that go on: who fails leaves it."""

    def __init__(self, racers: Sequence[_Racer], failed: Callable[[str], None] | None) -> None:
        self.racers, self._failed = list(racers), failed

    def let(self, racer: _Racer, act: Callable[..., None], *given: Any) -> None:
        try:
            act(*given)
        except EdgesegError as error:
            if self._failed is None or self.racers == [racer]:
                raise
            self._failed(f"{racer.name} failed while it was timed: {error}")
            self.racers.remove(racer)


def _race(field: _Field, effort: Effort, report: Callable[[str, int, int], None]) -> None:
    if effort.calls:
        turns = min(_TURNS_OF_COUNTED_CALLS, effort.calls)
        ends = [effort.calls * turn // turns for turn in range(turns + 1)]
        for turn in range(turns):
            for racer in list(field.racers):
                field.let(racer, racer.turn, ends[turn + 1] - ends[turn])
            report("timing, turns each", turn + 1, turns)
    else:
        in_all = math.ceil(effort.seconds)
        while min(racer.spent_ns for racer in field.racers) < effort.seconds * 1e9:
            for racer in list(field.racers):
                field.let(racer, racer.turn)
                done = int(min(racer.spent_ns for racer in field.racers) / 1e9)
                report("timing, seconds each", min(in_all, done), in_all)
        report("timing, seconds each", in_all, in_all)


class _Racer:
    """A contender while it is timed."""

    def __init__(
        self,
        contender: Contender,
        frames: Sequence[np.ndarray],
        sample: Callable[[], Sample] | None,
        clock_ns: Callable[[], int],
    ) -> None:
        self._contender, self._frames, self._sample, self._clock_ns = contender, frames, sample, clock_ns
        self._watch = Stopwatch(clock_ns, keep=None)
        self._medians: list[float] = []
        self._samples: list[Sample] = []
        self._calls = 0
        self.name, self.spent_ns = contender.name, 0

    @property
    def has_turns(self) -> bool:
        return bool(self._medians)

    def warm_up(self, effort: Effort) -> None:
        started, calls = self._clock_ns(), 0
        least = max(2, effort.warmup_calls)
        while calls < least or self._clock_ns() - started < effort.warmup_s * 1e9:
            self._one()
            calls += 1
        self._watch.reset()
        self._calls = 0

    def turn(self, calls: int = 0) -> None:
        """Call the contender so many times, or for half a second and at least once. An interrupt ends a turn early."""
        laps: list[int] = []
        spent_ns, sample = 0, self._sample
        try:
            while len(laps) < calls if calls else spent_ns < _TURN_NS:
                laps.append(self._one())
                spent_ns += laps[-1]
                is_half = 2 * len(laps) >= calls if calls else 2 * spent_ns >= _TURN_NS
                if sample is not None and is_half:
                    self._samples.append(sample())
                    sample = None
        finally:
            if laps:
                self._medians.append(median(laps) / 1e6 / self._contender.batch)
                self.spent_ns += spent_ns

    def _one(self) -> int:
        frame = self._frames[self._calls % len(self._frames)]
        self._calls += 1
        started = self._clock_ns()
        self._contender.segment(frame, self._watch)
        took = self._clock_ns() - started
        self._watch.add("frame", took // self._contender.batch)
        return took

    def measurement(self) -> Measurement:
        summaries = self._watch.summaries()
        quarter = max(1, len(self._medians) // 4)
        drift = median(self._medians[-quarter:]) / median(self._medians[:quarter]) - 1
        one = self._contender
        frame = summaries.pop("frame")
        return Measurement(one.name, frame, summaries, self._medians, drift, one.batch, one.facts, self._samples)
