"""Read a recording: one SQLite file with the frames of a run, their class maps, and what was dropped between them.

Nothing in it is unpickled, and a reader trusts nothing in it: the tables must be exactly ours, and the size of a
picture is looked up in its header before anything is decoded.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from edgeseg.errors import SourceError, SpecError, UsageError, first_line, require
from edgeseg.spec import ModelSpec

__all__ = [
    "APPLICATION_ID",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SCHEMA",
    "TABLES",
    "UNRECORDED",
    "RecordedFrame",
    "Recording",
]

APPLICATION_ID = 0x45445352
SCHEMA = 2
TABLES = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "sources": (
        "CREATE TABLE sources (name TEXT PRIMARY KEY, description TEXT NOT NULL, live INTEGER NOT NULL, "
        "fps REAL NOT NULL)"
    ),
    "frames": (
        "CREATE TABLE frames (id INTEGER PRIMARY KEY, source TEXT NOT NULL, number INTEGER NOT NULL, "
        "captured_ns INTEGER NOT NULL, media_ns INTEGER, duration_ns INTEGER NOT NULL, name TEXT NOT NULL, "
        "image BLOB NOT NULL, ids BLOB NOT NULL, laps TEXT NOT NULL, UNIQUE (source, number))"
    ),
    "drops": (
        "CREATE TABLE drops (id INTEGER PRIMARY KEY, source TEXT NOT NULL, first INTEGER NOT NULL, "
        "count INTEGER NOT NULL, cause TEXT NOT NULL, at REAL NOT NULL)"
    ),
}
_TABLES_OF_SCHEMA_1 = {
    **TABLES,
    "sources": "CREATE TABLE sources (name TEXT PRIMARY KEY, description TEXT NOT NULL)",
    "frames": (
        "CREATE TABLE frames (id INTEGER PRIMARY KEY, source TEXT NOT NULL, number INTEGER NOT NULL, "
        "captured_ns INTEGER NOT NULL, name TEXT NOT NULL, image BLOB NOT NULL, ids BLOB NOT NULL, laps TEXT NOT NULL, "
        "UNIQUE (source, number))"
    ),
}
"""Without the sources' own times."""
UNRECORDED = "unrecorded"
"""Cause of a gap that the run's counters do not explain: the frame was segmented, but the recorder missed it."""

MAX_PIXELS = 1 << 26
"""8192x8192: larger pictures are neither recorded nor decoded."""
MAX_BYTES = 1 << 28
_MAX_TEXT = 1 << 16
_LATEST_NS = 1 << 62
_MOST_SOURCES = 1024
_PNG = b"\x89PNG\r\n\x1a\n"
_SOF = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))


@dataclass(frozen=True)
class RecordedFrame:
    """One frame as it was recorded.

    Attributes:
        image: HxWx3 uint8 BGR.
        index: number of the frame within its source; see ``Frame``.
        captured_ns: capture time on the recorder's clock.
        name: see ``Frame``.
        source: name of its source in the recorded run.
        media_ns: when it is shown: in the source's own time; of a live source, its capture time from the first
            recorded frame on; None for pictures without a time.
        duration_ns: see ``Frame``.
    """

    image: np.ndarray
    index: int
    captured_ns: int
    name: str
    source: str
    media_ns: int | None = None
    duration_ns: int = 0


