"""What is odd about labelled data: each finding is one function and one row of a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Iterator, Mapping, Sequence, Tuple

import numpy as np

from edgeseg.data.check import SetReport, shares
from edgeseg.data.told import told_by
from edgeseg.errors import some
from edgeseg.spec import IGNORE_ID, ModelSpec

__all__ = ["FINDINGS", "Finding", "found_in", "scenes"]

_RARE = 0.001
_NEAR = 0.1
_FEW_IMAGES = 10

Sets = Sequence[SetReport]


@dataclass(frozen=True)
class Finding:
    """Something that a person should know before training.

    Attributes:
        kind: a name of ``FINDINGS``.
        text: one line.
    """

    kind: str
    text: str


def found_in(sets: Sets, spec: ModelSpec) -> list[Finding]:
    """Return all findings in the order of the table; ``sets`` are training, and validation if there is one."""
    return [Finding(kind, text) for kind, look in FINDINGS.items() for text in look(sets, spec)]


def _few_images(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        if one.images < _FEW_IMAGES:
            many = "1 image" if one.images == 1 else f"{one.images} images"
            yield f"{one.role} has {many}, too few to measure or learn anything that holds for others"


def _empty_classes(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        empty = [name for name, pixels in zip(spec.classes, one.pixels) if not pixels]
        if empty and one.masks:
            yield f"no {one.role} mask holds {', '.join(empty)}"


def _rare_classes(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    rare = [
        f"{name} ({100 * share:.3f} % in {images} images)"
        for name, share, images in zip(spec.classes, shares(sets[0]), sets[0].images_with)
        if 0 < share < _RARE
    ]
    if rare:
        yield (
            f"rare in {sets[0].role}: {', '.join(rare)}; crops centred on them help: 'edgeseg train --augment street', "
            "medical, industrial or aerial"
        )


def _binary_masks(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        if one.one_class_masks:
            yield (
                f"{one.one_class_masks} of {one.masks} {one.role} masks hold one class and {IGNORE_ID}, which is "
                f"ignored; if {IGNORE_ID} is a class, pass data://FOLDER?masks=binary"
            )


def _palettes(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        for clash in one.clashes:
            yield (
                f"{clash}, by the palettes of {one.role} masks; a program may have sorted the entries anew, which are "
                "then no class ids: list the colours, and pass masks=colours"
            )


def _many_sizes(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        ratios = {round(int(width) / int(height), 2) for width, height in (size.split("x") for size in one.sizes)}
        if len(ratios) > 1:
            sizes = ", ".join(f"{size} ({count})" for size, count in list(one.sizes.items())[:5])
            yield f"{one.role} has images of {len(ratios)} shapes, which are stretched to one: {sizes}"


def _deep_images(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        deep = sum(count for kind, count in one.kinds.items() if kind.endswith("bits"))
        if deep:
            yield f"{deep} {one.role} images have more than 8 bits; of 16 the upper 8 are used"


def _duplicates(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    for one in sets:
        same = [name for name, count in Counter(seen.digest for seen in one.seen).items() if count > 1]
        if same:
            names = [seen.path.name for seen in one.seen if seen.digest == same[0]]
            yield f"{len(same)} {one.role} images are there more than once (first: {', '.join(names[:3])})"


def _shared_images(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    if len(sets) == 2:
        first = {seen.digest: seen.path.name for seen in sets[0].seen}
        shared = [(seen.path.name, first[seen.digest]) for seen in sets[1].seen if seen.digest in first]
        if shared:
            yield (
                f"{len(shared)} of {len(sets[1].seen)} validation images are training images too (first: "
                f"{shared[0][0]} is {shared[0][1]}): mIoU on what was learned by heart says nothing of new images"
            )


def _near_duplicates(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    """Compare small pictures: nearly the same ones are neighbours in a video, or one picture saved twice."""
    if len(sets) < 2 or not sets[0].seen:
        return
    known = {seen.digest for seen in sets[0].seen}
    table = np.stack([seen.fingerprint.ravel() for seen in sets[0].seen]).astype(np.int16)
    near = []
    for seen in sets[1].seen:
        mine = seen.fingerprint.ravel().astype(np.int16)
        differences = np.abs(table - mine).mean(1)
        at = int(differences.argmin())
        if seen.digest not in known and differences[at] < _NEAR * max(1.0, float(mine.std())):
            near.append(f"{seen.path.name} is nearly {sets[0].seen[at].path.name}")
    if near:
        yield f"{len(near)} validation images are nearly training images (first: {near[0]})"


def _one_scene(sets: Sets, spec: ModelSpec) -> Iterator[str]:
    """Tell where validation is one drive, or is cut from the drives that are trained on."""
    if len(sets) == 2:
        train, val = ([(seen.path.stem, seen.group) for seen in one.seen] for one in sets)
        yield from scenes(train, val)


Named = Sequence[Tuple[str, str]]


def scenes(train: Named, val: Named) -> Iterator[str]:
    """Tell by names alone where validation is one drive, or is cut from the drives that are trained on.

    Names that all begin alike, or with a number, tell no drives.

    Args:
        train: name without suffix and drive of each training image.
        val: the same of each validation image.
    """
    trained_on, judged_on = (Counter(group for _, group in one) for one in (train, val))
    if len({*trained_on, *judged_on}) < 2:
        return
    shared = sorted(set(trained_on) & set(judged_on))
    if len(judged_on) == 1 and len(val) > 1:
        group = next(iter(judged_on))
        numbers = _numbers(val)
        clip = f", numbers {min(numbers)}-{max(numbers)}" if numbers else ""
        also = f"; {trained_on[group]} training images are of it too" if shared else ""
        yield (
            f"all {len(val)} validation images are one scene ({group}{clip}{also}): mIoU on them says little of other "
            "scenes, so judge by several drives: 'edgeseg train --split by=prefix --fold 1/N'"
        )
    elif shared:
        count = sum(judged_on[group] for group in shared)
        yield (
            f"{count} of {len(val)} validation images are of drives that are trained on ({some(shared, 4)}); "
            "mIoU on them is higher than on new drives: 'edgeseg train --split by=prefix'"
        )
    gaps = [gap for group in shared for gap in _gaps(train, val, group)]
    if gaps:
        yield (
            "by the numbers or times in their names, the nearest training image of the same drive is "
            f"{int(np.median(gaps))} away from a validation image (median; least {min(gaps)}): "
            "'edgeseg train --split by=time-gap' leaves a gap"
        )


def _gaps(train: Named, val: Named, group: str) -> list[int]:
    """Return how far each validation image of a drive is from its nearest training image, by their numbers."""
    learned, judged = (_numbers([one for one in side if one[1] == group], of_times=True) for side in (train, val))
    return [min(abs(one - other) for other in learned) for one in judged] if learned else []


def _numbers(named: Named, *, of_times: bool = False) -> list[int]:
    """Return the numbers that count pictures, and whole seconds of the others where ``of_times`` is set."""
    told = [told_by(stem) for stem, _ in named]
    found = [one.seconds if one.number is None and of_times else one.number for one in told]
    return [int(one) for one in found if one is not None]


FINDINGS: Mapping[str, Callable[[Sets, ModelSpec], Iterator[str]]] = {
    "few images": _few_images,
    "empty class": _empty_classes,
    "rare class": _rare_classes,
    "binary masks": _binary_masks,
    "palettes": _palettes,
    "several shapes": _many_sizes,
    "deep images": _deep_images,
    "duplicates": _duplicates,
    "shared images": _shared_images,
    "near duplicates": _near_duplicates,
    "one scene": _one_scene,
}
"""Kind -> what finds it."""
