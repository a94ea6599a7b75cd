"""Keep the picture of every record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgeseg.errors import SinkError
from edgeseg.runtime.alarms.actions.base import AlarmAction
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.own import keep_picture

__all__ = ["SnapshotAction"]


class SnapshotAction(AlarmAction):
    """Writer of ``SOURCE-FRAME-ALARM-on.png`` and ``-off.png``."""

    def __init__(self, folder: Path, painter: Painter, overwrite: bool) -> None:
        super().__init__()
        self._folder, self._painter, self._overwrite = folder, painter, overwrite
        self.description = f"snapshots in {folder}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{folder} cannot be created: {error.strerror}") from error

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Keep the picture of a result. Raises SinkError: it cannot be written."""
        if result is None:
            return
        state = "on" if record["on"] else "off"
        parts = (
            record["source"],
            f"{record['frame']:06d}",
            re.sub(r"\W+", "-", record["alarm"]).strip("-")[:60],
            state,
        )
        name = "-".join(re.sub(r"[^\w.-]+", "_", part) for part in parts if part)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            keep_picture(self._folder / f"{name}.png", self._painter.picture(result), overwrite=self._overwrite)
        except SinkError:
            self.lost += 1
            raise
        except OSError as error:
            self.lost += 1
            raise SinkError(f"{self._folder} cannot be written: {error.strerror}; free space") from error
        self.done += 1
