"""YOLO's polygons: ``images/SET`` and ``labels/SET``, a text file per image, names in ``data.yaml``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np

from edgeseg.data.layouts.base import (
    COMMON,
    Asked,
    Found,
    Layers,
    Layout,
    by_name,
    files_below,
    flat_ids,
    folders_in,
    one_of,
    refuse_all,
    written_path,
)
from edgeseg.data.shapes import polygon_mask
from edgeseg.data.yaml_names import names_from_yaml
from edgeseg.errors import DatasetError, ImageError, first_line
from edgeseg.files import lines_from, text_from
from edgeseg.picture_files import IMAGE_SUFFIXES, is_hidden, natural_key, pictures_in

__all__ = ["LAYOUT"]

_NAMES = "classes.txt"
"""File of names; labelImg writes it among the labels."""
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class _YoloLabel:
    """The lines ``CLASS x y x y ...`` of one image, relative to its width and height."""

    path: Path

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Draw the polygons, small ones over large ones. Raises ImageError naming the lines that are broken."""
        return flat_ids(self.layers(size_hw))

    def layers(self, size_hw: tuple[int, int]) -> Layers:
        """Draw each polygon by itself. Raises ImageError: a line is broken."""
        return Layers(size_hw, list(self._drawn(size_hw)) if self.path.is_file() else [])

    def _drawn(self, size_hw: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        for number, line in enumerate(lines_from(text_from(self.path.read_bytes())), 1):
            if not line.strip():
                continue
            try:
                kind, *numbers = line.split()
                values, own = np.array([float(one) for one in numbers]), _class_id(kind)
            except ValueError:
                raise ImageError(
                    f"{self.path}, line {number}: {line[:40]!r} is not CLASS x y x y ... with a CLASS from 0"
                ) from None
            if len(values) == 4:
                raise ImageError(f"{self.path}, line {number} is a box; a mask needs polygons (CLASS x y x y x y ...)")
            if len(values) < 6 or len(values) % 2 or not ((values >= -0.01) & (values <= 1.01)).all():
                raise ImageError(
                    f"{self.path}, line {number} is no polygon of three or more points between 0 and 1: {line[:40]!r}"
                )
            yield own, polygon_mask((values.reshape(-1, 2) * size_hw[::-1]).ravel().tolist(), size_hw)


def _class_id(text: str) -> int:
    """Read a class id; tools that keep tables write ``0.0``. Raises ValueError: it is no whole number from 0."""
    value = float(text)
    if not (value.is_integer() and 0 <= value < _MOST_CLASSES):
        raise ValueError(text)
    return int(value)


def _found(where: Path, asked: Asked) -> Found:
    inside, beside = _places(where, asked)
    images = by_name(sorted(files_below(inside, IMAGE_SUFFIXES), key=natural_key), inside)
    if not images:
        raise DatasetError(f"{inside} holds no images")
    texts = by_name([path for path in files_below(beside, (".txt",)) if path.name != _NAMES], beside)
    strangers = [path.name for name, path in texts.items() if name not in images]
    unlabelled = [path.name for name, path in images.items() if name not in texts]
    # An image without objects has no file. But a label that matches no image may belong to an image without one.
    is_sure = len(unlabelled) < len(images) and not (unlabelled and strangers)
    shown = (
        f"{len(strangers)} labels that match no image ({', '.join(strangers[:3])})" if strangers else "no other label"
    )
    return Found(
        list(images.values()),
        [
            _YoloLabel(texts.get(name, beside / f"{name}.txt")) if name in texts or is_sure else None
            for name, path in images.items()
        ],
        f"{len(images)} images in {Path(*inside.resolve().parts[-3:])} (YOLO{f'; {shown}' if strangers else ''})",
        _class_names(where, beside),
        covers_all=False,
        missing=lambda: refuse_all(
            [] if is_sure else unlabelled,
            "images have no label of their name",
            f"{beside} holds {shown}; a label is called NAME.txt, and is empty for an image without objects",
        ),
    )


def _places(where: Path, asked: Asked) -> tuple[Path, Path]:
    """Return the folders of images and labels: ``images/SET`` and ``labels/SET``, or ``SET/images`` and ``SET/labels``.

    Raises:
        UsageError: there are several sets.
        DatasetError: the set is not there, or images lie beside the only one.
    """
    images, wanted = where / "images", asked.values.get("set")
    is_outside = images.is_dir()
    sets = folders_in(images) if is_outside else [one for one in folders_in(where) if (one / "images").is_dir()]
    if wanted is None and sets:
        wanted = one_of(sets, f"{images if is_outside else where} has sets", "set").name
        if is_outside and pictures_in(images).files:
            raise DatasetError(f"{images} holds images beside the set {wanted}; move them into a set, or pass `set`")
    name = wanted or ""
    place = written_path(images if is_outside else where, name)
    found = place if is_outside else place / "images"
    if not found.is_dir():
        raise DatasetError(f"{found} does not exist; `set` is one of {', '.join(one.name for one in sets) or 'none'}")
    return found, written_path(where / "labels", name) if is_outside else place / "labels"


def _class_names(where: Path, labels: Path) -> dict[int, str]:
    """Return the names of ``data.yaml`` and ``classes.txt``, or of a YAML file one folder higher that names this one.

    Raises:
        DatasetError: names cannot be read, or two files name the ids differently.
    """
    where = where.resolve()
    named = {path: _listed(path) for path in (where / _NAMES, labels / _NAMES) if path.is_file()}
    named.update(_yaml_names(where, ""))
    named = named or _yaml_names(where.parent, where.name)
    first = next(iter(named), where)
    others = [str(path) for path, names in named.items() if names != named[first]]
    refuse_all(others, f"files name the classes otherwise than {first}", "keep the right one")
    return named.get(first, {})


def _yaml_names(folder: Path, word: str) -> dict[Path, dict[int, str]]:
    """Return the names in each YAML file of a folder that has some, and a word. Raises DatasetError: no such form."""
    found = {}
    for path in sorted(folder.iterdir()) if os.access(folder, os.R_OK) else ():
        if path.suffix.lower() not in (".yaml", ".yml") or is_hidden(path) or not path.is_file():
            continue
        try:
            text = text_from(path.read_bytes())
            names = names_from_yaml(text) if word in text else None
        except ValueError as error:
            raise DatasetError(f"{path} has no list of names that is read; {first_line(error)}") from error
        found.update({path: names} if names else {})
    return found


def _listed(path: Path) -> dict[int, str]:
    """Return the names of ``classes.txt``. Raises DatasetError: a blank line stands between them."""
    lines = [line.strip() for line in lines_from(text_from(path.read_bytes()).strip())]
    blank = [f"line {number}" for number, line in enumerate(lines, 1) if not line and len(lines) > 1]
    refuse_all(blank, f"lines of {path} are blank", "remove them: every line is an id")
    return {own: name for own, name in enumerate(lines) if name}


def _fits(where: Path) -> bool:
    above = [where] if (where / "images").is_dir() else folders_in(where)
    return any((one / "images").is_dir() and any(_texts(one / "labels")) for one in above)


def _texts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() == ".txt" and path.name != _NAMES)


LAYOUT = Layout(
    _found,
    "yolo://FOLDER",
    "YOLO polygons: `images/SET`, `labels/SET/*.txt` (or `SET/images`, `SET/labels`), names in `data.yaml` or "
    "`classes.txt`. Small ones lie over large ones. An image without a file has no objects.",
    True,
    {"set": "NAME", **COMMON},
    fits=_fits,
)
