"""Record frames and class maps (``record://FILE.edgerec``)."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from edgeseg import __version__
from edgeseg.errors import ForeignFileError, SinkError, UsageError, first_line, require
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.recording.file import APPLICATION_ID, MAX_PIXELS, SCHEMA, TABLES, UNRECORDED
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.own import refuse_unless_plain
from edgeseg.runtime.state import DROP_CAUSES, RunState
from edgeseg.spec import ModelSpec

__all__ = ["RecordSink"]

_FORMATS = ("png", "jpeg")
_JPEG_QUALITY = 95
_LONGEST_NAME = 240


class RecordSink(FrameSink):
    """Sink that records every result into one SQLite file; see ``Recording``.

    A result for which ``write`` returned is in the file also after a ``kill -9``; a power cut may take the latest
    seconds. While it records, ``FILE-wal`` and ``FILE-shm`` belong to the file; ``close`` leaves the one file.

    Drops: a gap between two recorded indices of a source is split by what the run counted for that source since the
    last gap, in the order of ``DROP_CAUSES``. The counters run ahead of this sink, so which of two neighbouring gaps a
    cause belongs to is a guess, but nothing is counted twice. Frames of a gap that the counters do not explain were
    segmented and missed by this recorder (``UNRECORDED``). ``close`` adds what came after the latest recorded frame,
    so that afterwards the recorded drops of a source are the run's own, if the run has ended.

    Args:
        path: path of the file, which must be new.
        spec: spec of the model.
        engine: description of the engine.
        state: state of the run, for the causes of drops and the descriptions of sources.
        picture: ``"png"``, lossless, or ``"jpeg"``, quality 95.
        overwrite: a file that is there is removed first.

    Raises:
        UsageError: there is no such picture format.
        ForeignFileError: the file exists.
        SinkError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        engine: str,
        state: RunState,
        picture: str = "png",
        *,
        overwrite: bool = False,
    ) -> None:
        if picture not in _FORMATS:
            raise UsageError(f"a recording holds {' or '.join(_FORMATS)}, got {picture!r}")
        self._path, self._format, self._state = path, picture, state
        self._gaps: dict[str, _Gaps] = {}
        self.description = f"recording {self._path} ({self._format})"
        refuse_unless_plain(self._path)
        self._take_name(overwrite)
        self._database: sqlite3.Connection | None = None
        self._closed = False
        meta = {
            "spec": json.dumps(spec.to_json()),
            "engine": engine,
            "edgeseg": __version__,
            "started_utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        }
        try:
            self._create(meta)
        except sqlite3.Error as error:
            self._forget()
            self._path.unlink()
            raise SinkError(f"{self._path} cannot be made ({first_line(error)}); name another file") from error

    def write(self, result: Segmentation) -> None:
        """Record a frame, its class map and the drops before it in one transaction.

        Raises:
            SinkError: the frame is too large, or the file cannot be written.
        """
        frame = result.frame
        if frame.image.shape[0] * frame.image.shape[1] > MAX_PIXELS:
            raise SinkError(f"{self._path}: a frame of {frame.image.shape} is too large; at most {MAX_PIXELS} pixels")
        row = (
            frame.source,
            frame.index,
            frame.captured_ns,
            None if frame.media_ns is None else max(0, frame.media_ns),
            max(0, frame.duration_ns),
            _recordable(frame.name, frame.index),
            self._encoded(frame.image),
            _png(result.ids),
            json.dumps({stage: round(ms, 3) for stage, ms in result.laps_ms.items()}),
        )

        def insert(database: sqlite3.Connection) -> None:
            self._note_source(database, frame.source)
            database.execute(
                "INSERT INTO frames (source, number, captured_ns, media_ns, duration_ns, name, image, ids, laps) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            self._note_drops(database, frame.source, gaps.before(frame.index, self._dropped(frame.source)))

        gaps = self._gaps.setdefault(frame.source, _Gaps()).copy()
        self._commit(insert)
        self._gaps[frame.source] = gaps

    def close(self) -> None:
        """Record the drops after the latest frame and leave one file. May be called twice.

        Raises:
            SinkError: the file cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        self._commit(self._note_rest)
        assert self._database is not None
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            self._forget()

    def _take_name(self, overwrite: bool) -> None:
        """Make an empty file where nobody has one, and refuse files that SQLite would take for ours beside it."""
        beside = [self._path.with_name(self._path.name + ending) for ending in ("", "-wal", "-shm", "-journal")]
        try:
            for path in beside:
                if overwrite and path.is_file():
                    path.unlink()
                if path.exists() or path.is_symlink():
                    raise FileExistsError(errno.EEXIST, "", str(path))
            os.close(os.open(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError as error:
            raise ForeignFileError(
                f"{error.filename} exists; a recording never replaces another file, so name a new one, "
                "or pass `overwrite`"
            ) from error
        except OSError as error:
            raise SinkError(f"{self._path} cannot be made: {error.strerror}; name another file") from error

    def _create(self, meta: dict[str, str]) -> None:
        self._database = self._connected()
        self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._database.execute(f"PRAGMA user_version = {SCHEMA}")
        with self._database:
            self._database.execute("BEGIN")
            for sql in TABLES.values():
                self._database.execute(sql)
            self._database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())

    def _connected(self) -> sqlite3.Connection:
        # mode=rw: a file that was moved away is an error, and not begun anew without its tables.
        address = f"{self._path.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _commit(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Run one transaction; after a failure the file is closed, and the next call opens it again."""
        try:
            if self._database is None:
                self._database = self._connected()
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                change(self._database)
        except sqlite3.Error as error:
            self._forget()
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> SinkError:
        return SinkError(
            f"{self._path} cannot be written ({first_line(error)}); what was recorded so far stays readable: free "
            "space or pass another `sinks`"
        )

    def _forget(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _encoded(self, image: np.ndarray) -> bytes:
        if self._format == "png":
            return _png(image)
        cv2 = require("cv2", "opencv")
        return _encoded(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])

    def _dropped(self, source: str) -> Counter[str]:
        state = self._state.sources.get(source)
        return Counter() if state is None else Counter(state.dropped)

    def _note_source(self, database: sqlite3.Connection, name: str) -> None:
        state = self._state.sources.get(name)
        database.execute(
            "INSERT OR IGNORE INTO sources VALUES (?, ?, ?, ?)",
            (
                name,
                _text(state.description if state else ""),
                state is not None and state.is_live,
                state.announced_fps if state else 0.0,
            ),
        )

    def _note_drops(self, database: sqlite3.Connection, source: str, drops: Iterator[tuple[int, int, str]]) -> None:
        rows = [(source, first, count, cause, time.time()) for first, count, cause in drops]
        database.executemany("INSERT INTO drops (source, first, count, cause, at) VALUES (?, ?, ?, ?, ?)", rows)

    def _note_rest(self, database: sqlite3.Connection) -> None:
        """Record drops after the latest recorded frame, and those of sources of which no frame was recorded."""
        for name, state in list(self._state.sources.items()):
            gaps = self._gaps.setdefault(name, _Gaps())
            self._note_source(database, name)
            self._note_drops(database, name, gaps.before(max(state.produced, gaps.next), self._dropped(name)))


class _Gaps:
    """Missing indices of one source, and their causes as far as the run's counters say."""

    def __init__(self) -> None:
        self.next = 0
        self._attributed: Counter[str] = Counter()

    def copy(self) -> _Gaps:
        copied = _Gaps()
        copied.next, copied._attributed = self.next, Counter(self._attributed)
        return copied

    def before(self, index: int, dropped: Counter[str]) -> Iterator[tuple[int, int, str]]:
        """Yield (first index, count, cause) of what is missing before ``index``; ``index`` itself was recorded."""
        missing = index - self.next
        first, self.next = self.next, max(self.next, index + 1)
        for cause in DROP_CAUSES:
            count = min(missing, dropped[cause] - self._attributed[cause])
            if count > 0:
                yield first, count, cause
                self._attributed[cause] += count
                first, missing = first + count, missing - count
        if missing > 0:
            yield first, missing, UNRECORDED


def _text(said: str) -> str:
    """Return text that SQLite takes: no halves of a character, which stand for bytes of a file name."""
    return said.encode(errors="backslashreplace").decode()


def _recordable(name: str, index: int) -> str:
    """Return a frame's name as ``Recording`` takes it; a name that changes gets the index, so that no two become one.

    Names of files may hold any bytes.
    """
    plain = "".join(sign if sign.isprintable() and sign not in "/\\" else "_" for sign in name[:_LONGEST_NAME])
    return plain if plain == name and plain not in ("", ".", "..") else f"{plain}~{index}"


def _png(picture: np.ndarray) -> bytes:
    cv2 = require("cv2", "opencv")
    # Level 1: the camera's rate matters more than a tenth of the size.
    return _encoded(picture, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _encoded(picture: np.ndarray, suffix: str, how: list[int]) -> bytes:
    cv2 = require("cv2", "opencv")
    done, data = cv2.imencode(suffix, picture, how)
    if not done:
        raise SinkError(f"an array of shape {picture.shape} {picture.dtype} cannot be recorded as {suffix[1:]}")
    return bytes(data)
