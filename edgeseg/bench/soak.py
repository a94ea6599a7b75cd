"""One contender for minutes: when the board gets hot and slow, and what a frame costs then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.bench.measure import Contender, Interrupted
from edgeseg.device.telemetry import Sample, throttled_between, total_power_mw
from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["Soak", "Window", "soaked"]

_WINDOWS = 60
_SHORTEST_S = 1.0
_ENDS = 0.1


@dataclass(frozen=True)
class Window:
    """A stretch of the soak.

    Attributes:
        ends_s: seconds from the start of the soak to its end.
        frame: latency per frame in it.
        hottest_c: of the hottest zone at its end; None where no sensor says it.
        power_w: of the whole module at its end; None where no sensor says it.
        gpu_mhz: clock of the GPU at its end; None where none is told.
        throttled: why the board ran slower than it was set to, a line each.
        is_watched: whether any sensor answered that would say so.
    """

    ends_s: float
    frame: LatencySummary
    hottest_c: float | None
    power_w: float | None
    gpu_mhz: float | None
    throttled: Sequence[str]
    is_watched: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "ends_s": round(self.ends_s, 3),
            "ms_per_frame": self.frame.to_json(),
            "hottest_c": self.hottest_c,
            "power_w": self.power_w,
            "gpu_mhz": self.gpu_mhz,
            "throttled": list(self.throttled),
        }


@dataclass(frozen=True)
class Soak:
    """What was measured.

    Attributes:
        name: of the contender.
        cold, hot: latency per frame of the first and of the last tenth of the frames.
        windows: the whole of it.
    """

    name: str
    cold: LatencySummary
    hot: LatencySummary
    windows: Sequence[Window]

    @property
    def throttled_at_s(self) -> float | None:
        """Return when the board was first seen to throttle, in seconds from the start; None when it never was."""
        return next((window.ends_s for window in self.windows if window.throttled), None)

    @property
    def throttling(self) -> str:
        """Say when throttling began, that none was seen, or that no sensor would have said so."""
        if self.throttled_at_s is not None:
            return f"throttling began within {self.throttled_at_s:.0f} s"
        if any(window.is_watched for window in self.windows):
            return "no throttling was seen"
        return "whether it throttled is not known: no sensor here says it"

    @property
    def energy_j(self) -> float | None:
        """Return the mean energy of the module per frame, in joules; None where no sensor says its power."""
        known = [(window.power_w, window.frame) for window in self.windows if window.power_w is not None]
        if not known:
            return None
        joules = sum(watts * frame.mean_ms * frame.count / 1000 for watts, frame in known)
        return joules / sum(frame.count for _, frame in known)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "name": self.name,
            "cold_ms": self.cold.to_json(),
            "hot_ms": self.hot.to_json(),
            "throttled_at_s": self.throttled_at_s,
            "throttling": self.throttling,
            "energy_j_per_frame": self.energy_j,
            "windows": [window.to_json() for window in self.windows],
        }


def soaked(
    contender: Contender,
    frames: Sequence[np.ndarray],
    seconds: float,
    sample: Callable[[], Sample],
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Soak:
    """Run a contender without a pause. It is not warmed up: the first frames are part of what is measured.

    Args:
        contender: to run; a call counts as the frames of its batch.
        frames: HxWx3 uint8 BGR, cycled through.
        seconds: how long.
        sample: reads the sensors.
        clock_ns: monotonic clock; injected in tests.
        report: called with (what is done, seconds done, in all).

    Raises:
        Interrupted: it holds the soak so far, of at least one frame.
    """
    length_s = max(_SHORTEST_S, seconds / _WINDOWS)
    watch, started = Stopwatch(clock_ns), clock_ns()
    laps: list[int] = []
    every: list[int] = []
    windows: list[Window] = []
    before, now = sample(), started
    begun = started
    try:
        while now - started < seconds * 1e9 or not every:
            lap_from = clock_ns()
            contender.segment(frames[len(every) % len(frames)], watch)
            now = clock_ns()
            laps.append((now - lap_from) // contender.batch)
            every.append(laps[-1])
            if now - begun >= length_s * 1e9 or now - started >= seconds * 1e9:
                after = sample()
                windows.append(_window((now - started) / 1e9, laps, before, after))
                laps, before, begun = [], after, clock_ns()
                report("soaking, seconds", min(int(seconds), int((now - started) / 1e9)), int(seconds))
    except KeyboardInterrupt:
        if laps:
            windows.append(_window((now - started) / 1e9, laps, before, sample()))
        if not windows:
            raise
        raise Interrupted(_soak(contender.name, every, windows)) from None
    return _soak(contender.name, every, windows)


def _soak(name: str, every: Sequence[int], windows: Sequence[Window]) -> Soak:
    count = max(1, int(_ENDS * len(every)))
    return Soak(name, LatencySummary.of(every[:count]), LatencySummary.of(every[-count:]), windows)


def _window(ends_s: float, laps: Sequence[int], before: Sample, after: Sample) -> Window:
    zone, power, gpu = after.hottest, total_power_mw(after), after.clocks.get("gpu")
    return Window(
        ends_s,
        LatencySummary.of(laps),
        None if zone is None else zone[1],
        None if power is None else power / 1000,
        None if gpu is None else gpu.mhz,
        throttled_between(before, after),
        bool(after.clocks or after.cooling or after.over_current),
    )
