"""The latest-frame policy: a reader thread and a mailbox of one, so that latency cannot grow."""

from __future__ import annotations

import threading

from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import FrameSource

__all__ = ["LatestFrame"]


class LatestFrame(FrameSource):
    """Wraps a live source: ``read`` gives the newest frame; older unread ones are dropped and counted.

    Args:
        source: the source to read in a thread of its own.
        timeout_s: how long ``read`` waits before it says "no frame yet".

    Attributes:
        dropped: frames that were replaced before anybody read them.
    """

    is_live = True

    def __init__(self, source: FrameSource, timeout_s: float = 0.5) -> None:
        self._source, self._timeout_s = source, timeout_s
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended: BaseException | None = None
        self._stop = self._abandoned = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.description = source.description
        self.label_classes = source.label_classes

    def open(self) -> None:
        """Open the source and start reading it. Raises SourceError."""
        self._source.open()
        self.description = self._source.description
        self._thread = threading.Thread(target=self._pump, name="edgeseg-capture", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Return the latest frame; None when none has come yet. Raises EndOfStream, SourceError."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended is not None, self._timeout_s)
            frame, self._frame = self._frame, None
            if frame is None and self._ended is not None:
                raise self._ended
            return frame

    def close(self) -> None:
        """Stop reading and close the source. May be called twice."""
        self._stop = True
        if self._thread is not None:
            self._thread.join(timeout=5)
            if self._thread.is_alive():
                self._abandoned = True  # the driver hangs in read(): the thread closes the device when it returns
                return
            self._thread = None
        self._source.close()

    def _pump(self) -> None:
        while not self._stop:
            try:
                frame = self._source.read()
            except BaseException as error:  # handed to the reader, who raises it
                with self._changed:
                    self._ended = error
                    self._changed.notify_all()
                return
            if frame is not None:
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify_all()
        if self._abandoned:
            self._source.close()
