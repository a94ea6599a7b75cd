"""Frames of several sources -> fair batches."""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterator

from edgeseg.errors import SourceError
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.loop.feed import Feed

__all__ = ["Collector"]

_TICK_S = 0.05


class Collector:
    """Picks the next frames: at most one of each source, the source that waited longest first.

    Args:
        window_s: how long the first frame of a batch waits for those of other sources.
    """

    def __init__(self, window_s: float = 0.0) -> None:
        self.changed = threading.Condition()
        self._feeds: list[Feed] = []
        self._window_s = window_s
        self._turn = 0

    def __iter__(self) -> Iterator[Feed]:
        return iter(list(self._feeds))

    def add(self, feed: Feed) -> None:
        """Take a feed in; it is started here."""
        with self.changed:
            self._feeds.append(feed)
        feed.start()

    def remove(self, feed: Feed) -> None:
        """Let a feed go; the caller ends it."""
        with self.changed:
            self._feeds.remove(feed)

    def collect(
        self, most: int, timeout_s: float, or_when: Callable[[], bool] = lambda: False
    ) -> list[tuple[Feed, Frame]]:
        """Collect the next frames, none older than their feed's deadline; empty when none came in time.

        Args:
            most: at most so many.
            timeout_s: to wait for the first one.
            or_when: ends the wait as well; asked whenever ``changed`` is notified.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: self._anything() or or_when(), timeout_s):
                return []
            if not any(feed.has_mail() for feed in self._feeds):
                return []
            if most > 1 and self._window_s:
                self.changed.wait_for(lambda: self._complete(most), self._window_s)
            waiting = sorted((feed for feed in self._feeds if feed.has_mail()), key=lambda feed: feed.served)
            taken = []
            for feed in waiting[:most]:
                self._turn += 1
                feed.served = self._turn
                frame = feed.take()
                if frame is None:
                    continue
                if feed.policy.too_old(frame, time.perf_counter_ns()):
                    feed.state.dropped["stale"] += 1
                else:
                    taken.append((feed, frame))
            return taken

    def check_stuck(self) -> None:
        """Declare failed whose driver does not return from a read."""
        for feed in self:
            if feed.is_stuck():
                what = "the driver hangs in a read" if feed.state.is_live else "one picture takes too long to read"
                feed.give_up(SourceError(f"{feed.state.description}: {what}", "stalled"))

    def all_finished(self) -> bool:
        """Tell whether no feed will bring another frame."""
        with self.changed:
            return all(feed.finished and not feed.has_mail() for feed in self._feeds)

    def close(self, is_over: Callable[[], bool]) -> list[str]:
        """End every feed and count what was in flight.

        Args:
            is_over: whether nobody waits any longer, for whichever of them.

        Returns:
            The names of those that did not end.
        """
        feeds = list(self)
        for feed in feeds:
            feed.ask_to_stop()
        for feed in feeds:
            while feed.lives() and not is_over():
                feed.wait(_TICK_S)
        left = [feed.state.name for feed in feeds if feed.lives()]
        for feed in feeds:
            feed.settle()
        return left

    def _anything(self) -> bool:
        return any(feed.has_mail() for feed in self._feeds) or all(feed.finished for feed in self._feeds)

    def _complete(self, most: int) -> bool:
        there = sum(feed.has_mail() for feed in self._feeds)
        return there >= most or all(feed.has_mail() or not feed.expects_mail() for feed in self._feeds)
