"""Open labelled data: a path whose layout is seen, ``LAYOUT://PATH?...``, or a folder with a ``dataset.toml``."""

from __future__ import annotations

import importlib
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, Mapping, Sequence
from urllib.parse import quote, unquote, urlencode

from edgeseg.data.class_map import MappedMask, class_map
from edgeseg.data.layouts import LAYOUTS, layout_of
from edgeseg.data.layouts.base import Asked, Found
from edgeseg.data.split import groups_of, part_of, rule_from
from edgeseg.data.windows import cut, picture_hw, places, window_from
from edgeseg.errors import DatasetError, UsageError, first_line
from edgeseg.images import Mask, Sample, StoredDataset
from edgeseg.spec import ModelSpec
from edgeseg.uris import checked_parameters

__all__ = [
    "DECLARATION",
    "SCHEME",
    "LayoutDataset",
    "WindowDataset",
    "classes_of",
    "is_of_layout",
    "opened",
    "with_parameters",
]

DECLARATION = "dataset.toml"
"""File in a data set's folder that says its layout and parameters, so that nobody has to pass them."""
SCHEME = "data"
"""Scheme of a data set whose layout is seen: ``data://PATH?masks=binary``."""


class LayoutDataset(StoredDataset):
    """Labelled images as a layout found them.

    Attributes:
        names: own id -> name of the data's own classes; empty where ids are those of the model's classes.
        groups: name of the drive, town or folder of each image.
    """

    def __init__(
        self, found: Found, masks: Sequence[Mask | None], spec: ModelSpec | None, groups: Sequence[str] | None = None
    ) -> None:
        super().__init__(found.images, masks, found.description, spec)
        self.names = dict(found.names)
        self.groups = groups_of(found.images, found.groups) if groups is None else list(groups)

    def named(self) -> list[tuple[str, str]]:
        """Return the name without suffix and the drive of each image."""
        return [(path.stem, group) for path, group in zip(self.files, self.groups)]

    def part(self, indices: Sequence[int], what: str) -> LayoutDataset:
        """Return the data set of some of the images; ``what`` stands behind its description."""
        files = [self.files[index] for index in indices]
        masks, groups = [self.masks[index] for index in indices], [self.groups[index] for index in indices]
        return LayoutDataset(Found(files, (), f"{self.description}, {what}", self.names), masks, self._spec, groups)


class WindowDataset(LayoutDataset):
    """Windows of labelled images, at the images' own resolution. ``files`` has an image as often as it has windows.

    Args:
        whole: the images.
        window_hw: height and width of a window in pixels.
    """

    def __init__(self, whole: LayoutDataset, window_hw: tuple[int, int]) -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            sizes = list(threads.map(picture_hw, whole.files))
        placed = [(index, place) for index, size_hw in enumerate(sizes) for place in places(size_hw, window_hw)]
        self._window_hw, self._places = window_hw, [place for _, place in placed]
        images = [index for index, _ in placed]
        what = f"{len(placed)} windows of {window_hw[1]}x{window_hw[0]}"
        found = Found([whole.files[index] for index in images], (), f"{whole.description}, {what}", whole.names)
        groups = [whole.groups[index] for index in images]
        super().__init__(found, [whole.masks[index] for index in images], whole._spec, groups)

    def __getitem__(self, index: int) -> Sample:
        return cut(super().__getitem__(index), self._places[index], self._window_hw)

    def part(self, indices: Sequence[int], what: str) -> LayoutDataset:
        """Return the data set of some of the windows; ``what`` stands behind its description."""
        chosen = copy(self)
        for name in ("files", "masks", "groups", "_places"):
            setattr(chosen, name, [getattr(self, name)[index] for index in indices])
        chosen.description = f"{self.description}, {what}"
        return chosen


def opened(where: str, *, spec: ModelSpec | None = None, need_labels: bool = False, **more: str) -> LayoutDataset:
    """Open a data set.

    Args:
        where: a path, ``LAYOUT://PATH?NAME=VALUE&...``, or ``data://PATH?...`` whose layout is seen.
        spec: classes of the model; None where masks are not used.
        need_labels: refuse images without masks.
        more: parameters that override those of ``where``.

    Raises:
        UsageError: the layout is not known, or a parameter is wrong.
        DatasetError: images or masks are missing.
    """
    layout, path, values = _read(where)
    asked = Asked({**values, **more}, spec)
    found: Found = LAYOUTS[layout].open(path, asked)
    if need_labels:
        found.missing()
    masks: list[Mask | None] = [None] * len(found.images)
    if spec is not None and any(label is not None for label in found.labels):
        ids = class_map(found, asked, path if path.is_dir() else path.parent)
        masks = [None if label is None else MappedMask(label, ids) for label in found.labels]
    data = _thinned(_part(LayoutDataset(found, masks, spec), asked.values), asked.values)
    window = asked.values.get("windows")
    return data if window is None else WindowDataset(data, window_from(window))


