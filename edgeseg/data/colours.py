"""Colours of masks: those of the model's classes, or those that a file lists."""

from __future__ import annotations

from pathlib import Path

from edgeseg.class_list import classes_from
from edgeseg.data.encodings import ColourTable
from edgeseg.data.layouts.base import Asked
from edgeseg.errors import UsageError
from edgeseg.images import colours_of_classes

__all__ = ["colours_for"]


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
    table: dict[tuple[int, int, int], int] = {}
    for own, (name, colour) in enumerate(zip(names, colours)):
        if colour in table:
            raise UsageError(
                f"{names[table[colour]]} and {name} have the same colour {colour}, so masks cannot tell them apart"
            )
        table[colour] = own
    return table, dict(enumerate(names)) if is_listed else {}
