"""A V4L2 camera through OpenCV."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgeseg.errors import SourceError, require
from edgeseg.runtime.frame import Frame
from edgeseg.runtime.sources.base import FrameSource

__all__ = ["CameraSource", "camera_devices", "refuse_missing_camera"]


def camera_devices(root: Path = Path("/")) -> list[str]:
    """List the V4L2 devices that exist, with the names of their drivers: ``"/dev/video0 (HD Webcam)"``."""
    found = []
    for node in sorted(root.glob("dev/video*"), key=lambda path: (len(path.name), path.name)):
        label = root / "sys/class/video4linux" / node.name / "name"
        name = label.read_text(errors="replace").strip() if label.is_file() else "unnamed"
        found.append(f"/dev/{node.name} ({name})")
    return found


class CameraSource(FrameSource):
    """Frames of ``/dev/videoN``, at the driver's own size and rate.

    Args:
        device: index N.
    """

    is_live = True

    def __init__(self, device: int) -> None:
        self._device = device
        self._capture: Any = None
        self._index = 0
        self.description = f"camera /dev/video{device}"

    def open(self) -> None:
        """Open the camera. Raises SourceError."""
        cv2 = require("cv2", "opencv")
        node = Path(f"/dev/video{self._device}")
        refuse_missing_camera(self._device)
        capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceError(
                f"{node} exists but does not open: it is in use (fuser {node}), not readable by you "
                f"(groups: add 'video'), or not a capture device; {_what_is_there()}"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._capture = capture
        self.description = f"camera {node}, {width}x{height} at {capture.get(cv2.CAP_PROP_FPS):g} fps"

    def read(self) -> Frame | None:
        """Return the next frame. Raises SourceError: the camera stopped."""
        arrived, image = self._capture.read()
        if not arrived:
            raise SourceError(
                f"/dev/video{self._device} stopped delivering frames after {self._index}; was it unplugged?", "gone"
            )
        frame = Frame(image, self._index, time.perf_counter_ns(), f"{self._index:06d}")
        self._index += 1
        return frame

    def close(self) -> None:
        """Release the camera. May be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def refuse_missing_camera(device: int) -> None:
    """Raise SourceError that says which cameras there are, when ``/dev/videoN`` is not."""
    node = Path(f"/dev/video{device}")
    if not node.exists():
        raise SourceError(f"no camera {node}; {_what_is_there()}", "not found")


def _what_is_there() -> str:
    devices = camera_devices()
    if devices:
        return f"there are {', '.join(devices)}"
    return "this machine has no /dev/video* device at all; without a camera try `source` demo://street"
