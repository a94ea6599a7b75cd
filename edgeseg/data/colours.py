"""Colours of masks: those of the model's classes, or those that a file lists."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from edgeseg.class_list import Colour, classes_from
from edgeseg.data.encodings import ColourTable
from edgeseg.data.layouts.base import Asked
from edgeseg.errors import UsageError
from edgeseg.images import colours_of_classes

__all__ = ["colour_table", "colours_for"]


def colours_for(encoding: str, asked: Asked, where: Path) -> tuple[ColourTable, dict[int, str]]:
    """Return the colours of masks, RGB -> own id, and the names of the own ids.

    Both are empty for encodings without colours. Names are empty where the colours are those of the model's classes.
    Ids that are the model's have the colours of its classes, too: palettes may show them.

    Args:
        encoding: of the masks.
        asked: may name a file of lines ``NAME R G B`` as ``colours``.
        where: what the file is relative to.

    Raises:
        UsageError: two classes share a colour, or the file cannot be read.
    """
    if encoding == "ids" and asked.spec is not None and "map" not in asked.values:
        return colours_of_classes(asked.spec), {}
    if encoding != "colours" or asked.spec is None:
        return {}, {}
    names, colours = list(asked.spec.classes), list(asked.spec.palette)
    is_listed = "colours" in asked.values
    if is_listed:
        names, colours = classes_from(str(where / asked.values["colours"]))
    where_listed = where / asked.values["colours"] if is_listed else "the class list"
    return colour_table(names, colours, where_listed), dict(enumerate(names)) if is_listed else {}


def colour_table(names: Sequence[str], colours: Sequence[Colour], where: object) -> ColourTable:
    """Return colours, RGB -> own id. Raises UsageError: classes share one; all are named.

    Args:
        names: by own id.
        colours: RGB by own id.
        where: they are listed, for messages.
    """
    table: dict[Colour, int] = {}
    clashes = []
    for own, (name, colour) in enumerate(zip(names, colours)):
        first = table.setdefault(colour, own)
        if first != own:
            clashes.append(f"{names[first]} and {name} have the same colour {colour}")
    if clashes:
        raise UsageError(f"{where}: {', '.join(clashes)}, so masks cannot tell them apart")
    return table
