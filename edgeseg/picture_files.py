"""Find picture files and their order: in a folder, by a pattern, from a list."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from edgeseg.errors import DatasetError
from edgeseg.files import text_from

__all__ = [
    "IMAGE_SUFFIXES",
    "Pictures",
    "image_files",
    "is_hidden",
    "is_hidden_name",
    "listed_files",
    "natural_key",
    "pictures_in",
    "pictures_matching",
    "result_names",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_UNREAD_SUFFIXES = (
    *(".gif", ".apng", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".jpe", ".tga", ".exr", ".hdr"),
    *(".ppm", ".pgm", ".pnm", ".ico", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".rw2", ".orf", ".raf"),
)
"""Suffixes of pictures that are not read; whoever has some among others wants to know."""
_COMPANIONS = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "@eadir", "__macosx", "#recycle", "$recycle.bin"),
        *("lost+found", "system volume information"),
    )
)
"""Names in small letters that operating systems and network drives put beside pictures without a dot in front."""
_LONGEST_NAME = 250
"""Bytes of a file's name, with room for a suffix."""


@dataclass(frozen=True)
class Pictures:
    """Picture files in natural order, and a count of what was left out beside them.

    Attributes:
        files: the files with a suffix of ``IMAGE_SUFFIXES``.
        hidden: number of files and folders that were left out because they are hidden, or an operating system's
            own.
        unread: suffix and number of pictures of a kind that is not read, and of folders that are called like
            pictures.
    """

    files: tuple[Path, ...]
    hidden: int = 0
    unread: tuple[tuple[str, int], ...] = ()

    def left_out(self) -> str:
        """Describe what was left out, e.g. `` (4 hidden files left out)``; empty where nothing was."""
        parts = [_counted(self.hidden, "hidden file")] if self.hidden else []
        parts += [_counted(number, f"{suffix} file") for suffix, number in self.unread]
        return f" ({', '.join(parts)} left out)" if parts else ""


def image_files(folder: Path) -> list[Path]:
    """List the image files directly inside a folder in natural order (1, 2, 10), without hidden ones.

    Raises:
        DatasetError: ``folder`` is no folder, or it holds no images.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder; pass a folder of images ({', '.join(IMAGE_SUFFIXES)})")
    found = pictures_in(folder)
    if not found.files:
        raise DatasetError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}){found.left_out()}")
    return list(found.files)


def pictures_in(folder: Path) -> Pictures:
    """Find the pictures directly inside a folder.

    Raises:
        OSError: the folder cannot be listed.
    """
    return _sorted_out(folder.iterdir(), folder)


def pictures_matching(pattern: Path) -> Pictures:
    """Find the pictures that a pattern names, as a shell reads it; a name that exists literally is no pattern."""
    start, names = _literal_start(pattern)
    literal = Path(glob.escape(str(start)))
    return _sorted_out(map(Path, glob.iglob(str(literal.joinpath(*names)), recursive=True)), start)


def listed_files(path: Path) -> list[Path]:
    """Return the files that a text file lists, one a line, relative to its folder; they need not exist.

    The text is UTF-8 with or without a byte order mark, or UTF-16 with one. Names that are not UTF-8 are taken as the
    bytes they are. Blank lines and those that begin with ``#`` are left out. A file that exists under the line as it is
    written goes before what the line would mean: a comment, blanks at its ends, quotes around it.

    Raises:
        OSError: the text file cannot be read.
        UnicodeDecodeError: the UTF-16 is broken.
    """
    return [
        file for line in text_from(path.read_bytes()).split("\n") for file in _listed(line.rstrip("\r"), path.parent)
    ]


def natural_key(path: Path) -> tuple[object, ...]:
    """Return a sort key by the numbers in a name, folder by folder, and without regard to case: a2, A10, b1."""
    return tuple((_in_numbers(part.casefold()), part) for part in path.parts)


def is_hidden(path: Path) -> bool:
    """Tell whether a file is hidden, or belongs to an operating system and not to the user."""
    return is_hidden_name(path.name)


def is_hidden_name(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, as ``is_hidden``."""
    return name.startswith(".") or name.casefold() in _COMPANIONS


