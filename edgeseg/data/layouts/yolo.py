"""YOLO's polygons: ``images/SET`` and ``labels/SET``, a text file per image, names in ``data.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np

from edgeseg.data.layouts.base import COMMON, Asked, Found, Layers, Layout, flat_ids, images_by_name, one_of
from edgeseg.data.shapes import polygon_mask
from edgeseg.errors import DatasetError, ImageError
from edgeseg.files import text_from
from edgeseg.picture_files import natural_key

__all__ = ["LAYOUT"]

_NAMES = re.compile(r"^names:[ \t]*(?P<inline>[^\n#]*)[^\n]*\n?(?P<block>(?:[ \t]+\S.*\n?|[ \t]*-[ \t].*\n?)*)", re.M)
_ENTRY = re.compile(r"^\s*(?:-|(?P<id>\d+):)\s*(?P<name>\S.*?)\s*$")


@dataclass(frozen=True)
class _YoloLabel:
    """The lines ``CLASS x y x y ...`` of one image, relative to its width and height."""

    path: Path

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Draw the polygons, small ones over large ones. Raises ImageError naming the lines that are broken."""
        return flat_ids(self.layers(size_hw))

    def layers(self, size_hw: tuple[int, int]) -> Layers:
        """Draw each polygon by itself. Raises ImageError naming the lines that are broken."""
        # An image without objects has no file.
        return Layers(size_hw, list(self._drawn(size_hw)) if self.path.is_file() else [])

    def _drawn(self, size_hw: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
        for number, line in enumerate(text_from(self.path.read_bytes()).splitlines(), 1):
            if not line.strip():
                continue
            try:
                kind, *numbers = line.split()
                values, own = np.array([float(one) for one in numbers]), int(kind)
            except ValueError:
                raise ImageError(f"{self.path}, line {number}: {line[:40]!r} is not CLASS x y x y ...") from None
            if len(values) == 4:
                raise ImageError(f"{self.path}, line {number} is a box; a mask needs polygons (CLASS x y x y x y ...)")
            if len(values) < 6 or len(values) % 2 or not ((values >= -0.01) & (values <= 1.01)).all():
                raise ImageError(
                    f"{self.path}, line {number} is no polygon of three or more points between 0 and 1: {line[:40]!r}"
                )
            yield own, polygon_mask((values.reshape(-1, 2) * size_hw[::-1]).ravel().tolist(), size_hw)


def _found(where: Path, asked: Asked) -> Found:
    images = where / "images"
    sets = sorted(path for path in images.iterdir() if path.is_dir())
    wanted = asked.values.get("set") or (one_of(sets, f"{images} has sets", "set").name if sets else "")
    if not (images / wanted).is_dir():
        raise DatasetError(f"{images / wanted} does not exist; `set` is one of {', '.join(one.name for one in sets)}")
    files = sorted(images_by_name(images / wanted).values(), key=natural_key)
    if not files:
        raise DatasetError(f"{images / wanted} holds no images")
    places = [(where / "labels" / path.relative_to(images)).with_suffix(".txt") for path in files]
    description = f"{len(files)} images in {Path(*(images / wanted).resolve().parts[-3:])} (YOLO)"
    return Found(files, [_YoloLabel(path) for path in places], description, _class_names(where), covers_all=False)


def _class_names(where: Path) -> dict[int, str]:
    """Return the names of ``data.yaml`` (or ``dataset.yaml``) or ``classes.txt``; empty where there is none.

    Of YAML only the key names is read, in its three usual forms: ``[a, b]``, lines ``- a``, lines ``0: a``.
    """
    plain = where / "classes.txt"
    if plain.is_file():
        return dict(enumerate(line for line in text_from(plain.read_bytes()).splitlines() if line.strip()))
    path = next(iter(sorted([*where.glob("*.yaml"), *where.glob("*.yml")])), None)
    if path is None:
        return {}
    match = _NAMES.search(text_from(path.read_bytes()).replace("\r\n", "\n"))
    inline, block = (match["inline"].strip(), match["block"]) if match else ("", "")
    if inline[:1] in ("[", "{"):
        lines = [part if ":" in part else f"- {part}" for part in inline.strip("[]{} ").split(",")]
    else:
        lines = [line for line in block.splitlines() if line.strip()]
    entries = [_ENTRY.match(line) for line in lines]
    if inline[:1] not in ("", "[", "{") or not entries or None in entries:
        raise DatasetError(f"{path} has no list of names that is read; write names: [a, b], or a line for each")
    return {
        int(one["id"]) if one["id"] else number: one["name"].strip("'\"")
        for number, one in enumerate(one for one in entries if one is not None)
    }


LAYOUT = Layout(
    _found,
    "yolo://FOLDER",
    "YOLO polygons: `images/SET`, `labels/SET/*.txt`, names in `data.yaml` or `classes.txt`. Small ones lie over large "
    "ones. An image without a file has no objects.",
    True,
    {"set": "NAME", **COMMON},
    fits=lambda path: (path / "images").is_dir() and any((path / "labels").rglob("*.txt")),
)
