"""Agreement of the running graph with a higher precision of the same network, on the frames of the field."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable

import numpy as np

from edgeseg.metrics import ConfusionMatrix

__all__ = ["LEAST_AGREEMENT", "ShadowAgreement"]

LEAST_AGREEMENT = 0.8
"""IoU of the two precisions' class maps. The shipped model's INT8 graph has 0.85 and more in every class that is judged
(thin poles and far pedestrians are lowest), on four rendered streets and CamVid's val split. Reports of bundles say it
for all classes together only, 0.992, which is no measure for thin things."""
WINDOW = 200
_AT_LEAST = 10
_RARE = 0.002
_RECOVERED = 0.02


class ShadowAgreement:
    """Counts agreement per class, since the start and over the latest frames, and says when a class falls.

    Args:
        classes: names.
        tell: takes (level, text) when a class falls below ``least`` and when it has recovered by 0.02 more. Classes
            with less than 0.2 % of the window's pixels, and windows of less than 10 frames, are not judged.
        least: IoU over the window, 0-1.
        window: frames.

    Attributes:
        frames: compared so far.
        confusion: since the start; row = shadow, column = running graph.
        low: classes that are below ``least`` now.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        tell: Callable[[str, str], None],
        least: float = LEAST_AGREEMENT,
        window: int = WINDOW,
    ) -> None:
        self._classes, self._tell, self._least = classes, tell, least
        self._window: deque[np.ndarray] = deque(maxlen=window)
        self._sums = np.zeros((3, len(classes)), np.int64)
        self.confusion = ConfusionMatrix(len(classes))
        self.frames = 0
        self.low: frozenset[str] = frozenset()

    def add(self, running: np.ndarray, shadow: np.ndarray) -> None:
        """Compare two hxw uint8 class maps of one frame."""
        one = ConfusionMatrix(len(self._classes))
        one.update(running, shadow)
        self.confusion.counts += one.counts
        self.frames += 1
        parts = np.array([np.diag(one.counts), one.counts.sum(1), one.counts.sum(0)])
        gone = self._window[0] if len(self._window) == self._window.maxlen else np.zeros_like(parts)
        self._window.append(parts)
        self._sums = self._sums + parts - gone
        self._judge()

    def agreement(self) -> np.ndarray:
        """(C,) float64 IoU over the window; NaN for classes that do not occur."""
        hits, shadow, running = self._sums
        union = shadow + running - hits
        return np.asarray(np.divide(hits, union, out=np.full(len(union), np.nan), where=union > 0))

    def to_json(self) -> dict[str, Any]:
        """Return ``frames``, ``window`` and ``total`` IoU per class that occurs, and the classes that are ``low``."""
        return {
            "frames": self.frames,
            "window": self._named(self.agreement()),
            "total": self._named(self.confusion.iou()),
            "least": self._least,
            "low": sorted(self.low),
        }

    def _named(self, iou: np.ndarray) -> dict[str, float]:
        return {name: round(float(value), 5) for name, value in zip(self._classes, iou) if np.isfinite(value)}

    def _judge(self) -> None:
        if len(self._window) < min(_AT_LEAST, self._window.maxlen or 1):
            return
        frequent = self._sums[1:].max(0) >= _RARE * self._sums[1].sum()
        for name, value, judged in zip(self._classes, self.agreement(), frequent):
            if judged and name not in self.low and value < self._least:
                self.low |= {name}
                self._tell(
                    "warning",
                    f"{name} agrees with the higher precision by {100 * value:.1f} % over {len(self._window)} shadow "
                    f"frames, less than {100 * self._least:g} %: record frames and calibrate again",
                )
            elif name in self.low and value >= self._least + _RECOVERED:
                self.low -= {name}
                self._tell("info", f"{name} agrees with the higher precision again, by {100 * value:.1f} %")
