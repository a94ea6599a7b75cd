"""A window on the desktop."""

from __future__ import annotations

from contextlib import suppress

from edgeseg.errors import SinkError, first_line, require
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink, StopRun

__all__ = ["WindowSink"]


class WindowSink(FrameSink):
    """Shows the overlay. The command line checks that there is a display: Qt aborts the process without one."""

    description = "window"
    _TITLE = "edgeseg (q quits)"

    def __init__(self, painter: Painter) -> None:
        self._painter = painter
        self._cv2 = require("cv2", "opencv")

    def write(self, result: Segmentation) -> None:
        """Show the picture. Raises StopRun for Esc or q, SinkError where there is no window."""
        try:
            title = f"{self._TITLE} {result.frame.source}"
            self._cv2.imshow(title, self._painter.picture(result))
            key = self._cv2.waitKey(1) & 0xFF
            closed = self._cv2.getWindowProperty(title, self._cv2.WND_PROP_VISIBLE) < 1
        except self._cv2.error as error:
            raise SinkError(f"no window can be shown ({first_line(error)}); use another `sinks`") from error
        if closed or key in (ord("q"), 27):
            raise StopRun("window closed")

    def close(self) -> None:
        """Close the windows."""
        with suppress(self._cv2.error):  # an OpenCV without windows has said so in write() already
            self._cv2.destroyAllWindows()
