"""What a layout is: where its images and labels are, and how their ids are read."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from edgeseg.errors import DatasetError, UsageError
from edgeseg.picture_files import IMAGE_SUFFIXES, is_hidden, is_hidden_name
from edgeseg.spec import ModelSpec
from edgeseg.uris import UriKind

__all__ = [
    "COMMON",
    "UNLABELLED",
    "Asked",
    "Found",
    "Label",
    "Layers",
    "Layout",
    "by_name",
    "composed",
    "files_below",
    "flat_ids",
    "folders_in",
    "images_by_name",
    "one_of",
    "refuse_all",
    "written_path",
]

UNLABELLED = -1
"""Own id of pixels that no annotation covers."""

COMMON: Mapping[str, str] = {
    "map": "NAME:CLASS,NAME:ignore|FILE",
    "rest": "CLASS|ignore",
    "unlabelled": "CLASS|ignore",
    "ignore": "ID",
    "split": "RULE",
    "fold": "I/N",
    "part": "train|val",
    "beside": "DATA|DATA",
    "every": "N",
    "windows": "WIDTHxHEIGHT",
}
"""Parameters that every layout has; see ``class_map``, ``split`` and ``windows`` of ``edgeseg.data``. ``every`` takes
the first of every N images, in the order of their names: pictures of a video are all alike. ``beside`` names the data
sets that are split together with this one, so that a drive of several is on one side."""


class Label(Protocol):
    """The annotation of one image, in the data's own ids."""

    @property
    def path(self) -> Path:
        """Return the file that messages name."""

    def own_ids(self, classes: int, size_hw: tuple[int, int]) -> np.ndarray:
        """Return HxW integers: the data's own ids, and ``UNLABELLED``. Raises ImageError: they cannot be read.

        Args:
            classes: number of classes that ids may name, as of ``read_mask``.
            size_hw: of the image, for annotations that have no size of their own.
        """


class Layers(NamedTuple):
    """Annotations of one image that may overlap. A ``Label`` that has them has a method ``layers(size_hw)`` too.

    Attributes:
        size_hw: height and width of the image that they are of.
        held: own id and HxW bool of each annotation; several may have one id.
    """

    size_hw: tuple[int, int]
    held: Sequence[tuple[int, np.ndarray]]


def flat_ids(layers: Layers) -> np.ndarray:
    """Draw annotations as HxW int32 of own ids and ``UNLABELLED``, small ones over large ones."""
    own = np.full(layers.size_hw, UNLABELLED, np.int32)
    for kind, mask in sorted(layers.held, key=lambda one: -int(one[1].sum())):
        own[mask] = kind
    return own


@dataclass(frozen=True)
class Asked:
    """What a layout is asked for.

    Attributes:
        values: of its parameters, those that are given.
        spec: classes and colours of the model; None where labels are not used.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    spec: ModelSpec | None = None

    def folder(self, name: str, where: Path) -> Path | None:
        """Return the folder or file that a parameter names, relative to the data set. Raises DatasetError: missing."""
        value = self.values.get(name)
        if value is None:
            return None
        found = where / value
        if not found.exists():
            raise DatasetError(f"{found} does not exist; `{name}` is relative to {where}")
        return found


@dataclass(frozen=True)
class Found:
    """What a layout found.

    Attributes:
        images: in the order of the data set.
        labels: of each image, or None.
        description: for people and bundles; no folder of this machine but the last two names.
        names: own id -> name; empty where ids are those of the model's classes.
        void: own ids that the layout itself counts for nothing.
        covers_all: whether the layout says what pixels without annotation are: they count for nothing.
        groups: name of the drive, town or folder of each image; empty where the layout has none.
        missing: raises DatasetError for images without a label.
    """

    images: Sequence[Path]
    labels: Sequence[Label | None]
    description: str
    names: Mapping[int, str] = field(default_factory=dict)
    void: frozenset[int] = frozenset()
    covers_all: bool = True
    groups: Sequence[str] = ()
    missing: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Layout(UriKind):
    """A row of the table of layouts; ``open`` takes a path and ``Asked``, and returns ``Found``.

    Attributes:
        fits: tells whether a folder or file has this layout, without reading much of it.
    """

    fits: Callable[[Path], bool] = lambda path: False


def composed(text: str) -> str:
    """Return a name in Unicode's composed form. Letters with accents have two spellings; macOS writes the other one."""
    return unicodedata.normalize("NFC", text)


def written_path(folder: Path, text: str) -> Path:
    """Return the path that a text names in a folder, as it is written; where nothing is there, as Windows or macOS do.

    Windows has backslashes between folders. macOS spells letters with accents in Unicode's other form.
    """
    slashed = text.replace("\\", "/")
    spelled = [unicodedata.normalize(form, one) for form in ("NFC", "NFD") for one in (text, slashed)]
    return next((folder / one for one in (text, slashed, *spelled) if (folder / one).exists()), folder / text)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly inside, without hidden ones."""
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in inside if path.is_dir() and not is_hidden(path))


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files in and below a folder that have one of the suffixes, without those in hidden folders."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if not any(map(is_hidden_name, path.relative_to(folder).parts)))


def by_name(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return files below a folder by their paths relative to it, without suffix, in Unicode's composed form.

    Raises:
        DatasetError: some share a name; all are named.
    """
    found: dict[str, Path] = {}
    clashes = []
    for path in files:
        first = found.setdefault(composed(path.relative_to(folder).with_suffix("").as_posix()), path)
        if first is not path:
            clashes.append(f"{first.name} and {path.name}")
    refuse_all(clashes, f"pairs of files in {folder} have one name", "keep the right one of each")
    return found


def images_by_name(folder: Path) -> dict[str, Path]:
    """Return the images in and below a folder as ``by_name`` does. Raises DatasetError: some share a name."""
    return by_name(files_below(folder, IMAGE_SUFFIXES), folder)


def refuse_all(problems: Sequence[str], what: str, remedy: str, most: int = 8) -> None:
    """Raise DatasetError naming all problems of a kind in one line; nothing where there is none.

    Args:
        problems: names of files, or what is wrong with each.
        what: they have in common, such as ``"images are missing"``.
        remedy: what to do.
        most: how many are named.
    """
    if problems:
        more = f" and {len(problems) - most} more" if len(problems) > most else ""
        raise DatasetError(f"{len(problems)} {what}: {', '.join(problems[:most])}{more}; {remedy}")


def one_of(candidates: Sequence[Path], what: str, parameter: str) -> Path:
    """Return the only candidate. Raises UsageError: there are several, or none."""
    if len(candidates) != 1:
        seen = ", ".join(path.name for path in candidates[:8]) or "none"
        raise UsageError(f"{what}: found {seen}; say which with `{parameter}`")
    return candidates[0]
