"""From the data's own ids to the classes of a model: by name, by a map that merges, or not at all."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import numpy as np

from edgeseg.data.layouts.base import UNLABELLED, Asked, Found, Label, Layers
from edgeseg.errors import DatasetError, ImageError, UsageError
from edgeseg.files import lines_from, text_from
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["ClassMap", "MappedMask", "class_map"]

_IGNORE = "ignore"
_MOST_IDS = 1 << 20


@dataclass(frozen=True)
class ClassMap:
    """What each own id becomes.

    Attributes:
        table: own id -> class id, or ``IGNORE_ID``; holds ``UNLABELLED``.
        rest: class id of ids that the table lacks; None where they stay as they are.
        is_closed: ids that the table lacks are an error of the file.
    """

    table: Mapping[int, int]
    rest: int | None = None
    is_closed: bool = False

    def classes(self, own: np.ndarray, path: Path) -> np.ndarray:
        """Return the HxW uint8 class ids of HxW own ids. Raises ImageError: an id is unknown."""
        if own.dtype == np.uint8 and len(self.table) == 1 and self.rest is None and not self.is_closed:
            return own  # ids of the model's own classes
        least = min(UNLABELLED, int(own.min(initial=0)))
        if int(own.max(initial=0)) - least > _MOST_IDS:
            raise ImageError(f"{path} has the id {int(own.max())}, which is none of its data set")
        shifted = own.astype(np.int64) - least
        present = np.bincount(shifted.ravel()) > 0
        values = np.flatnonzero(present) + least
        unknown = [value for value in values.tolist() if value not in self.table]
        if unknown and self.rest is None and (self.is_closed or min(unknown) < 0 or max(unknown) > 255):
            raise ImageError(
                f"{path} has the id {', '.join(map(str, unknown[:6]))}, which its data set does not list; list it "
                "there, or say with `rest` what unknown ids are"
            )
        kept = np.zeros(len(present), np.uint8)
        for value in values.tolist():
            kept[value - least] = self.table.get(value, value if self.rest is None else self.rest)
        return np.asarray(kept[shifted])


@dataclass(frozen=True)
class MappedMask:
    """An annotation in a data set's own ids, and what they become."""

    label: Label
    ids: ClassMap

    @property
    def path(self) -> Path:
        """Return the file that messages name."""
        return self.label.path

    def read(self, spec: ModelSpec, size_hw: tuple[int, int]) -> np.ndarray:
        """Return HxW uint8 class ids, of a multi-label spec KxHxW planes where annotations may overlap.

        Raises:
            ImageError: the annotation cannot be read, or an id is unknown.
        """
        layers = getattr(self.label, "layers", None)
        if spec.mode == "multilabel" and layers is not None:
            return self._planes(layers(size_hw), len(spec.classes) - 1)
        return self.ids.classes(self.label.own_ids(len(spec.classes), size_hw), self.path)

    def _planes(self, layers: Layers, labels: int) -> np.ndarray:
        """Lay annotations over each other: what one says, the others do not hide."""
        planes = np.zeros((labels, *layers.size_hw), np.uint8)
        covered = np.zeros(layers.size_hw, bool)
        for _, mask in layers.held:
            covered |= mask
        void = np.zeros(layers.size_hw, bool)
        for own, mask in (*layers.held, (UNLABELLED, ~covered)):
            target = int(self.ids.classes(np.array([[own]], np.int32), self.path)[0, 0])
            if target == IGNORE_ID:
                void |= mask
            elif target:
                planes[target - 1] |= mask
        planes[:, void] = IGNORE_ID
        return planes


def class_map(found: Found, asked: Asked, where: Path) -> ClassMap:
    """Return what the own ids of a data set become in a model.

    Ids with names become the class of the same name. ``map`` sends names or ids to other classes and to ``ignore``.
    Ids without names are those of the model's classes, in masks. Outlines leave the background out, and their ids with
    it; so their ids need names, or ``map``.

    Args:
        found: the data set.
        asked: parameters and the model's classes.
        where: of the data set; a file for ``map`` is relative to it.

    Raises:
        UsageError: a class has no place in the model, and nothing says what becomes of it; all are named. Or two
            things are said of one id, or a name means several classes.
        DatasetError: the file for ``map`` cannot be read.
    """
    spec = asked.spec
    assert spec is not None
    table = _wanted(found, asked, where)
    rest = _class(asked.values["rest"], spec, "`rest` is") if "rest" in asked.values else None
    if not (found.names or found.covers_all or table or rest is not None):
        raise UsageError(
            f"the data ({found.description}) does not name its classes; name them there (YOLO: names in data.yaml), "
            f"or say map=0:{spec.classes[-1]},..."
        )
    table[UNLABELLED] = _unlabelled(found, asked, spec)
    return ClassMap(_named(table, rest, found, spec), rest, bool(found.names) or not found.covers_all)


