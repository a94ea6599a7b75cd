"""``demo://street``: a camera that we render, with ground truth."""

from __future__ import annotations

import time
from typing import Callable

from edgeseg.demo import CLASSES
from edgeseg.demo.street import Streets, parse_street_uri
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import EndOfStream, FrameSource

__all__ = ["StreetSource"]


class StreetSource(FrameSource):
    """The rendered street at its frame rate, as a camera would deliver it.

    Args:
        uri: see ``edgeseg.demo.street.StreetUri``.
        sleep: waits so many seconds; injected in tests, as is the clock.
        clock: seconds that only grow.
    """

    is_live = True
    label_classes = CLASSES

    def __init__(
        self, uri: str, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._uri = parse_street_uri(uri)
        self._streets = Streets(self._uri)
        self._sleep, self._clock = sleep, clock
        self.fps = self._uri.fps
        self._index = 0
        self._due = 0.0
        height, width = self._uri.size_hw
        self.description = f"{uri}, {width}x{height} at {self._uri.fps:g} fps, rendered, with ground truth"

    def open(self) -> None:
        """Begin with the first frame."""
        self._index, self._due = 0, self._clock()

    def read(self) -> Frame | None:
        """Render the next frame when it is due. Raises EndOfStream."""
        if self._uri.frames and self._index >= self._uri.frames:
            raise EndOfStream
        image, label = self._streets.render(self._index)
        now = self._clock()
        self._due = max(self._due + 1 / self._uri.fps, now)
        self._sleep(self._due - now)
        frame = Frame(image, self._index, time.perf_counter_ns(), f"{self._index:06d}", label)
        self._index += 1
        return frame

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
