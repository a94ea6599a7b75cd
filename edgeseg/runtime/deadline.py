"""When the end of a run has to be over: one moment for all that it waits for."""

from __future__ import annotations

import math
import threading
import time
from typing import Callable

__all__ = ["Deadline"]

_MARGIN_S = 0.2
_LOOK_AGAIN_S = 0.1


class Deadline:
    """A moment that may come nearer. Safe to use from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._moments = [math.inf]  # appending to a list cannot lose what a signal handler appends meanwhile

    @property
    def at(self) -> float:
        """Return its ``time.monotonic()``; infinite while nobody is in a hurry."""
        return min(self._moments)

    def bring_to(self, seconds: float) -> None:
        """Bring it to so many seconds from now, unless it is earlier."""
        self._moments.append(time.monotonic() + seconds)

    def is_over(self) -> bool:
        """Tell whether it has passed."""
        return time.monotonic() >= self.at

    def left(self, most: float) -> float:
        """Seconds that somebody may wait for others, at most ``most``: a little less than there is, to say how it
        ended."""
        return max(0.0, min(most, self.at - time.monotonic() - _MARGIN_S))

    def wait_for(self, changed: threading.Condition, is_so: Callable[[], bool], most: float) -> bool:
        """Wait for others up to ``most`` seconds, or less when the moment comes nearer meanwhile.

        Args:
            changed: held by the caller.
            is_so: what is waited for.
            most: seconds.

        Returns:
            Whether it came to be.
        """
        until = time.monotonic() + most
        while not is_so():
            left = self.left(until - time.monotonic())
            if not left:
                return False
            changed.wait(min(left, _LOOK_AGAIN_S))
        return True
