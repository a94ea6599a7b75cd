"""Give edgeseg frames from your own code: here a test pattern, else a frame grabber's SDK.

python examples/own_source.py
"""

import time
from typing import Optional

import numpy as np

import edgeseg


class Pattern(edgeseg.FrameSource):
    """A bar that moves to the right."""

    description = "a moving bar"
    is_live = False  # True for a camera: then the latest frame matters, and old ones are dropped and counted

    def open(self) -> None:
        """Open the device. Raise edgeseg.SourceError where that fails; it is opened again later."""
        self._index = 0

    def read(self) -> Optional[edgeseg.Frame]:
        """Return the next frame, or None when none has come yet."""
        if self._index == 20:
            raise edgeseg.EndOfStream
        image = np.zeros((240, 320, 3), np.uint8)
        image[:, 10 * self._index : 10 * self._index + 40] = 200
        self._index += 1
        return edgeseg.Frame(image, self._index - 1, time.perf_counter_ns(), f"{self._index - 1:06d}")

    def close(self) -> None:
        """Release the device. May be called twice."""


summary = edgeseg.run(edgeseg.RunConfig(), sources=[Pattern()], on_result=lambda result: print(result.frame.name))
print(f"{summary['frames']} frames")
