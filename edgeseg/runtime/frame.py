"""What flows through the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Frame", "Segmentation"]


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image: HxWx3 uint8 BGR. Its memory is used again once nobody refers to it, so keep the array, not its address.
        index: counts the frames that the source produced, dropped ones included, from 0.
        captured_ns: ``time.perf_counter_ns`` when it was captured, or, where the source cannot say, when it arrived.
        name: file name without suffix for stored images, else the index with leading zeros.
        label: HxW uint8 ground truth where the source knows it, else None.
        source: name of the source within the run.
        media_ns: when it is shown in a stored source's own time, from its first frame; None where it has none.
        duration_ns: for how long it is shown there; 0 where the source does not say.
        stamp_ns: when it was captured, in nanoseconds since 1970, where the source knows that; else None.
        frame_id: what ROS calls the place of the camera; empty where there is none.
    """

    image: np.ndarray
    index: int
    captured_ns: int
    name: str
    label: np.ndarray | None = None
    source: str = ""
    media_ns: int | None = None
    duration_ns: int = 0
    stamp_ns: int | None = None
    frame_id: str = ""

    @property
    def at_ns(self) -> int:
        """Return when it happened: in the source's own time where it has one, else when it was captured."""
        return self.captured_ns if self.media_ns is None else self.media_ns


@dataclass(frozen=True)
class Segmentation:
    """A frame with its class map. Sinks share it between threads; nobody writes into its arrays.

    Attributes:
        frame: what was segmented.
        ids: hxw uint8 class ids at the network's size.
        laps_ms: milliseconds per stage for this frame.
        class_count: how many classes the model has.
        confidence: (C,) float32, the mean probability of each class where it won (0 where it is absent); None for
            graphs without scores.
        resize: rule by which the frame was brought to the network's size, of ``resizing.RULES``.
    """

    frame: Frame
    ids: np.ndarray
    laps_ms: dict[str, float]
    class_count: int = 256
    confidence: np.ndarray | None = None
    resize: str = "stretch"

    @cached_property
    def classes(self) -> np.ndarray:
        """HxW uint8 class ids at the frame's size, made when the first sink asks for it."""
        from edgeseg.resizing import RULES

        height, width = self.frame.image.shape[:2]
        return RULES[self.resize].class_map(self.ids, (height, width))

    @cached_property
    def area(self) -> np.ndarray:
        """(C,) float64 share of each class in the picture, 0-1."""
        import cv2
        import numpy as np

        counts = cv2.calcHist([self.ids], [0], None, [256], [0, 256])
        return np.asarray(counts.ravel()[: self.class_count] / np.float64(self.ids.size))
