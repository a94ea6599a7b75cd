"""Results of frames: class-id masks as PNG, and a Parquet table with a row per frame."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Mapping, Protocol, Sequence

import numpy as np

from edgeseg.archive.places import Place
from edgeseg.archive.reading import Item
from edgeseg.errors import require
from edgeseg.files import text_of
from edgeseg.runtime.drawing.contours import coco_rle
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.own import is_own_picture, own_png
from edgeseg.spec import ModelSpec

__all__ = ["FORMATS", "WITH_MASKS", "WITH_TABLE", "Results", "mask_name", "opened_results", "stored_rows", "table_name"]

FORMATS = ("png", "parquet", "both")
WITH_MASKS, WITH_TABLE = ("png", "both"), ("parquet", "both")


class Results(Protocol):
    """Keeps what came of the frames of one shard."""

    def add(self, item: Item, result: Segmentation | None) -> None:
        """Take a frame and its class map, None where it has none. Raises SinkError: it cannot be kept."""

    def close(self) -> None:
        """Write what is not written yet. Raises SinkError."""


def mask_name(item: Item) -> str:
    """Return where the mask of a frame is."""
    return f"masks/{item.name}.png"


def table_name(shard: str) -> str:
    """Return where the table of a shard is."""
    return f"frames/{shard}.parquet"


def opened_results(place: Place, shard: str, form: str, spec: ModelSpec) -> list[Results]:
    """Open what keeps the results of a shard.

    Args:
        place: of the archive.
        shard: its name.
        form: one of ``FORMATS``.
        spec: of the model.
    """
    opened: list[Results] = []
    if form in WITH_MASKS:
        opened.append(Masks(place))
    if form in WITH_TABLE:
        opened.append(Table(place, shard, spec))
    return opened


class Masks:
    """``masks/NAME.png``: class ids at the frame's size, as ``edgeseg run`` writes them."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def add(self, item: Item, result: Segmentation | None) -> None:
        """Write a mask. Raises SinkError."""
        if result is not None:
            name = mask_name(item)
            self._place.write_picture(name, own_png(result.classes, Path(name)), is_own_picture)

    def close(self) -> None:
        """Do nothing."""


class Table:
    """``frames/SHARD.parquet``: a row per frame, in the order of the plan.

    Columns: ``source``, ``name``, ``frame`` (its number in the source), ``media_time_s`` (float64, null for pictures),
    ``height`` and ``width`` in pixels, ``area`` (a struct with the share of each class, 0-1), ``confidence`` (the same
    with the mean probability where the class won; null where the graph gives none), ``rle`` (a list of ``class_id``
    and ``counts``, COCO's compressed run lengths of the mask at the frame's size) and ``error``: why there is no
    result; null where there is one.
    """

    def __init__(self, place: Place, shard: str, spec: ModelSpec) -> None:
        require("pyarrow", "parquet")  # before hours of work
        self._place, self._shard, self._classes = place, shard, spec.classes
        self._rows: list[dict[str, Any]] = []

    def add(self, item: Item, result: Segmentation | None) -> None:
        """Take a row."""
        row: dict[str, Any] = {"source": text_of(item.source), "name": text_of(item.name), "frame": item.index}
        row["error"] = text_of(item.error or item.skipped) or None
        if result is not None:
            media_ns = result.frame.media_ns
            row["media_time_s"] = None if media_ns is None else media_ns / 1e9
            row["height"], row["width"] = result.classes.shape
            row["area"] = self._by_class(result.area)
            row["confidence"] = None if result.confidence is None else self._by_class(result.confidence)
            row["rle"] = run_lengths(result.classes)
        self._rows.append(row)

    def close(self) -> None:
        """Write the table, whole or not at all. Raises SinkError, MissingDependencyError."""
        pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
        table = pyarrow.Table.from_pylist(self._rows, schema=_schema(pyarrow, self._classes))
        data = io.BytesIO()
        parquet.write_table(table, data, compression="zstd")
        self._place.write(table_name(self._shard), data.getvalue())

    def _by_class(self, values: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self._classes, values)}


def run_lengths(classes: np.ndarray) -> list[dict[str, Any]]:
    """Encode HxW uint8 class ids as rows have them."""
    return [{"class_id": owner, "counts": runs["counts"]} for owner, runs in coco_rle(classes).items()]


def stored_rows(place: Place, shard: str) -> Mapping[str, Any]:
    """Read the run lengths of a shard's table by the names of frames. Raises FileNotFoundError."""
    parquet = require("pyarrow.parquet", "parquet")
    table = parquet.read_table(io.BytesIO(place.read(table_name(shard))), columns=["name", "rle"])
    return {row["name"]: row["rle"] for row in table.to_pylist()}


def _schema(pyarrow: Any, classes: Sequence[str]) -> Any:
    shares = pyarrow.struct([(name, pyarrow.float64()) for name in classes])
    runs = pyarrow.list_(pyarrow.struct([("class_id", pyarrow.int16()), ("counts", pyarrow.string())]))
    text, whole = pyarrow.string(), pyarrow.int32()
    return pyarrow.schema(
        [
            *(("source", text), ("name", text), ("frame", pyarrow.int64()), ("media_time_s", pyarrow.float64())),
            *(("height", whole), ("width", whole), ("area", shares), ("confidence", shares), ("rle", runs)),
            ("error", text),
        ]
    )
