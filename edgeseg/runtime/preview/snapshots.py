"""Full-resolution pictures of a run, kept on request."""

from __future__ import annotations

import re
import time
from pathlib import Path

from edgeseg.errors import SinkError
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.own import keep_picture

__all__ = ["FILE_NAME", "MAX_SNAPSHOTS", "Snapshots"]

MAX_SNAPSHOTS = 500
"""Per run, so that a page that is left alone with a stuck key does not fill a board's card."""

FILE_NAME = r"[A-Za-z0-9_-]{1,120}\.png"
"""What snapshots are called, as a regular expression."""


class Snapshots:
    """Writes snapshots into a folder and hands out just those.

    Args:
        folder: made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()
        self.taken = 0

    def take(self, result: Segmentation) -> tuple[str, str]:
        """Write a frame and its class ids (HxW uint8), both PNG at the frame's size; their file names.

        Raises:
            SinkError: there are MAX_SNAPSHOTS, or the folder cannot be written.
        """
        if self.taken >= MAX_SNAPSHOTS:
            raise SinkError(f"{MAX_SNAPSHOTS} snapshots were taken in this run; start it again to take more")
        self.taken += 1
        source = re.sub(r"[^A-Za-z0-9_-]", "_", result.frame.source)[:40]
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{source}-{result.frame.index:06d}-{self.taken:03d}"
        names = f"{stem}-frame.png", f"{stem}-mask.png"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            keep_picture(self.folder / names[0], result.frame.image)
            keep_picture(self.folder / names[1], result.classes)
        except OSError as error:
            raise SinkError(f"no snapshot in {self.folder}: {error.strerror}; free space or name another") from error
        self._written.update(names)
        return names

    def read(self, name: str) -> bytes | None:
        """Read the file of that name if this run wrote it, else None. Raises SinkError when it cannot be read."""
        if not re.fullmatch(FILE_NAME, name) or name not in self._written:
            return None
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise SinkError(f"snapshot {name} cannot be read: {error.strerror}") from error
