"""How old a result is when the camera sets the pace: newest frame first, the others are dropped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from edgeseg.bench.measure import Contender
from edgeseg.timing import LatencySummary, Stopwatch

__all__ = ["CameraRate", "at_camera_rate"]


@dataclass(frozen=True)
class CameraRate:
    """What came of frames that a camera gives at a fixed rate.

    Attributes:
        fps: frames per second of the camera.
        age: from the moment a frame is there to its result.
        shown: frames with a result.
        dropped: frames that were older than the newest one when the contender was ready.
    """

    fps: float
    age: LatencySummary
    shown: int
    dropped: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {"fps": self.fps, "age_ms": self.age.to_json(), "shown": self.shown, "dropped": self.dropped}


def at_camera_rate(
    contender: Contender,
    frames: Sequence[np.ndarray],
    fps: float,
    seconds: float,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> CameraRate:
    """Give a contender the newest of the frames that come at a fixed rate, in real time.

    Args:
        contender: warm already; one frame of its batch is the camera's.
        frames: what the camera sees, cycled through.
        fps: frames per second, more than 0.
        seconds: how long, at least one frame.
        clock_ns: monotonic clock; injected in tests.
        sleep: waits for so many seconds.
    """
    watch = Stopwatch(clock_ns)
    period_ns = 1e9 / fps
    started = clock_ns()
    ages: list[int] = []
    last, dropped = -1, 0
    while not ages or clock_ns() - started < seconds * 1e9:
        newest = int((clock_ns() - started) / period_ns)
        if newest == last:  # it has been seen: the camera has nothing new yet
            due_ns = min((last + 1) * period_ns, seconds * 1e9)
            sleep(max(0.0, (started + due_ns - clock_ns()) / 1e9))
            continue
        dropped += newest - last - 1
        last = newest
        contender.segment(frames[newest % len(frames)], watch)
        ages.append(int(clock_ns() - (started + newest * period_ns)))
    newest = int((clock_ns() - started) / period_ns)
    dropped += max(0, newest - last - 1)  # came while the last one was worked on
    return CameraRate(fps, LatencySummary.of(ages), len(ages), dropped)
