"""A window on the desktop."""

from __future__ import annotations

from edgeseg.errors import SinkError, require
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.overlay import Painter
from edgeseg.runtime.sinks.base import FrameSink

__all__ = ["WindowClosed", "WindowSink"]


class WindowClosed(Exception):
    """The user closed the window or pressed q. Not an error."""


class WindowSink(FrameSink):
    """Shows the overlay. The command line checks that there is a display: Qt aborts the process without one."""

    description = "window"
    _TITLE = "edgeseg (q quits)"

    def __init__(self, painter: Painter) -> None:
        self._painter = painter
        self._cv2 = require("cv2", "opencv")

    def write(self, result: Segmentation) -> None:
        try:
            self._cv2.imshow(self._TITLE, self._painter.overlay(result.frame.image, result.classes))
            key = self._cv2.waitKey(1) & 0xFF
        except self._cv2.error as error:
            raise SinkError(f"no window can be shown ({str(error).splitlines()[0]}); use another --sink") from error
        if key in (ord("q"), 27):
            raise WindowClosed

    def close(self) -> None:
        try:
            self._cv2.destroyAllWindows()
        except self._cv2.error as error:
            raise SinkError(f"the window cannot be closed: {str(error).splitlines()[0]}") from error