def classes_of(where: str) -> tuple[str, ...]:
    """Return the classes that a data set names itself, with ``background`` in front where it leaves pixels out.

    Raises:
        UsageError: the layout is not known, or a parameter is wrong.
        DatasetError: images are missing.
    """
    layout, path, values = _read(where)
    found: Found = LAYOUTS[layout].open(path, Asked(values))
    names = [name for own, name in sorted(found.names.items()) if own not in found.void]
    return (*(() if found.covers_all or "background" in names or not names else ("background",)), *names)


def is_of_layout(where: str) -> bool:
    """Tell whether a text names a layout: ``coco://...`` and ``data://...``, not ``demo://...`` and no path."""
    scheme, separator, _ = where.partition("://")
    return bool(separator) and (scheme in LAYOUTS or scheme == SCHEME)


def with_parameters(where: str, **values: str) -> str:
    """Return a data set's name with parameters added, or put in place of those that it has."""
    if not is_of_layout(where):
        where = f"{SCHEME}://{where}"
    place, _, query = where.partition("?")
    kept = [one for one in query.split("&") if one and one.partition("=")[0] not in values]
    return f"{place}?{'&'.join([*kept, urlencode(values, safe=',:/=', quote_via=quote)])}"


def _read(where: str) -> tuple[str, Path, dict[str, str]]:
    """Return layout, path and parameters. Raises UsageError, DatasetError."""
    scheme, _, rest = where.partition("://") if is_of_layout(where) else (SCHEME, "", where)
    place, _, query = rest.partition("?") if is_of_layout(where) else (where, "", "")
    path = Path(place)
    if not place:
        raise UsageError(f"{where!r} names no path; write {scheme}://PATH")
    declared = _declared(path / DECLARATION) if (path / DECLARATION).is_file() else {}
    layout = declared.pop("layout", "") if scheme == SCHEME else scheme
    declared.pop("layout", "")
    layout = layout or layout_of(path)
    if layout not in LAYOUTS:
        raise UsageError(f"{path / DECLARATION}: layout is one of {', '.join(LAYOUTS)}, got {layout!r}")
    kind = LAYOUTS[layout]
    declared = checked_parameters(urlencode(declared), kind.parameters, f"{DECLARATION} of {kind.shown}")
    return layout, path, {**declared, **checked_parameters(query, kind.parameters, kind.form)}


def _declared(path: Path) -> dict[str, str]:
    """Read a declaration. Raises DatasetError: it is no TOML of plain values."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tree: Mapping[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as TOML ({first_line(error)})") from error
    values = {}
    for name, value in tree.items():
        if name == "map" and isinstance(value, dict):
            value = ",".join(f"{source}:{target}" for source, target in value.items())
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise DatasetError(f"{path}: {name} is a text or a whole number (map: a table), got {value!r}")
        values[name] = str(value)
    return values


def _part(data: LayoutDataset, values: Mapping[str, str]) -> LayoutDataset:
    """Return the wanted part of a data set. Raises UsageError: it cannot be split so."""
    if "split" not in values and "part" not in values and "fold" not in values:
        return data
    part = values.get("part")
    if part not in ("train", "val") or "split" not in values:
        raise UsageError("`split`, `fold` and `part` go together: split=prefix&fold=1/5&part=train or part=val")
    rule = rule_from(values["split"], values.get("fold"))
    together = [data, *(_unlabelled(unquote(one)) for one in values.get("beside", "").split("|") if one)]
    files = [file for one in together for file in one.files]
    groups = [group for one in together for group in one.groups]
    indices = [index for index in part_of(rule, files, groups)[part] if index < len(data.files)]
    return data.part(indices, f"{part} of {rule}: {len(indices)} images")


def _unlabelled(where: str) -> LayoutDataset:
    """Return all images of a data set, whatever part of it is wanted."""
    layout, path, values = _read(where)
    found: Found = LAYOUTS[layout].open(path, Asked(values))
    return LayoutDataset(found, [None] * len(found.images), None)


def _thinned(data: LayoutDataset, values: Mapping[str, str]) -> LayoutDataset:
    """Return every N-th image of a data set, the first with them. Raises UsageError: N is no number from 1."""
    if "every" not in values:
        return data
    step = int(values["every"]) if re.fullmatch(r"\d{1,9}", values["every"]) else 0
    if step < 1:
        raise UsageError(f"`every` is N, a whole number from 1, to take every N-th image, got {values['every']!r}")
    kept = range(0, len(data.files), step)
    return data if step == 1 else data.part(kept, f"one image of every {step}: {len(kept)} images")
