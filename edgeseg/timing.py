"""Time named laps and report percentiles of them, never a mean alone."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Callable, Iterator, Sequence

import numpy as np

__all__ = ["LatencySummary", "Stopwatch"]


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of a series of durations, all in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    min_ms: float

    @classmethod
    def of(cls, durations_ns: Sequence[int] | np.ndarray) -> LatencySummary:
        """Summarise durations in nanoseconds.

        Raises:
            ValueError: there are no durations.
        """
        if len(durations_ns) == 0:
            raise ValueError("no durations to summarise")
        ms = np.asarray(durations_ns, np.float64) / 1e6
        p50, p90, p95, p99 = (float(v) for v in np.percentile(ms, (50, 90, 95, 99)))
        return cls(len(ms), float(ms.mean()), p50, p90, p95, p99, float(ms.max()), float(ms.min()))

    def to_json(self) -> dict[str, float]:
        """Return a JSON-serialisable dict of milliseconds, rounded to the microsecond."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


class Stopwatch:
    """Recorder of named laps per frame. One thread times; others may read summaries meanwhile.

    Args:
        clock_ns: a monotonic clock in nanoseconds; injected in tests.
        keep: at most this many latest laps per name are kept, so that months of frames need constant memory. None
            keeps all of them.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns, keep: int | None = 10_000) -> None:
        self._clock_ns = clock_ns
        self._keep = keep
        self._laps: dict[str, _Ring] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Time the body of a ``with`` under ``name``; a body that raises is not recorded."""
        start = self._clock_ns()
        yield
        self.add(name, self._clock_ns() - start)

    def add(self, name: str, duration_ns: int) -> None:
        """Record a duration that was measured elsewhere."""
        ring = self._laps.get(name)
        if ring is None:
            ring = _Ring(self._keep)
            ring.add(duration_ns)
            self._laps[name] = ring  # only now: a reader must not meet an empty one
        else:
            ring.add(duration_ns)

    def last_ms(self, name: str) -> float:
        """Return the latest lap of ``name`` in milliseconds.

        Raises:
            KeyError: ``name`` has no lap.
        """
        return self._laps[name].last() / 1e6

    def latest_ms(self, name: str, count: int) -> np.ndarray:
        """Return at most ``count`` latest laps of ``name`` in milliseconds, oldest first: (n,) float64."""
        ring = self._laps.get(name)
        return np.empty(0) if ring is None else ring.values()[-count:] / 1e6

    def reset(self) -> None:
        """Forget every lap, e.g. those of the warm-up."""
        self._laps.clear()

    def summaries(self) -> dict[str, LatencySummary]:
        """Summarise the laps of each name, in the order in which the names first appeared."""
        return {name: LatencySummary.of(ring.values()) for name, ring in list(self._laps.items())}


class _Ring:
    """Ring of the latest durations, in memory that is allocated once; without a limit it grows."""

    def __init__(self, keep: int | None) -> None:
        self._grows = keep is None
        self._values = np.full(keep or 1024, 0, np.int64)  # unlike zeros, takes its memory now and not over hours
        self._count = 0

    def add(self, value: int) -> None:
        if self._grows and self._count == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def last(self) -> int:
        return int(self._values[(self._count - 1) % len(self._values)])

    def values(self) -> np.ndarray:
        """Copy the durations, oldest first."""
        count, keep = self._count, len(self._values)
        return self._values[:count].copy() if count <= keep else np.roll(self._values, -(count % keep))
