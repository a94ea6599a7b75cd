"""Cityscapes: ``leftImg8bit/SET/TOWN`` and ``gtFine/SET/TOWN/*_labelIds.png``."""

from __future__ import annotations

from pathlib import Path

from edgeseg.data.encodings import EncodedMask
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layout, folders_in, one_of, refuse_all
from edgeseg.errors import DatasetError
from edgeseg.picture_files import natural_key

__all__ = ["LAYOUT"]

_VOID = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
    *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer", "license plate"),
)
"""Names that are ignored in evaluation."""
_NAMES = dict(
    enumerate(
        (
            *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road"),
            *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
            *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider"),
            *("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
        )
    )
)
_TRAIN = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Ids by train id."""


def _found(where: Path, asked: Asked) -> Found:
    images = where / "leftImg8bit"
    sets = folders_in(images)
    chosen = images / asked.values["set"] if "set" in asked.values else one_of(sets, f"{images} has sets", "set")
    if not chosen.is_dir():
        raise DatasetError(f"{chosen} does not exist; `set` is one of {', '.join(path.name for path in sets)}")
    kind = asked.values.get("ids", "labelIds")
    files = sorted(chosen.glob("*/*_leftImg8bit.png"), key=natural_key)
    if not files:
        raise DatasetError(f"{chosen} holds no TOWN/*_leftImg8bit.png")
    fine = where / asked.values.get("kind", "gtFine")
    masks = [_mask(path, fine, chosen.name, kind) for path in files]
    absent = [path.name for path, mask in zip(files, masks) if not mask.is_file()]
    names = _NAMES if kind == "labelIds" else {**{own: _NAMES[was] for own, was in enumerate(_TRAIN)}, 255: "unlabeled"}
    return Found(
        files,
        [EncodedMask(mask, "ids", {}) if mask.is_file() else None for mask in masks],
        f"{len(files)} images in {Path(*where.resolve().parts[-1:])}/{chosen.name} (Cityscapes)",
        names,
        void=frozenset(own for own, name in names.items() if name in _VOID),
        groups=[path.parent.name for path in files],
        missing=lambda: refuse_all(absent, f"images have no {kind} in {fine}", "createTrainIdLabelImgs.py writes them"),
    )


def _mask(image: Path, fine: Path, part: str, kind: str) -> Path:
    stem = image.name[: -len("_leftImg8bit.png")]
    return fine / part / image.parent.name / f"{stem}_{fine.name}_{kind}.png"


LAYOUT = Layout(
    _found,
    "cityscapes://FOLDER",
    "Cityscapes: `leftImg8bit/SET/TOWN` and `gtFine/SET/TOWN`; names that it ignores in evaluation are ignored.",
    True,
    {"set": "NAME", "ids": "labelIds|labelTrainIds", "kind": "gtFine|gtCoarse", **COMMON},
    fits=lambda path: (path / "leftImg8bit").is_dir(),
)
