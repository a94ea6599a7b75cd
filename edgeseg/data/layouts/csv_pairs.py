"""A table of pairs: a CSV file with the columns image and mask, and group if it likes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple, Sequence

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
        rows = [row for row in rows if row.part == wanted]
        if not rows:
            raise DatasetError(f"{where} has no row whose set is {wanted!r}")
    pairs = [(_file(where.parent, row.image), _file(where.parent, row.mask) if row.mask else None) for row in rows]
    _refuse_twice(where, rows, [image for image, _ in pairs])
    absent = [str(path) for pair in pairs for path in pair if path is not None and not path.is_file()]
    refuse_all(absent, f"files of {where} are missing", "paths in it are relative to its folder")
    encoding = asked.values.get("masks", "ids")
    colours, own = colours_for(encoding, asked, where.parent)
    labels = [None if mask is None else EncodedMask(mask, encoding, colours) for _, mask in pairs]
    groups = [row.group for row in rows]
    unlabelled = [str(image) for image, mask in pairs if mask is None]
    return Found(
        [image for image, _ in pairs], labels, f"{len(pairs)} images of {where.name}", own,
        groups=groups if any(groups) else (),
        missing=lambda: refuse_all(unlabelled, f"rows of {where} have no mask", "name it in the column mask"),
    )  # fmt: skip


class _Row(NamedTuple):
    number: int
    image: str
    mask: str
    group: str
    part: str


def _refuse_twice(where: Path, rows: Sequence[_Row], images: Sequence[Path]) -> None:
    """Raise DatasetError naming all images that several rows have."""
    lines: dict[Path, list[str]] = {}
    for row, image in zip(rows, images):
        lines.setdefault(image, []).append(str(row.number))
    twice = [f"{image.name} (lines {', '.join(at)})" for image, at in lines.items() if len(at) > 1]
    refuse_all(twice, f"images of {where} are in several rows", "keep the right one, or name one `set` of them")


def _rows(path: Path) -> list[_Row]:
    """Return the rows with the numbers of their lines. Raises DatasetError: the table has another form."""
    try:
        text = text_from(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a table of pairs ({error})") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    while lines and lines[0][1].startswith("#"):
        del lines[0]
    mark = max(",;\t", key=lambda one: lines[0][1].count(one) if lines else 0)
    try:
        table = [
            (number, [cell.strip() for cell in next(csv.reader([line], delimiter=mark))]) for number, line in lines
        ]
    except csv.Error as error:  # a zero byte before Python 3.11, or a cell of very many letters
        raise DatasetError(f"{path} cannot be read as a table of pairs ({error})") from error
    if not table:
        raise DatasetError(f"{path} is empty; its first line is image,mask")
    first = table.pop(0)[1]
    head = [name.casefold() for name in first]
    places = [next((head.index(name) for name in names if name in head), -1) for names in (_IMAGE, _MASK, _GROUP, _SET)]
    if places[0] < 0 or places[1] < 0:
        raise DatasetError(f"{path} has the columns {', '.join(first)}; its first line is image,mask[,group][,set]")
    table = [(number, row) for number, row in table if not _is_comment(row, places[0], path.parent)]
    uneven = [f"line {number}" for number, row in table if len(row) != len(head)]
    refuse_all(uneven, f"rows of {path} have not the {len(head)} cells of the first", "write IMAGE,MASK in each")
    return [_Row(number, *(row[place] if place >= 0 else "" for place in places)) for number, row in table]


def _is_comment(row: list[str], image: int, folder: Path) -> bool:
    """Tell whether a row begins with ``#``, and not because its image is called so."""
    return row[0].startswith("#") and not (image < len(row) and _file(folder, row[image]).is_file())


def _file(folder: Path, name: str) -> Path:
    """Return the file of a name, which Windows may have written: a name as it stands goes before that."""
    plain = folder / name
    return plain if plain.exists() or "\\" not in name else folder / name.replace("\\", "/")


LAYOUT = Layout(
    _found,
    "csv://FILE.csv",
    "A table whose first line is `image,mask`; columns `group` (for splits) and `set` may follow. Paths are relative "
    "to its folder.",
    True,
    {"masks": "|".join(ENCODINGS), "colours": "FILE", "set": "NAME", **COMMON},
    fits=lambda path: path.is_file() and path.suffix.lower() in (".csv", ".tsv"),
)
