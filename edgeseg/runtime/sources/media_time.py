"""The times of a stored source's pictures, as sinks may rely on them: from 0 on, each later than the one before."""

from __future__ import annotations

__all__ = ["MediaTime"]

_JUMP_NS = 500_000_000
_LEAST_NS = 1_000_000
_USUAL_NS = 40_000_000
"""For which players show a picture of a file without times and rate: 25 a second."""


class MediaTime:
    """Counts from the first picture, and never back.

    Where times begin anew, as in recordings that were joined, they go on behind the last one. Where one is missing or
    too early, as of pictures that a container keeps in the order of their coding, it is one picture after the last.
    """

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._last_ns = self._offset_ns = 0

    def at(self, told_ns: int | None, duration_ns: int) -> int | None:
        """Nanoseconds from the first picture; None as long as no picture had a time.

        Args:
            told_ns: when it is shown; None where nobody says.
            duration_ns: for how long a picture is shown; 0 where nobody says.
        """
        if self._first_ns is None:
            self._first_ns = told_ns
            return None if told_ns is None else 0
        following = self._last_ns + max(duration_ns or (_USUAL_NS if told_ns is None else 0), _LEAST_NS)
        at = following if told_ns is None else told_ns - self._first_ns + self._offset_ns
        if at <= self._last_ns:
            self._offset_ns += following - at if self._last_ns - at > _JUMP_NS else 0
            at = following
        self._last_ns = at
        return at
