"""The contract of a source. End of stream, "no frame yet" and "broken" are three different things."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Mapping

from edgeseg.runtime.frame import Frame

__all__ = ["EndOfStream", "FrameSource"]


class EndOfStream(Exception):
    """The source has no more frames. Not an error."""


class FrameSource(ABC):
    """A stream of frames; a context manager that opens the device on entry. After ``close`` it may be opened again:
    cameras and streams go on counting with ``Frame.index`` then, what is stored or rendered shows the same again.

    Attributes:
        description: for people, e.g. ``"camera /dev/video0, 640x480"``.
        is_live: frames arrive by themselves, so that the latest one matters; stored frames all matter.
        fps: frames per second that the source announces; 0 where it does not.
        label_classes: class names of the frames' ground truth; None where there is none.
    """

    description: str
    is_live: bool
    fps: float = 0.0
    label_classes: tuple[str, ...] | None = None

    @abstractmethod
    def open(self) -> None:
        """Open the device or file. Raises SourceError."""

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame, or None when none has come yet (call again).

        Raises:
            EndOfStream: there are no more frames.
            SourceError: the source is broken.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the device. May be called twice."""

    def lost_frames(self) -> Mapping[str, int]:
        """Frames that it produced but ``read`` never gave, since it was made, by cause (``state.DROP_CAUSES``)."""
        return {}

    def abandon(self) -> None:  # noqa: B027 - most have nothing outside their thread
        """End what runs outside, from any thread: nobody waits any longer for ``close``."""

    def mend(self, kind: str) -> bool:
        """Remove the cause of a failure of this ``SourceError.kind``, if that can be; whether anything was done."""
        return False

    def __enter__(self) -> FrameSource:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
