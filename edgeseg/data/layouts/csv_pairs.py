"""A table of pairs: a CSV file with the columns image and mask, and group if it likes."""

from __future__ import annotations

import csv
from pathlib import Path

from edgeseg.data.colours import colours_for
from edgeseg.data.encodings import ENCODINGS, EncodedMask
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layout, refuse_all
from edgeseg.errors import DatasetError
from edgeseg.files import text_from

__all__ = ["LAYOUT"]

_IMAGE, _MASK, _GROUP, _SET = (
    ("image", "img", "file", "filename"),
    ("mask", "label"),
    ("group", "drive"),
    ("set", "split"),
)


def _found(where: Path, asked: Asked) -> Found:
    rows = _rows(where)
    wanted = asked.values.get("set")
    if wanted is not None:
        rows = [row for row in rows if row[3] == wanted]
        if not rows:
            raise DatasetError(f"{where} has no row whose set is {wanted!r}")
    pairs = [(where.parent / image, where.parent / mask if mask else None) for image, mask, _, _ in rows]
    absent = [str(path) for pair in pairs for path in pair if path is not None and not path.is_file()]
    refuse_all(absent, f"files of {where} are missing", "paths in it are relative to its folder")
    encoding = asked.values.get("masks", "ids")
    colours, own = colours_for(encoding, asked, where.parent)
    labels = [None if mask is None else EncodedMask(mask, encoding, colours) for _, mask in pairs]
    groups = [row[2] for row in rows]
    unlabelled = [str(image) for image, mask in pairs if mask is None]
    return Found(
        [image for image, _ in pairs], labels, f"{len(pairs)} images of {where.name}", own,
        groups=groups if any(groups) else (),
        missing=lambda: refuse_all(unlabelled, f"rows of {where} have no mask", "name it in the column mask"),
    )  # fmt: skip


def _rows(path: Path) -> list[tuple[str, str, str, str]]:
    """Return (image, mask, group, set) of each row. Raises DatasetError: the table has another form."""
    try:
        text = text_from(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a table of pairs ({error})") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    mark = max(",;\t", key=lambda one: lines[0].count(one) if lines else 0)
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    except csv.Error as error:  # a zero byte before Python 3.11, or a cell of very many letters
        raise DatasetError(f"{path} cannot be read as a table of pairs ({error})") from error
    if not table:
        raise DatasetError(f"{path} is empty; its first line is image,mask")
    head = [name.casefold() for name in table[0]]
    places = [next((head.index(name) for name in names if name in head), -1) for names in (_IMAGE, _MASK, _GROUP, _SET)]
    if places[0] < 0 or places[1] < 0:
        raise DatasetError(f"{path} has the columns {', '.join(table[0])}; its first line is image,mask[,group][,set]")
    uneven = [f"line {number}" for number, row in enumerate(table, 1) if len(row) != len(head)]
    refuse_all(uneven, f"rows of {path} have not the {len(head)} cells of the first", "write IMAGE,MASK in each")
    return [_row(row, places) for row in table[1:]]


def _row(row: list[str], places: list[int]) -> tuple[str, str, str, str]:
    image, mask, group, part = (row[place] if place >= 0 else "" for place in places)
    return image, mask, group, part


LAYOUT = Layout(
    _found,
    "csv://FILE.csv",
    "A table whose first line is `image,mask`; columns `group` (for splits) and `set` may follow. Paths are relative "
    "to its folder.",
    True,
    {"masks": "|".join(ENCODINGS), "colours": "FILE", "set": "NAME", **COMMON},
    fits=lambda path: path.is_file() and path.suffix.lower() in (".csv", ".tsv"),
)
