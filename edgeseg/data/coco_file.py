"""Read COCO's JSON files: images, categories and annotations, checked."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Mapping, Sequence

from edgeseg.data.layouts.base import Asked, images_by_name, one_of, refuse_all
from edgeseg.errors import DatasetError, first_line
from edgeseg.files import file_state

_MOST_FILES, _MOST_ID = 50, 1 << 53

__all__ = ["annotation_file", "categories", "coco_files", "image_paths", "is_panoptic", "number", "read_coco", "text"]


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
    """Return the names of the categories by id. Raises DatasetError: they are broken."""
    return {number(one, "id", path): text(one, "name", path) for one in content["categories"]}


def number(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return a whole number of an entry. Raises DatasetError: it is missing or something else."""
    value = entry.get(key)
    if isinstance(value, str) and value.isdecimal():
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
        DatasetError: images are missing; all are counted, some named.
    """
    asked_for = asked.folder("images", path.parent)
    last = path.stem.rpartition("_")[2]
    around = (path.parent, path.parent.parent)
    places = [asked_for] if asked_for else [one / name for one in around for name in ("", "images", last, path.stem)]
    names = {number(one, "id", path): text(one, "file_name", path) for one in content["images"]}
    if not names:
        raise DatasetError(f"{path} lists no image")
    first = next(iter(names.values()))
    place = next((one for one in places if (one / first).is_file()), places[0])
    found = {key: place / name for key, name in names.items()}
    _refuse_absent([str(one) for one in found.values() if not one.is_file()], path, place)
    return found


def _refuse_absent(absent: Sequence[str], path: Path, place: Path) -> None:
    held = len(images_by_name(place)) if place.is_dir() else 0
    refuse_all(absent, f"images of {path.name} are missing", f"{place} holds {held}; say where they are with `images`")
