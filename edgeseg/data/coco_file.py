"""Read COCO's JSON files: images, categories and annotations, checked."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence, TypeVar

from edgeseg.data.layouts.base import Asked, files_below, one_of, refuse_all, written_path
from edgeseg.errors import DatasetError, first_line
from edgeseg.files import file_state
from edgeseg.picture_files import IMAGE_SUFFIXES

__all__ = [
    "annotation_file",
    "categories",
    "category",
    "coco_files",
    "image_paths",
    "is_panoptic",
    "number",
    "one_each",
    "read_coco",
    "text",
]

_MOST_FILES, _MOST_ID, _MOST_CATEGORIES = 50, 1 << 53, 1 << 20
Key = TypeVar("Key")
Value = TypeVar("Value")


def read_coco(path: Path) -> Mapping[str, Any]:
    """Return the content of a COCO file.

    Raises:
        DatasetError: it cannot be read, or images, categories or annotations are missing in it.
    """
    return _read(path, file_state(path))


@lru_cache(maxsize=2)
def _read(path: Path, state: object) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) and all(isinstance(one, dict) for one in content[part])
        for part in ("images", "categories", "annotations")
    ):
        raise DatasetError(f"{path} is no COCO file: it has no lists images, categories and annotations")
    return content


def annotation_file(where: Path, asked: Asked, is_wanted: bool) -> Path:
    """Return the COCO file of a data set: the path itself, or the one in its folder or in ``annotations``.

    Args:
        where: a JSON file or a folder.
        asked: its parameter ``file`` names one of several.
        is_wanted: whether panoptic files are wanted, or the others.

    Raises:
        UsageError: there are several, or none.
        DatasetError: a file cannot be read.
    """
    named = asked.folder("file", where) if where.is_dir() else where
    if named is not None:
        return named
    found = [path for path in _json_files(where) if is_panoptic(path) == is_wanted]
    return one_of(found, f"{where} has annotations", "file")


def coco_files(where: Path, is_wanted: bool) -> bool:
    """Tell whether a file or folder holds COCO annotations, panoptic ones or others."""
    files = [where] if where.is_file() and where.suffix.lower() == ".json" else []
    files = _json_files(where) if where.is_dir() else files
    return any(is_panoptic(path) == is_wanted for path in files)


def is_panoptic(path: Path) -> bool | None:
    """Tell whether a COCO file is a panoptic one; None where it is no COCO file of segmentations."""
    try:
        annotations = read_coco(path)["annotations"]
    except DatasetError:
        return None
    return any("segments_info" in one for one in annotations[:1])


def _json_files(folder: Path) -> list[Path]:
    """Return the files that may be COCO's; a folder of very many is one of other annotations, a file per image."""
    found = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    return found if len(found) <= _MOST_FILES else []


def categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Return the names of the categories by id. Raises DatasetError: they are broken, or an id has two names."""
    pairs = ((category(one, "id", path), text(one, "name", path)) for one in content["categories"])
    return one_each(pairs, f"category ids of {path.name} have two names", "give each category its own")


def one_each(pairs: Iterable[tuple[Key, Value]], what: str, remedy: str) -> dict[Key, Value]:
    """Return a table of pairs, which may repeat themselves.

    Args:
        pairs: keys and values.
        what: is wrong with keys that have two values, as of ``refuse_all``.
        remedy: what to do.

    Raises:
        DatasetError: keys have two values; all are named.
    """
    table: dict[Key, Value] = {}
    twice = {key: None for key, value in pairs if table.setdefault(key, value) != value}
    refuse_all([str(key) for key in twice], what, remedy)
    return table


def category(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return the id of a category of an entry. Raises DatasetError: it is missing or something else."""
    value = number(entry, key, path)
    if not 0 <= value < _MOST_CATEGORIES:
        raise DatasetError(f"{path}: {_shown(entry)} has no id from 0 on as {key}")
    return value


def number(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return a whole number of an entry; 7.0 and "7" are 7. Raises DatasetError: it is missing or something else."""
    value = entry.get(key)
    if (isinstance(value, str) and value.isdecimal()) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MOST_ID:
        raise DatasetError(f"{path}: {_shown(entry)} has no whole number as {key}")
    return value


def text(entry: Mapping[str, Any], key: str, path: Path) -> str:
    """Return a text of an entry. Raises DatasetError: it is missing or something else."""
    value = entry.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise DatasetError(f"{path}: {_shown(entry)} has no text as {key}")
    return value


def _shown(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry)[:80]


def image_paths(content: Mapping[str, Any], path: Path, asked: Asked) -> dict[int, Path]:
    """Return the image files by image id, in the order of the file.

    They are looked for in the folder of the parameter ``images``, else beside the file, in ``images``, and in a folder
    that is called like the end of the file's name (``instances_val2017.json``: ``val2017``).

    Raises:
        DatasetError: images are missing, ids or images are not unique, or annotations are of other images; all are
            counted, some named.
    """
    asked_for = asked.folder("images", path.parent)
    last = path.stem.rpartition("_")[2]
    around = (path.parent, path.parent.parent)
    places = [asked_for] if asked_for else [one / name for one in around for name in ("", "images", last, path.stem)]
    pairs = ((number(one, "id", path), text(one, "file_name", path)) for one in content["images"])
    names = one_each(pairs, f"image ids of {path.name} stand for two images", "give each image its own")
    if not names:
        raise DatasetError(f"{path} lists no image")
    first = next(iter(names.values()))
    place = next((one for one in places if written_path(one, first).is_file()), places[0])
    found = {key: written_path(place, name) for key, name in names.items()}
    _refuse_absent([str(one) for one in found.values() if not one.is_file()], path, place)
    one_each(((file, key) for key, file in found.items()), f"images of {path.name} have two ids", "keep one of them")
    unlisted = dict.fromkeys(number(one, "image_id", path) for one in content["annotations"])
    refuse_all(
        [str(key) for key in unlisted if key not in found],
        f"image ids in annotations of {path.name} are none of its images",
        "list the images, or remove these annotations",
    )
    return found


def _refuse_absent(absent: Sequence[str], path: Path, place: Path) -> None:
    held = len(files_below(place, IMAGE_SUFFIXES)) if place.is_dir() else 0
    refuse_all(absent, f"images of {path.name} are missing", f"{place} holds {held}; say where they are with `images`")
