"""Images and masks in folders, or mixed in one: ``images/`` and ``masks/``, ``NAME`` and ``NAMEannot``, ``a_mask``."""

from __future__ import annotations

from pathlib import Path

from edgeseg.data.colours import colours_for
from edgeseg.data.encodings import ENCODINGS, EncodedMask
from edgeseg.data.layouts.base import COMMON, Asked, Found, Layout
from edgeseg.images import described
from edgeseg.mask_files import mask_files

__all__ = ["LAYOUT"]


def _found(where: Path, asked: Asked) -> Found:
    encoding = asked.values.get("masks", "ids")
    found = mask_files(
        where, asked.folder("labels", where), asked.values.get("names"), may_be_lossy=encoding == "threshold"
    )
    colours, own = colours_for(encoding, asked, where)
    labels = [None if path is None else EncodedMask(path, encoding, colours) for path in found.masks]
    above = found.images[0].parent if len({path.parent for path in found.images}) == 1 else where
    groups = [path.parent.relative_to(above).as_posix() for path in found.images] if above == where else []
    return Found(found.images, labels, described(found, where), own, groups=groups, missing=found.refuse_missing)


LAYOUT = Layout(
    _found,
    "folders://FOLDER",
    "Images and masks in folders: `images/` and `masks/`, `NAME` and `NAMEannot`, or `a.jpg` beside `a_mask.png`.",
    True,
    {
        "masks": "|".join(ENCODINGS),
        "colours": "FILE",
        "labels": "FOLDER",
        "names": "IMAGE:MASK",
        **COMMON,
    },
    fits=lambda path: path.is_dir(),
)
