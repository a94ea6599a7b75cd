"""One CSV row per frame."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Sequence

from edgeseg.files import text_of
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.lines import LineFile
from edgeseg.spec import ModelSpec

__all__ = ["CsvSink"]

_FORMULA = re.compile(r"^\s*[=+@\t-]")
_STAGES = ("preprocess", "infer", "postprocess", "frame")


class CsvSink(FrameSink):
    """Appends a row per frame under a header that is written once.

    Columns: ``source, frame, name, time_s`` (seconds in a stored video from its first frame), ``STAGE_ms`` for
    preprocess, infer, postprocess and frame, ``area CLASS`` (share of the picture, 0-1) and ``confidence CLASS`` (0-1)
    for each class. What a run does not know stays empty.

    Raises:
        ForeignFileError: the file has the header of another model or program, and ``overwrite`` is not set.
        SinkError: it cannot be opened.
    """

    def __init__(self, path: Path, spec: ModelSpec, *, overwrite: bool = False) -> None:
        self._class_count = len(spec.classes)
        stages = [f"{stage}_ms" for stage in _STAGES]
        shares = [f"{kind} {name}" for kind in ("area", "confidence") for name in spec.classes]
        self._columns = ["source", "frame", "name", "time_s", *stages, *shares]
        self._lines = LineFile(path, _row(self._columns), is_line=self._is_row, overwrite=overwrite)
        self.description = f"CSV rows in {text_of(path)}"

    def write(self, result: Segmentation) -> None:
        """Append a row. Raises SinkError."""
        laps = [f"{result.laps_ms[stage]:.3f}" if stage in result.laps_ms else "" for stage in _STAGES]
        areas = [f"{share:.5f}" for share in result.area[: self._class_count]]
        confidences = [""] * self._class_count
        if result.confidence is not None:
            confidences = [f"{share:.4f}" for share in result.confidence[: self._class_count]]
        frame = result.frame
        time_s = "" if frame.media_ns is None else f"{frame.media_ns / 1e9:.6f}"
        self._lines.append(
            _row([frame.source, str(frame.index), text_of(frame.name), time_s, *laps, *areas, *confidences])
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()

    def _is_row(self, line: bytes) -> bool:
        """Whether a row without its end is whole: it has all cells, and the last one all digits or none."""
        cells = next(csv.reader([line.decode(errors="replace")]), [])
        return len(cells) == len(self._columns) and re.fullmatch(r"|\d\.\d{4}", cells[-1]) is not None


def _row(cells: Sequence[str]) -> bytes:
    """One line; a line end within a cell becomes a space, so that a row is a line.

    A name that a spreadsheet would run as a formula gets a quote in front.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        [_FORMULA.sub(r"'\g<0>", " ".join(cell.splitlines())) for cell in cells]
    )
    return text.getvalue().encode(errors="backslashreplace")  # names of files may be any bytes
