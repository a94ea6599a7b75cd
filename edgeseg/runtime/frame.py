"""What flows through the runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Frame", "Segmentation"]


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image: HxWx3 uint8 BGR.
        index: counts the frames that the source produced, dropped ones included, from 0.
        captured_ns: ``time.perf_counter_ns`` when it arrived.
        name: file name without suffix for stored images, else the index with leading zeros.
        label: HxW uint8 ground truth where the source knows it, else None.
    """

    image: np.ndarray
    index: int
    captured_ns: int
    name: str
    label: np.ndarray | None = None


@dataclass(frozen=True)
class Segmentation:
    """A frame with its class map.

    Attributes:
        frame: what was segmented.
        classes: HxW uint8 class ids at the frame's size; valid until the next frame.
        laps_ms: milliseconds per stage for this frame.
    """

    frame: Frame
    classes: np.ndarray
    laps_ms: dict[str, float]
