"""Write a line of JSON per record."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from edgeseg.errors import SinkError
from edgeseg.runtime.alarms.actions.base import MOST_WAITING, AlarmAction
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.jsonl import is_record
from edgeseg.runtime.sinks.lines import LineFile

__all__ = ["LinesAction"]


class LinesAction(AlarmAction):
    """Writer of a line per record; while the file cannot be written, up to 256 wait."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        super().__init__()
        self._file = LineFile(path, b"", b"{", is_record, overwrite=overwrite)
        self._waiting: deque[bytes] = deque()
        self.description = f"JSON lines in {path}"

    def act(self, record: dict[str, Any], result: Segmentation | None) -> None:
        """Write the record, after those that wait. Raises SinkError: the file cannot be written."""
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(json.dumps(record).encode() + b"\n")
        self._flush()

    def retry(self) -> None:
        """Write those that wait."""
        try:
            self._flush()
        except SinkError:
            return  # told when the record came

    def close(self, deadline: Deadline) -> None:
        """Write those that wait, and close the file. Raises SinkError: records are lost."""
        try:
            if self._waiting:
                self._flush()
        finally:
            self.lost += len(self._waiting)
            self._waiting.clear()
            self._file.close()

    def _flush(self) -> None:
        while self._waiting:
            self._file.append(self._waiting[0])
            self._waiting.popleft()
            self.done += 1
