"""Timing contenders side by side: warmed up, interleaved, percentiles, paired ratios."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["Contender", "Measurement", "measured_side_by_side"]

_TURN_NS = 500_000_000
_UNSTABLE = 0.15


@dataclass(frozen=True)
class Contender:
    """Something that turns a camera frame into a class map, end to end.

    Attributes:
        name: for the table.
        segment: HxWx3 uint8 BGR frame and a Stopwatch that takes its laps -> HxW uint8 class map.
    """

    name: str
    segment: Callable[[np.ndarray, Stopwatch], np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """What was measured of one contender.

    Attributes:
        name: of the contender.
        frame: end-to-end latency per frame.
        stages: latency of the laps that the contender took.
        turn_medians_ms: median ms/frame of each turn, in order; turns of all contenders alternate.
        drift: how much the last quarter of turns is slower than the first, as a fraction.
    """

    name: str
    frame: LatencySummary
    stages: dict[str, LatencySummary]
    turn_medians_ms: list[float] = field(repr=False)
    drift: float

    @property
    def unstable(self) -> bool:
        """Tell whether the machine changed its speed during the measurement."""
        return abs(self.drift) > _UNSTABLE

    def ratio_to(self, other: Measurement) -> tuple[float, float, float]:
        """Return how many times faster this is than ``other``: median, lowest and highest ratio of the paired turns."""
        ratios = [theirs / ours for ours, theirs in zip(self.turn_medians_ms, other.turn_medians_ms)]
        return median(ratios), min(ratios), max(ratios)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.name,
            "ms_per_frame": self.frame.to_json(),
            "stages_ms": {stage: summary.to_json() for stage, summary in self.stages.items()},
            "turns": len(self.turn_medians_ms),
            "drift": round(self.drift, 4),
            "unstable": self.unstable,
        }


def measured_side_by_side(
    contenders: Sequence[Contender],
    frames: Sequence[np.ndarray],
    *,
    seconds: float = 10.0,
    warmup_s: float = 2.0,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> list[Measurement]:
    """Time contenders in alternating short turns, so that a noisy machine is noisy for all of them.

    Args:
        contenders: at least one.
        frames: camera frames, cycled through.
        seconds: measuring time per contender, counted after the warm-up.
        warmup_s: each contender runs so long (and at least two frames) before anything counts.
        clock_ns: monotonic clock; injected in tests.
        report: called with (what is done, done, in all): contenders while they warm up, then seconds.
    """
    watches = [Stopwatch(clock_ns) for _ in contenders]
    for index, (contender, watch) in enumerate(zip(contenders, watches)):
        report("warming up", index, len(contenders))
        _run_for(contender, watch, frames, warmup_s, clock_ns)
        watch.reset()
    report("warming up", len(contenders), len(contenders))
    turns: list[list[float]] = [[] for _ in contenders]
    spent = [0] * len(contenders)
    in_all = math.ceil(seconds)
    while min(spent) < seconds * 1e9:
        for index, contender in enumerate(contenders):
            laps = _turn(contender, watches[index], frames, clock_ns)
            turns[index].append(median(laps) / 1e6)
            spent[index] += sum(laps)
            report("timing, seconds each", min(in_all, int(min(spent) / 1e9)), in_all)
    report("timing, seconds each", in_all, in_all)
    return [_measurement(c, watch, medians) for c, watch, medians in zip(contenders, watches, turns)]


def _run_for(
    contender: Contender, watch: Stopwatch, frames: Sequence[np.ndarray], seconds: float, clock_ns: Callable[[], int]
) -> None:
    started, count = clock_ns(), 0
    while count < 2 or clock_ns() - started < seconds * 1e9:
        _one(contender, watch, frames[count % len(frames)], clock_ns)
        count += 1


def _turn(
    contender: Contender, watch: Stopwatch, frames: Sequence[np.ndarray], clock_ns: Callable[[], int]
) -> list[int]:
    """Frames for half a second, at least one."""
    laps: list[int] = []
    while sum(laps) < _TURN_NS:
        laps.append(_one(contender, watch, frames[len(laps) % len(frames)], clock_ns))
    return laps


def _one(contender: Contender, watch: Stopwatch, frame: np.ndarray, clock_ns: Callable[[], int]) -> int:
    started = clock_ns()
    contender.segment(frame, watch)
    took = clock_ns() - started
    watch.add("frame", took)
    return took


def _measurement(contender: Contender, watch: Stopwatch, medians: list[float]) -> Measurement:
    summaries = watch.summaries()
    quarter = max(1, len(medians) // 4)
    drift = median(medians[-quarter:]) / median(medians[:quarter]) - 1
    return Measurement(contender.name, summaries.pop("frame"), summaries, medians, drift)
