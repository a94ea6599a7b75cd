"""Class lists as people write them: read exactly, or refused, because a line too many shifts every class id."""

from __future__ import annotations

import codecs
import colorsys
import re
from pathlib import Path
from typing import Sequence, Tuple

from edgeseg.errors import UsageError
from edgeseg.files import lines_from

__all__ = ["Colour", "classes_from", "hue"]

Colour = Tuple[int, int, int]

_FORM = "write one class per line in the order of the ids: NAME or NAME R G B"
_COMMENT = re.compile(r"(^|\s)#.*")
_COLOURED = re.compile(r"(?P<name>.*?\S)(?:\s*,\s*|\s+)(\d+)(?:\s*,\s*|\s+)(\d+)(?:\s*,\s*|\s+)(\d+)")
_NUMBERED = re.compile(r"\(?(?P<id>\d+)(?:\)?\s*[:,.)|=]\s*|\s+-?\s*)(?P<name>\S.*)")
_NUMBERED_BEHIND = re.compile(r"(?P<name>.*?\S)(?:\s*[:,|=]\s*|\s+)\(?(?P<id>\d+)\)?")
_LETTERS_OF_OTHER_FORMS = re.compile(r"[,:;{}\[\]\"<>=|]|^[-'!%/*+•]|^__")
_HEADINGS = re.compile(r"(?i)(?:class|label|category)?[ _-]?(?:names?|ids?)?|class(?:es)?|labels?|categor(?:y|ies)")


def classes_from(text: str) -> tuple[list[str], list[Colour]]:
    """Return the names and RGB colours of ``classes``: a file, or names with commas between them.

    A file has one class per line: ``NAME``, ``NAME R G B`` or ``NAME,R,G,B``. All lines may begin with their id,
    ``0 NAME`` or ``0: NAME``, or end with it, ``NAME 0``. Text behind a blank and ``#`` is a comment. UTF-8 or UTF-16.

    Raises:
        UsageError: the file cannot be read, or a line is of another form.
    """
    path = Path(text)
    if "," in text and not path.exists():
        names = text.split(",")
        if not all(name.strip() for name in names):
            raise UsageError(f"`classes` {text!r} has an empty name; write names as in road,car,sky")
        return _read(names, f"`classes` {text}")
    return _read(_lines(path), str(path))


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return lines_from(data.decode("utf-16" if is_wide else "utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"`classes` {path} cannot be read ({error}); pass 'camvid', names as in road,car,sky, or a text file: "
            f"{_FORM}"
        ) from error


def _read(lines: Sequence[str], where: str) -> tuple[list[str], list[Colour]]:
    stripped = [_COMMENT.sub("", line).strip() for line in lines]
    entries = [(number, line) for number, line in enumerate(stripped, 1) if line]
    if not entries:
        raise UsageError(f"{where} names no class; {_FORM}")
    entries = _without_ids(entries, where)
    names, colours = [], []
    for index, (number, line) in enumerate(entries):
        coloured = _COLOURED.fullmatch(line)
        name = coloured["name"] if coloured else line
        if _LETTERS_OF_OTHER_FORMS.search(name) or not name.isprintable():
            raise UsageError(f"{where}, line {number}: {line!r} is no class name (YAML, CSV or JSON?); {_FORM}")
        if not index and len(entries) > 1 and _HEADINGS.fullmatch(name):
            raise UsageError(f"{where}, line {number}: {line!r} is no class name but a heading; {_FORM}")
        names.append(name)
        colours.append(_colour(coloured) or hue(index, len(entries)))
    return names, colours


def _without_ids(entries: list[tuple[int, str]], where: str) -> list[tuple[int, str]]:
    """The lines without the ids that all begin or end with. Raises UsageError when those are not 0, 1, 2, ..."""
    numbered = [match for _, line in entries for match in [_NUMBERED.fullmatch(line)] if match]
    if len(numbered) < len(entries):
        is_coloured = any(_COLOURED.fullmatch(line) for _, line in entries)
        numbered = [match for _, line in entries for match in [_NUMBERED_BEHIND.fullmatch(line)] if match]
        # "lane 1" and "lane 2" are names: of ids it is known that no two are the same and that names differ without.
        if is_coloured or any(
            len({match[part] for match in numbered}) < max(2, len(entries)) for part in ("id", "name")
        ):
            return entries
    for wanted, ((number, line), match) in enumerate(zip(entries, numbered)):
        if int(match["id"]) != wanted:
            raise UsageError(
                f"{where}, line {number}: {line!r} stands where class id {wanted} belongs; list every id from 0 on in "
                "order, and give an id that is no class with `ignore`"
            )
    return [(number, match["name"]) for (number, _), match in zip(entries, numbered)]


def _colour(coloured: re.Match[str] | None) -> Colour | None:
    return (int(coloured[2]), int(coloured[3]), int(coloured[4])) if coloured else None


def hue(index: int, count: int) -> Colour:
    """Return the RGB colour of a class that has none: hues evenly spread over the classes."""
    red, green, blue = colorsys.hsv_to_rgb(index / count, 0.75, 0.9)
    return int(255 * red), int(255 * green), int(255 * blue)
