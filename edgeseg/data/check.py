"""Look at labelled data before anything is trained on it: what cannot be read, what is rare, what leaks."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from edgeseg.data.opening import LayoutDataset
from edgeseg.data.split import prefix_of
from edgeseg.errors import EdgesegError
from edgeseg.image_bytes import kind_of, single_channel_png, tiff_tags
from edgeseg.images import Dataset, Mask, Sample, checked_mask, read_image
from edgeseg.label_planes import pixel_counts
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["FINGERPRINT_HW", "Problem", "Seen", "SetReport", "checked", "shares"]

FINGERPRINT_HW = (24, 32)
_HEAD_BYTES, _BITS_PER_SAMPLE = 1 << 16, 258


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    file: str
    what: str


@dataclass(frozen=True)
class Seen:
    """What is kept of an image that was read.

    Attributes:
        path: of the image.
        group: its drive, town or folder.
        digest: of its pixels.
        fingerprint: the picture as 24x32 uint8 grey.
    """

    path: Path
    group: str
    digest: bytes
    fingerprint: np.ndarray


@dataclass(frozen=True)
class SetReport:
    """What a set of images holds.

    Attributes:
        role: ``"training"`` or ``"validation"``.
        description: of the data set.
        images, masks: how many there are, and how many of both could be used.
        sizes: ``"WIDTHxHEIGHT"`` -> images.
        kinds: kind of file, such as ``"PNG, 16 bits"`` -> images.
        pixels: labelled pixels per class id, int64 of length C; a pixel with several labels counts for each.
        images_with: images that hold each class, int64 of length C.
        ignored: pixels that are no class.
        one_class_masks: masks that hold one class and ``IGNORE_ID`` and nothing else, as masks of 0 and 255 do.
        clashes: two files, in words, whose palettes show one colour for two classes; one for each set of images.
        problems: files that cannot be used.
        seen: the images that were read.
        labelled: pixels that are a class.
    """

    role: str
    description: str
    images: int
    masks: int
    sizes: Mapping[str, int]
    kinds: Mapping[str, int]
    pixels: np.ndarray
    images_with: np.ndarray
    ignored: int
    one_class_masks: int
    clashes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    seen: tuple[Seen, ...] = field(default=(), repr=False)
    labelled: int = 0

    def __add__(self, other: SetReport) -> SetReport:
        return SetReport(
            self.role,
            f"{self.description} + {other.description}",
            self.images + other.images,
            self.masks + other.masks,
            Counter(self.sizes) + Counter(other.sizes),
            Counter(self.kinds) + Counter(other.kinds),
            self.pixels + other.pixels,
            self.images_with + other.images_with,
            self.ignored + other.ignored,
            self.one_class_masks + other.one_class_masks,
            self.clashes + other.clashes,
            self.problems + other.problems,
            self.seen + other.seen,
            self.labelled + other.labelled,
        )

    def to_json(self, spec: ModelSpec) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        total = self.labelled + self.ignored
        return {
            "role": self.role,
            "description": self.description,
            "images": self.images,
            "masks": self.masks,
            "sizes": dict(self.sizes),
            "kinds": dict(self.kinds),
            "ignored": self.ignored / total if total else 0.0,
            "classes": {
                name: {"pixels": int(pixels), "share": pixels / total if total else 0.0, "images": int(images)}
                for name, pixels, images in zip(spec.classes, self.pixels, self.images_with)
            },
            "problems": [{"file": one.file, "what": one.what} for one in self.problems],
        }


@dataclass
class _Look:
    """What was found at one image."""

    problems: list[Problem]
    kind: str = ""
    size: str = ""
    seen: Seen | None = None
    histogram: np.ndarray | None = None
    area: int = 0
    painted: Mapping[int, int] = field(default_factory=dict)
    """Colour -> class id as which a palette PNG was read; empty for other masks."""


def checked(
    role: str, data: Dataset, spec: ModelSpec, count: Callable[[str, int, int], None] = lambda *_: None
) -> SetReport:
    """Read every image and mask once; what cannot be read is a problem and stops nothing.

    Args:
        role: ``"training"`` or ``"validation"``.
        data: opened with the spec and without the demand for labels. Rendered images are looked at, too.
        spec: classes that the masks may name.
        count: called with (what, images done, images in all).
    """
    looks: list[_Look] = []
    is_stored = isinstance(data, LayoutDataset)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if is_stored else 1) as threads:
        for look in threads.map(lambda index: _look_at(data, index, spec), range(len(data))):
            looks.append(look)
            count(f"{role} images", len(looks), len(data))
    histograms = [look.histogram for look in looks if look.histogram is not None]
    table = np.stack(histograms) if histograms else np.zeros((1, 256), np.int64)
    classes = table[:, : len(spec.classes)]
    ignored = int(table.sum() - classes.sum())
    one_class = (np.count_nonzero(classes, axis=1) == 1) & (table[:, IGNORE_ID] > 0)
    return SetReport(
        role,
        data.description,
        len(data),
        len(histograms),
        dict(Counter(look.size for look in looks if look.size).most_common()),
        dict(Counter(look.kind for look in looks if look.kind).most_common()),
        classes.sum(0),
        np.count_nonzero(classes, axis=0),
        ignored,
        int(one_class.sum()),
        _clashes(looks, data, spec),
        tuple(problem for look in looks for problem in look.problems),
        tuple(look.seen for look in looks if look.seen is not None),
        sum(look.area for look in looks) - ignored,
    )


def _look_at(data: Dataset, index: int, spec: ModelSpec) -> _Look:
    if isinstance(data, LayoutDataset):
        return _look_at_file(data, index, spec)
    sample, look = data[index], _Look([], "rendered")
    _note(look, Path(sample.name), prefix_of(sample.name), sample)
    return look


def _look_at_file(data: LayoutDataset, index: int, spec: ModelSpec) -> _Look:
    path, mask = data.files[index], data.masks[index]
    look = _Look([] if mask is not None else [Problem(str(path), f"{path} has no mask")])
    try:
        look.kind = _kind(path)
        sample = data[index]
    except (EdgesegError, OSError) as error:
        look.problems.append(Problem(str(path), str(error)))
        _look_at_both(data, index, spec, look)
        return look
    _note(look, path, data.groups[index], sample)
    if mask is not None and sample.label is not None:
        look.painted = _painted(mask, sample.label)
    return look


def _painted(mask: Mask, label: np.ndarray) -> dict[int, int]:
    """Return colour -> class id of a mask that is one palette PNG, without colours of several ids."""
    path, is_of_several = mask.path, hasattr(getattr(mask, "label", None), "layers")
    plain = None if is_of_several or _kind(path) != "PNG" else single_channel_png(path.read_bytes())
    if plain is None or not plain[2]:
        return {}
    try:
        shown = read_image(path).astype(np.int64)
    except EdgesegError:  # a broken palette, whose entries can be read
        return {}
    if label.shape != shown.shape[:2]:
        return {}  # a window, or labels by plane
    codes = shown[..., 2] << 16 | shown[..., 1] << 8 | shown[..., 0]
    pairs = [(code >> 8, code & 255) for code in np.unique(codes << 8 | label).tolist()]
    counts = Counter(colour for colour, _ in pairs)
    return {colour: own for colour, own in pairs if counts[colour] == 1}


def _clashes(looks: Sequence[_Look], data: Dataset, spec: ModelSpec) -> tuple[str, ...]:
    """Tell of two masks of a set that show one colour for two classes; then entries of a palette are no class ids."""
    first: dict[int, tuple[int, int]] = {}
    for index, look in enumerate(looks):
        of_classes = {colour: own for colour, own in look.painted.items() if own < len(spec.classes)}
        for colour, own in of_classes.items():
            before, other = first.setdefault(colour, (index, own))
            if other != own and isinstance(data, LayoutDataset):
                files = [mask.path.name for mask in (data.masks[before], data.masks[index]) if mask is not None]
                red, green, blue = colour >> 16, colour >> 8 & 255, colour & 255
                was, now = spec.classes[other], spec.classes[own]
                return (f"the colour {red} {green} {blue} is {was} in {files[0]} and {now} in {files[1]}",)
    return ()


def _note(look: _Look, path: Path, group: str, sample: Sample) -> None:
    """Keep what is needed of a sample that could be read."""
    look.size = f"{sample.frame.shape[1]}x{sample.frame.shape[0]}"
    look.seen = _seen(path, group, sample.frame)
    if sample.label is not None:
        look.histogram, look.area = pixel_counts(sample.label), sample.label.shape[-2] * sample.label.shape[-1]


def _look_at_both(data: LayoutDataset, index: int, spec: ModelSpec, look: _Look) -> None:
    """Find out what else is wrong where something is: the image may be broken, and its mask too."""
    path, mask = data.files[index], data.masks[index]
    size_hw, frame = FINGERPRINT_HW, None
    try:
        frame = read_image(path)
        size_hw = frame.shape[:2]
        look.size = f"{size_hw[1]}x{size_hw[0]}"
        look.seen = _seen(path, data.groups[index], frame)
    except (EdgesegError, OSError):
        pass
    if mask is None:
        return
    try:
        ids = mask.read(spec, (size_hw[0], size_hw[1]))
        if frame is not None:
            checked_mask(ids, frame, spec, mask.path)
    except (EdgesegError, OSError) as error:
        if str(error) not in {one.what for one in look.problems}:
            look.problems.append(Problem(str(mask.path), str(error)))
        elif frame is not None:  # the problem is the mask's
            look.problems[:] = [Problem(str(mask.path), one.what) for one in look.problems]


def _seen(path: Path, group: str, frame: np.ndarray) -> Seen:
    import cv2

    small = cv2.resize(frame, FINGERPRINT_HW[::-1], interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
    return Seen(path, group, hashlib.blake2b(frame.tobytes(), digest_size=16).digest(), grey)


def _kind(path: Path) -> str:
    """Return what kind of file an image is, with its bits where they are more than 8. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    kind = kind_of(head) or "unknown"
    bits = 8
    if kind == "PNG" and len(head) > 24:
        bits = head[24]
    elif kind == "TIFF":
        bits = tiff_tags(head).get(_BITS_PER_SAMPLE, 8)
    return f"{kind}, {bits} bits" if bits > 8 else kind


def shares(report: SetReport) -> Sequence[float]:
    """Return the share of each class among the labelled pixels, 0 to 1."""
    return [float(one) for one in report.pixels / max(1, report.labelled)]