def _wanted(found: Found, asked: Asked, where: Path) -> dict[int, int]:
    """Return what ``map`` and ``ignore`` say of own ids. Raises UsageError: it is unclear, or they say two things."""
    spec = asked.spec
    assert spec is not None
    names = found.names or (dict(enumerate(spec.classes)) if found.covers_all else {})
    table: dict[int, int] = {}
    said: dict[int, str] = {}
    for source, target in _wishes(asked.values.get("map", ""), where).items():
        owns = _ids_called(source, names) or ([int(source)] if source.isdecimal() else [])
        if not owns or (found.names and not set(owns) <= set(found.names)):
            raise UsageError(f"`map` names {source!r}, which the data does not have; {_known(source, found, spec)}")
        wish = _class(target, spec, f"`map` sends {source} to")
        for own in owns:
            if table.setdefault(own, wish) != wish:
                raise UsageError(f"`map` says both {said[own]} and {source}:{target}, of the same id {own}; say one")
            said.setdefault(own, f"{source}:{target}")
    if "ignore" in asked.values:
        own = _number(asked.values["ignore"], "ignore")
        if table.setdefault(own, IGNORE_ID) != IGNORE_ID:
            raise UsageError(f"`map` says {said[own]} and `ignore` {own}, which is the same id; say one")
    return table


def _named(table: dict[int, int], rest: int | None, found: Found, spec: ModelSpec) -> dict[int, int]:
    """Give every named id a class. Raises UsageError naming all that have none, or a name of several classes."""
    if not found.names and not found.covers_all:
        return table
    if not found.names:
        own_ids = {**{index: index for index in range(len(spec.classes))}, spec.ignore_id: IGNORE_ID}
        return {**own_ids, IGNORE_ID: IGNORE_ID, **table}
    classes = dict(enumerate(spec.classes))
    homeless = []
    for own, name in found.names.items():
        if own in table:
            continue
        if _ids_called(name, classes):
            table[own] = _class(name, spec, "the data has the class")
        elif own in found.void:
            table[own] = IGNORE_ID
        elif rest is not None:
            table[own] = rest
        else:
            homeless.append(name)
    if homeless:
        example = f"map={homeless[0]}:{spec.classes[-1]}"
        raise UsageError(
            f"{len(homeless)} classes of the data are none of the model's ({', '.join(spec.classes)}): "
            f"{', '.join(homeless)}; merge them with {example},... or pass rest=ignore"
        )
    return table


def _unlabelled(found: Found, asked: Asked, spec: ModelSpec) -> int:
    """Return what pixels without annotation are. Raises UsageError: the layout does not say, nor does anybody."""
    if "unlabelled" in asked.values:
        return _class(asked.values["unlabelled"], spec, "`unlabelled` is")
    if found.covers_all:
        return IGNORE_ID
    if "background" in spec.classes:
        return spec.classes.index("background")
    if spec.has_sigmoids:
        return 0
    raise UsageError(
        "the data does not say what pixels without annotation are; pass unlabelled=CLASS "
        f"({', '.join(spec.classes)}) or unlabelled=ignore"
    )


def _wishes(text: str, where: Path) -> dict[str, str]:
    """Read ``a:b,c:d``, or a file of such pairs, one a line."""
    parts = text.split(",")
    if text and (where / text).is_file():
        try:
            lines = lines_from(text_from((where / text).read_bytes()))
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{where / text} cannot be read as a map of classes ({error})") from error
        parts = [line.split("#")[0] for line in lines]
    pairs = [part.strip() for part in parts if part.strip()]
    wishes: dict[str, str] = {}
    for pair in pairs:
        source, colon, target = pair.rpartition(":")
        if not colon or not source.strip() or not target.strip():
            raise UsageError(f"`map` is NAME:CLASS,NAME:ignore or a file of such lines, got {pair!r}")
        if wishes.setdefault(source.strip(), target.strip()) != target.strip():
            raise UsageError(f"`map` sends {source.strip()} to both {wishes[source.strip()]} and {target.strip()}")
    return wishes


def _class(text: str, spec: ModelSpec, what: str) -> int:
    """Return the id of a class by its name or id, or ``IGNORE_ID``. Raises UsageError."""
    classes = _ids_called(text, dict(enumerate(spec.classes)))
    if len(classes) > 1:
        meant = " or ".join(spec.classes[one] for one in classes)
        raise UsageError(f"{what} {text!r}, which could be {meant}; write it exactly, or use `map`")
    if classes:
        return classes[0]
    if text == _IGNORE:
        return IGNORE_ID
    if text.isdecimal() and int(text) < len(spec.classes):
        return int(text)
    raise UsageError(f"{what} {text!r}, which is no class of the model; pass one of {', '.join(spec.classes)}, ignore")


def _number(text: str, parameter: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"`{parameter}` is an id such as 255, got {text!r}")
    return int(text)


def _known(source: str, found: Found, spec: ModelSpec) -> str:
    if not found.names and not found.covers_all:
        return f"it has ids alone, as in map=0:{spec.classes[-1]}"
    names = list(found.names.values()) or list(spec.classes)
    near = difflib.get_close_matches(source, names, 1)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:12])}"


def _ids_called(name: str, names: Mapping[int, str]) -> list[int]:
    """Return the ids that have a name exactly, else those that have it but for what does not matter."""
    exact = [own for own, one in names.items() if one == name]
    return exact or [own for own, one in names.items() if _plain(one) == _plain(name)]


def _plain(name: str) -> str:
    """Return a name without the differences that do not matter: capitals, blanks, dashes."""
    return name.strip().casefold().replace("-", " ").replace("_", " ")
