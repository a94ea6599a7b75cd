"""Turn what people write (sizes, numbers per channel, class lists, data sets) into what the package works with."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple, Sequence
from urllib.parse import quote

from edgeseg.class_list import classes_from, hue
from edgeseg.data.layouts import LAYOUTS
from edgeseg.data.opening import SCHEME, classes_of, is_of_layout, opened, with_parameters
from edgeseg.demo import CLASSES as CAMVID_CLASSES
from edgeseg.demo import PALETTE as CAMVID_PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import UsageError
from edgeseg.images import Dataset
from edgeseg.spec import IGNORE_ID, MODES, ModelSpec, Preprocess
from edgeseg.uris import absolute_uri

__all__ = [
    "Head",
    "absolute_augmentation",
    "absolute_data",
    "dataset_from",
    "opened_parts",
    "path_of_data",
    "sides",
    "size_hw_from",
    "spec_from",
    "spec_of_data",
    "triple_from",
]

CAMVID_VOID = 11
_SIZE = re.compile("([0-9]{1,5})[xX]([0-9]{1,5})")
_NO_LABEL = ("background", "none")


class Head(NamedTuple):
    """How a network tells classes: ``mode`` and ``threshold`` of a spec."""

    mode: str = MODES[0]
    threshold: float = 0.5

    def refuse_without_background(self, names: Sequence[str]) -> None:
        """Raise UsageError for classes of sigmoids whose class 0 is not that of all other pixels."""
        if self.mode == "multilabel" and names[0].casefold() not in _NO_LABEL:
            raise UsageError(
                f"`mode` multilabel needs class 0 for pixels without a label, got {', '.join(names[:6])}; list it in "
                f"front, as in background,{','.join(names[:6])}"
            )
        if self.mode == "binary" and len(names) == 1:
            raise UsageError(
                f"`mode` binary needs the class of all other pixels, got {names[0]!r} alone; list it in front: "
                f"background,{names[0]}"
            )


def size_hw_from(text: str) -> tuple[int, int]:
    """Read ``480x360`` (width x height, as cameras say it) as (360, 480). Raises UsageError."""
    found = _SIZE.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2]):
        shown = repr(text) if len(text) < 50 else f"{text[:50]!r}..."
        raise UsageError(f"a size is WIDTHxHEIGHT such as 480x360, up to 99999 pixels a side, got {shown}")
    return int(found[2]), int(found[1])


def triple_from(text: str, flag: str) -> tuple[float, float, float]:
    """Read ``0.485,0.456,0.406`` or, for all channels, ``0.5`` as three floats. Raises UsageError."""
    parts = text.strip(" []()").replace(",", " ").split()
    try:
        first, second, third = (float(part) for part in (3 * parts if len(parts) == 1 else parts))
    except ValueError:
        raise UsageError(f"{flag} takes three numbers such as 0.485,0.456,0.406, got {text!r}") from None
    return first, second, third


def spec_from(
    classes: str, size: str, ignore: int | None, *, background: str | None = None, head: Head = Head()
) -> ModelSpec:
    """Return the spec of ``classes`` (``camvid``, names with commas, or a file of names), ``size`` and ``ignore``.

    A ``background`` that is no class of the list, and not ``none``, becomes class 0 in black.

    Raises:
        UsageError: the class list cannot be read, or lacks the class 0 of several labels.
        SpecError: the parts do not fit each other.
    """
    if classes == "camvid":
        head.refuse_without_background(CAMVID_CLASSES)
        void = CAMVID_VOID if ignore is None else ignore
        return ModelSpec(CAMVID_CLASSES, CAMVID_PALETTE, size_hw_from(size), Preprocess(), void, *head)
    if head.mode != MODES[0] and "," not in classes and not os.path.exists(classes):
        head.refuse_without_background((classes,))
    names, palette = classes_from(classes)
    head.refuse_without_background(names)
    if background not in (None, "none", *names):
        names, palette = [str(background), *names], [(0, 0, 0), *palette]
    void = IGNORE_ID if ignore is None else ignore
    return ModelSpec(tuple(names), tuple(palette), size_hw_from(size), Preprocess(), void, *head)


def spec_of_data(
    classes: str | None, ignore: int | None, where: str, size: str = "480x360", head: Head = Head()
) -> ModelSpec:
    """Return a spec of the classes that are given, else of those that the data itself names.

    Args:
        classes: as of ``spec_from``, or None.
        ignore: as of ``spec_from``.
        where: names the data.
        size: of the network's input.
        head: mode and threshold.

    Raises:
        UsageError: nobody names the classes, or the class list cannot be read.
        DatasetError: the data cannot be opened.
    """
    if where.startswith("demo://"):
        classes = classes or "camvid"
    if classes is not None:
        return spec_from(classes, size, ignore, head=head)
    names = classes_of(where)
    if not names:
        raise UsageError(f"{where} does not name its classes; pass `classes`: names as in road,car,sky, or a file")
    head.refuse_without_background(names)
    colours = [hue(index, len(names)) for index in range(len(names))]
    void = IGNORE_ID if ignore is None else ignore
    return ModelSpec(names, tuple(colours), size_hw_from(size), Preprocess(), void, *head)


def dataset_from(
    where: str, *, labels: Path | None = None, spec: ModelSpec | None = None, need_labels: bool = False
) -> Dataset:
    """Open labelled images of any layout (``edgeseg.data``) or ``demo://street?...``. Raises DatasetError, UsageError.

    Args:
        where: a path, ``LAYOUT://PATH?...`` or ``demo://street?...``.
        labels: a folder of masks, for a layout that has such a parameter.
        spec: classes that labels may name; None where labels are not used.
        need_labels: refuse images without labels.
    """
    if where.startswith("demo://"):
        if spec is not None and spec.classes != CAMVID_CLASSES:
            raise UsageError(
                f"{where} has the CamVid classes, but the model's are {', '.join(spec.classes)}; pass a folder"
            )
        return StreetDataset(where)
    more = {} if labels is None else {"labels": os.path.abspath(labels)}
    return opened(where, spec=spec, need_labels=need_labels, **more)


def sides(
    data: Sequence[str], validation: str | None, split: str | None, fold: str | None
) -> tuple[list[str], list[str]]:
    """Return what to train on and what to validate on: the data and the validation data, or parts of the data.

    Several data sets are split together: a drive whose pictures are in two of them is on one side.

    Args:
        data: names of data sets.
        validation: name of one for validation, or None.
        split: how validation images are taken from the data, or None.
        fold: ``I/N`` of the split, or None.

    Raises:
        UsageError: both are given, or data that cannot be split.
    """
    if split is None:
        if fold is not None:
            raise UsageError("`fold` says which part of a `split` is for validation; pass `split` too")
        return list(data), [] if validation is None else [validation]
    if validation is not None:
        raise UsageError("`split` takes validation images from the data, so leave `validation` out")
    unsplit = [one for one in data if one.startswith("demo://")]
    if unsplit:
        raise UsageError(f"{unsplit[0]} is rendered and cannot be split; pass `validation`")
    wanted = {"split": split, **({} if fold is None else {"fold": fold})}
    train, val = [], []
    for at, one in enumerate(data):
        others = "|".join(quote(other, safe="/:?=&,") for other in (*data[:at], *data[at + 1 :]))
        together = {**wanted, "beside": others} if others else wanted
        train.append(with_parameters(one, **together, part="train"))
        val.append(with_parameters(one, **together, part="val"))
    return train, val


def opened_parts(names: Sequence[str], spec: ModelSpec, *, need_labels: bool = False) -> list[Dataset]:
    """Open what ``sides`` returned, without the data sets of which a split leaves nothing on this side.

    Raises:
        EdgesegError: as ``dataset_from``.
    """
    opened_all = [dataset_from(name, spec=spec, need_labels=need_labels) for name in names]
    return [one for one in opened_all if len(one)]


def path_of_data(where: str) -> Path:
    """Return the folder or file of a data set's name; that of rendered pictures does not exist."""
    return Path(where.partition("://")[2].partition("?")[0] if is_of_layout(where) else where)


def absolute_augmentation(text: str) -> str:
    """Return what names an augmentation so that it does not depend on the working directory."""
    kind, colon, rest = text.partition(":")
    path, comma, changes = rest.partition(",")
    return f"{kind}:{os.path.abspath(path)}{comma}{changes}" if colon else text


def absolute_data(where: str) -> str:
    """Return what names a data set so that it does not depend on the working directory."""
    if where.startswith("demo://") or not is_of_layout(where):
        return where if where.startswith("demo://") else os.path.abspath(where)
    return absolute_uri(where, {**LAYOUTS, SCHEME: LAYOUTS["folders"]})