def result_names(files: Sequence[Path]) -> list[str]:
    """Choose a name for each file's results, no two alike, on file systems without a difference of case either.

    It is the file's name without suffix. Files that share that get their whole names, or those of their folders with
    them, or a number behind the whole names that are still alike.
    """
    groups: dict[str, list[int]] = {}
    for number, path in enumerate(files):
        groups.setdefault(path.stem.casefold(), []).append(number)
    names = [path.stem for path in files]
    taken = {stem for stem, group in groups.items() if len(group) == 1}
    for group in (group for group in groups.values() if len(group) > 1):
        chosen = _told_apart([files[number] for number in group], taken)
        taken.update(name.casefold() for name in chosen)
        for number, name in zip(group, chosen):
            names[number] = name
    return names


def _told_apart(files: Sequence[Path], taken: set[str]) -> list[str]:
    above = len(Path(os.path.commonpath([os.path.abspath(path.parent) for path in files])).parts)
    inside = [Path(*Path(os.path.abspath(path)).parts[above:]) for path in files]
    for names in (
        [path.name for path in files],
        ["_".join(path.with_suffix("").parts) for path in inside],
        ["_".join(path.parts) for path in inside],
    ):
        folded = {name.casefold() for name in names}
        if len(folded) == len(names) and not folded & taken and all(map(_is_short, names)):
            return names
    chosen: dict[str, str] = {}
    numbers: dict[str, Iterator[int]] = {}
    for path in files:
        whole = path.name if _is_short(path.name) else path.stem[:60]
        numbered = (f"{whole}-{n}" if n > 1 else whole for n in numbers.setdefault(whole.casefold(), count(1)))
        name = next(name for name in numbered if name.casefold() not in taken and name.casefold() not in chosen)
        chosen[name.casefold()] = name
    return list(chosen.values())


def _is_short(name: str) -> bool:
    return len(os.fsencode(name)) <= _LONGEST_NAME


def _sorted_out(found: Iterable[Path], start: Path) -> Pictures:
    files: set[Path] = set()
    unread: Counter[str] = Counter()
    hidden = 0
    for path in found:
        suffix = path.suffix.lower()
        if any(is_hidden(Path(part)) for part in path.parts[len(start.parts) :]):
            hidden += 1
        elif suffix in IMAGE_SUFFIXES and not path.is_dir():
            files.add(path)
        elif suffix in (*IMAGE_SUFFIXES, *_UNREAD_SUFFIXES):
            unread[suffix] += 1
    return Pictures(tuple(sorted(files, key=natural_key)), hidden, tuple(sorted(unread.items())))


def _literal_start(pattern: Path) -> tuple[Path, list[str]]:
    """Split a pattern into its leading folders that exist as they are written, and the rest."""
    parts = list(pattern.parts)
    start = Path(parts.pop(0)) if pattern.is_absolute() else Path()
    while parts and os.path.lexists(start / parts[0]):
        start /= parts.pop(0)
    return start, parts


def _in_numbers(name: str) -> tuple[object, ...]:
    """Split ``a10b`` into ``("a", 10, "b")``; every second part is a number."""
    return tuple(int(part) if odd else part for part, odd in zip(re.split(r"([0-9]+)", name), cycle((False, True))))


def _listed(line: str, folder: Path) -> Iterator[Path]:
    """Yield the file of one line, or nothing."""
    plain = line.strip()
    if not plain:
        return
    quoted = plain[1:-1] if len(plain) > 2 and plain[0] == plain[-1] and plain[0] in "\"'" else plain
    for name in (line, plain, quoted):
        if os.path.isfile(folder / name):
            yield folder / name
            return
    if not plain.startswith("#"):
        yield folder / plain


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number > 1 else "")
