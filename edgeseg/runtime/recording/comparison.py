"""Compare a replay with what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.errors import UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.resizing import class_map_at
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.recording.file import Recording
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.spec import ModelSpec

__all__ = ["ReplayComparison"]


class ReplayComparison(FrameSink):
    """Sink of a replayed run that compares new class maps with the recorded ones.

    Args:
        path: the recording that is replayed.
        spec: spec of the model that runs now.
        source: the source of the recorded run that is replayed; None to go by ``Frame.source``, which a recording
            of one source does not need.

    Attributes:
        confusion: row = recorded class, column = class now.
        frames: frames that were compared.

    Raises:
        SourceError: the recording cannot be read.
        UsageError: the models have different classes, or there is no such source.
    """

    def __init__(self, path: Path, spec: ModelSpec, source: str | None = None) -> None:
        self._recording = Recording(path, source)
        if self._recording.spec.classes != spec.classes:
            self._recording.close()
            raise UsageError(
                f"{path} was recorded with the classes {', '.join(self._recording.spec.classes)}, but the model has "
                f"{', '.join(spec.classes)}; replay it with a model of the same classes"
            )
        sources = self._recording.sources
        self._only = source or (next(iter(sources)) if len(sources) == 1 else "")
        self._classes = spec.classes
        self.confusion = ConfusionMatrix(len(spec.classes))
        self.frames = 0
        self.description = f"comparison with {path}"

    def write(self, result: Segmentation) -> None:
        """Count a class map against the recorded one; a frame that was not recorded is skipped.

        Raises:
            SourceError: the recorded class map is damaged.
        """
        recorded = self._recording.ids(result.frame.index, self._source_of(result.frame.source))
        if recorded is None:
            return
        self.confusion.update(class_map_at(result.ids, (recorded.shape[0], recorded.shape[1])), recorded)
        self.frames += 1

    def close(self) -> None:
        """Release the recording."""
        self._recording.close()

    def to_json(self) -> dict[str, Any]:
        """Return ``frames``, ``agreement`` (share of pixels), ``miou`` and ``iou`` per class; None if unknown."""
        iou = self.confusion.iou()
        return {
            "frames": self.frames,
            "agreement": _finite(self.confusion.pixel_accuracy()),
            "miou": _finite(self.confusion.miou()),
            "iou": {name: _finite(float(value)) for name, value in zip(self._classes, iou)},
        }

    def _source_of(self, name: str) -> str:
        """Return the recorded name of a frame's source, whatever the replaying run calls it."""
        return self._only or name


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
