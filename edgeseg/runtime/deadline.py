"""When the end of a run has to be over: one moment for all that it waits for."""

from __future__ import annotations

import math
import time

__all__ = ["Deadline"]

_MARGIN_S = 0.2


class Deadline:
    """A moment that may come nearer. Safe to use from any thread and from a signal handler.

    Attributes:
        at: ``time.monotonic()`` of it; infinite while nobody is in a hurry.
    """

    def __init__(self) -> None:
        self.at = math.inf

    def bring_to(self, seconds: float) -> None:
        """Not later than so many seconds from now."""
        self.at = min(self.at, time.monotonic() + seconds)

    def is_over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.at

    def left(self, most: float) -> float:
        """Seconds that somebody may wait for others, at most ``most``: a little less than there is, to say how it
        ended."""
        return max(0.0, min(most, self.at - time.monotonic() - _MARGIN_S))