class Recording:
    """A recording, opened for reading. Nothing is written to it. May be used from several threads, one at a time.

    Args:
        path: the file; one whose recorder was killed has a ``-wal`` file beside it that belongs to it.
        source: only this source of the recorded run; None for all of them.

    Attributes:
        spec: spec of the recorded model.
        meta: ``"spec"``, ``"engine"``, ``"edgeseg"``, ``"started_utc"`` as text.
        sources: description by name.
        order: row ids of the frames in the order of their capture.
        drops: frames that were not recorded, by cause (``DROP_CAUSES`` and ``UNRECORDED``).
        fps: frames per second of a stored source as it said, 0 where it did not; else of all chosen sources
            together, from their capture times, 0 for a single frame.

    Raises:
        SourceError: the file is missing, damaged, from a newer edgeseg, or no recording.
        UsageError: it has no source of that name.
    """

    def __init__(self, path: Path, source: str | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.is_file():
            raise SourceError(f"{path} is not there; 'edgeseg run --sink record://{path.name}' writes a recording")
        try:
            self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        try:
            self._check_form()
            self._read_head(source)
        except BaseException:
            self._database.close()
            raise

    def frame(self, row: int) -> RecordedFrame:
        """Read the frame of a row id from ``order``.

        Raises:
            SourceError: the frame is damaged.
        """
        found = self._blob_row("image", "id = ?", (row,))
        if found is None:
            raise SourceError(f"{self.path} is damaged: row {row} is gone")
        source, number, captured_ns, media_ns, duration_ns, name, data = found
        numbers = all(isinstance(value, int) for value in (number, captured_ns, media_ns or 0, duration_ns))
        numbers = numbers and number >= 0 and 0 <= (media_ns or 0) < _LATEST_NS and 0 <= duration_ns < _LATEST_NS
        if not (numbers and _is_plain_name(name) and source in self.sources):
            raise SourceError(f"{self.path} has a frame with a malformed name or number; it was not written by edgeseg")
        if media_ns is None and source in self._live:
            media_ns = captured_ns - self._first_ns
        picture = self._decoded(data, colour=True)
        return RecordedFrame(picture, number, captured_ns, name, source, media_ns, duration_ns)

    def ids(self, index: int, source: str) -> np.ndarray | None:
        """Read the class ids that were recorded with a frame; None where it was not recorded.

        Args:
            index: number of the frame within its source.
            source: name of its source.

        Returns:
            hxw uint8 at the network's size.

        Raises:
            SourceError: the class ids are damaged.
        """
        found = self._blob_row("ids", "source = ? AND number = ?", (source, index))
        return None if found is None else self._decoded(found[-1], colour=False)

    def close(self) -> None:
        """Release the file. May be called twice."""
        self._database.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_form(self) -> None:
        self._rows("PRAGMA trusted_schema = OFF")
        if self._rows("PRAGMA application_id") != [(APPLICATION_ID,)]:
            raise SourceError(f"{self.path} is a database of another program, not a recording of edgeseg")
        ((version,),) = self._rows("PRAGMA user_version")
        if version > SCHEMA:
            raise SourceError(
                f"{self.path} has recording schema {version}, this edgeseg reads up to {SCHEMA}; upgrade edgeseg"
            )
        self._has_times = version > 1
        known = TABLES if self._has_times else _TABLES_OF_SCHEMA_1
        tables = self._rows("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 100")
        if sorted(tables) != sorted(("table", name, sql) for name, sql in known.items()):
            raise SourceError(f"{self.path} does not have the tables of a recording; it was not written by edgeseg")

    def _read_head(self, source: str | None) -> None:
        small = f"length({{}}) <= {_MAX_TEXT}"
        self.meta = {
            str(key): str(value)
            for key, value in self._rows(f"SELECT key, value FROM meta WHERE {small.format('value')} LIMIT 100")
        }
        try:
            self.spec = ModelSpec.from_json(json.loads(self.meta["spec"]))
        except (KeyError, ValueError, RecursionError, SpecError) as error:
            raise SourceError(f"{self.path} says nothing readable of its model: {first_line(error)}") from error
        times = "CAST(live AS INTEGER), CAST(fps AS REAL)" if self._has_times else "1, 0.0"
        sources = self._rows(
            f"SELECT name, description, {times} FROM sources WHERE {small.format('description')} LIMIT {_MOST_SOURCES}"
        )
        self.sources = {str(name): str(what) for name, what, _, _ in sources}
        self._live = {str(name) for name, _, live, _ in sources if live}
        if not all(name == "" or _is_plain_name(name) for name in self.sources):
            raise SourceError(f"{self.path} has a source with a malformed name; it was not written by edgeseg")
        if source is not None and source not in self.sources:
            raise UsageError(
                f"{self.path} has no source {source!r}; it has {', '.join(map(repr, sorted(self.sources)))}"
            )
        where, values = ("WHERE source = ?", (source,)) if source is not None else ("", ())
        frames = f"SELECT id, CAST(captured_ns AS INTEGER) FROM frames {where} ORDER BY captured_ns, id"
        found = self._rows(frames, values)
        self.order = [int(row) for row, _ in found]
        self._first_ns = int(found[0][1]) if found else 0
        span = found[-1][1] - self._first_ns if found else 0
        stored = [
            float(fps) if 0 <= fps < 1e6 else 0.0
            for name, _, live, fps in sources
            if not live and source in (None, name)
        ]
        by_captures = round((len(found) - 1) / span * 1e9, 3) if span else 0.0
        self.fps = stored[0] if len(stored) == 1 and (source is not None or len(sources) == 1) else by_captures
        drops = f"SELECT substr(cause, 1, 64), CAST(SUM(count) AS INTEGER) FROM drops {where} GROUP BY 1 LIMIT 100"
        self.drops = Counter({str(cause): int(count) for cause, count in self._rows(drops, values)})

    def _blob_row(self, column: str, where: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        times = "media_ns, duration_ns" if self._has_times else "NULL, 0"
        rows = self._rows(
            f"SELECT source, number, captured_ns, {times}, name, {column} FROM frames WHERE {where} "
            f"AND length({column}) <= {MAX_BYTES} AND length(name) <= 255 AND length(source) <= 255",
            values,
        )
        return rows[0] if rows else None

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._database.execute(sql, tuple(values)).fetchall()
        except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> SourceError:
        return SourceError(f"{self.path} is damaged or no recording ({first_line(error)}); copy it again")

    def _decoded(self, data: Any, colour: bool) -> np.ndarray:
        cv2 = require("cv2", "opencv")
        size = picture_size(data) if isinstance(data, bytes) else None
        if size is None:
            raise SourceError(f"{self.path} holds something that is neither PNG nor JPEG; it is damaged")
        if size[0] * size[1] > MAX_PIXELS:
            raise SourceError(f"{self.path} holds a picture of {size[0]}x{size[1]}, more than {MAX_PIXELS} pixels")
        try:
            flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error as error:
            raise self._damaged(error) from error
        if picture is None:
            raise SourceError(f"{self.path} holds a picture that cannot be decoded; it is damaged")
        return np.asarray(picture)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Read (width, height) from a PNG's or JPEG's header, without decoding; None for anything else."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker in _SOF:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        if marker < 0xC0 or marker > 0xFE or 0xD0 <= marker <= 0xD9:
            return None  # fill bytes and marks without a length: a decoder might see another size than we
        at += 2 + max(2, length)
    return None


def _is_plain_name(name: object) -> bool:
    """Tell whether a name may become a file's: sinks name files by it, and a path would lead out of their folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\")
