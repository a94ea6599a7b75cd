"""Colours of masks: those of the model's classes, or those that a file lists."""

from __future__ import annotations

from pathlib import Path

from edgeseg.class_list import classes_from
from edgeseg.data.encodings import ColourTable
from edgeseg.data.layouts.base import Asked
from edgeseg.errors import UsageError

__all__ = ["colours_for"]


def colours_for(encoding: str, asked: Asked, where: Path) -> tuple[ColourTable, dict[int, str]]:
    """Return the colours of masks, RGB -> own id, and the names of the own ids.

    Both are empty for encodings without colours. Names are empty where the colours are those of the model's classes.

    Args:
        encoding: of the masks.
        asked: may name a file of lines ``NAME R G B`` as ``colours``.
        where: what the file is relative to.

    Raises:
        UsageError: two classes share a colour, or the file cannot be read.
    """
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
