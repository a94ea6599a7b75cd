"""Split a data set for validation so that no drive is on both sides: by folder, prefix, time or chance."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

from edgeseg.data.told import told_by
from edgeseg.errors import UsageError
from edgeseg.picture_files import natural_key

__all__ = ["RULES", "SplitRule", "groups_of", "part_of", "prefix_of", "rule_from", "seconds_of"]

_FOLDS, _MOST_FOLDS = 5, 1000


@dataclass(frozen=True)
class SplitRule:
    """How a data set is split.

    Attributes:
        by: a name of ``RULES``.
        fold: which of the folds is for validation, from 1.
        folds: how many there are; None for 5, or as many as there are groups if that is less.
        gap: for ``time-gap``: seconds between validation and training.
        fps: for ``time-gap``: pictures per second, where names hold frame numbers; None where they hold times.
        seed: for ``random``.
    """

    by: str
    fold: int = 1
    folds: int | None = None
    gap: float = 10.0
    fps: float | None = None
    seed: int = 0

    def __str__(self) -> str:
        more = f",gap={self.gap:g}" if self.by == "time-gap" else f",seed={self.seed}" if self.by == "random" else ""
        fps = f",fps={self.fps:g}" if self.fps else ""
        return f"split by={self.by}{more}{fps}, fold {self.fold}/{self.folds or 'all'}"


def rule_from(text: str, fold: str | None = None) -> SplitRule:
    """Read ``by=prefix``, ``time-gap,gap=10,fps=30`` or ``random,seed=3``, and a fold ``2/5``.

    Raises:
        UsageError: the rule is not known, or a value is wrong.
    """
    first, *more = text.split(",")
    by = first[3:] if first.startswith("by=") else first
    if by not in RULES:
        raise UsageError(f"`split` is by=folder, prefix, time-gap or random, got {text!r}")
    known = {"time-gap": ("gap", "fps"), "random": ("seed",)}.get(by, ())
    values = {}
    for one in more:
        name, _, value = one.partition("=")
        if name not in known or not re.fullmatch(r"\d+(\.\d+)?", value):
            has = f"has {' and '.join(f'{name}=NUMBER' for name in known)}" if known else "has no more to say"
            raise UsageError(f"`split` by={by} {has}, got {one!r}")
        values[name] = float(value)
    index, count = _fold(fold)
    return SplitRule(by, index, count, values.get("gap", 10.0), values.get("fps"), int(values.get("seed", 0)))


def _fold(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 1, None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= index <= count and 2 <= count <= _MOST_FOLDS):
        raise UsageError(f"`fold` is I/N such as 1/5: the I-th of N parts is for validation, got {text!r}")
    return index, count


def groups_of(files: Sequence[Path], known: Sequence[str] = ()) -> list[str]:
    """Return the name of the drive, town or folder of each image: that of the layout, else what its name tells."""
    if len(set(known)) > 1:
        return list(known)
    told = [told_by(path.stem) for path in files]
    count = Counter(one.video for one in told)
    return [one.video if count[one.video] > 1 else one.drive for one in told]


def prefix_of(stem: str) -> str:
    """Return what the names of one drive share, as of ``told_by``."""
    return told_by(stem).drive


def seconds_of(stem: str, fps: float | None) -> float | None:
    """Return the time that a name tells, in seconds: a date and time, Unix time, a frame number over ``fps``, or both.

    Returns:
        None where the name has no number, or only a frame number and ``fps`` is None.
    """
    told = told_by(stem)
    if fps and told.number is not None:
        return (told.seconds or 0.0) + told.number / fps
    return told.seconds


def part_of(rule: SplitRule, files: Sequence[Path], groups: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of the images for training and for validation, as ``{"train": ..., "val": ...}``.

    The split depends on the rule and the names alone, not on the order of files or the machine.

    Args:
        rule: of the split.
        files: of the images.
        groups: of each image, as of ``groups_of``.

    Raises:
        UsageError: there are too few groups, or names tell no time.
    """
    validation, left_out = RULES[rule.by](rule, files, groups)
    train = [index for index in range(len(files)) if index not in validation and index not in left_out]
    if not validation or not train:
        side = "validation" if not validation else "training"
        raise UsageError(f"{rule} leaves no image for {side}; pass another `split`, `fold` or gap")
    return {"train": train, "val": sorted(validation)}


def _by_folder(rule: SplitRule, files: Sequence[Path], groups: Sequence[str]) -> tuple[set[int], set[int]]:
    return _by_groups(rule, [str(path.parent) for path in files], "folders")


def _by_prefix(rule: SplitRule, files: Sequence[Path], groups: Sequence[str]) -> tuple[set[int], set[int]]:
    return _by_groups(rule, groups, "prefixes of names")


def _by_groups(rule: SplitRule, groups: Sequence[str], what: str) -> tuple[set[int], set[int]]:
    """Share whole groups out to the folds: the largest first, each to the fold that has the fewest images."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) < 2:
        raise UsageError(f"all images have the same {what} ({next(iter(members), '')!r}); split by=time-gap or random")
    count = rule.folds or min(_FOLDS, len(members))
    if count > len(members):
        raise UsageError(f"there are {len(members)} {what}, too few for {count} folds; pass fold=I/{len(members)}")
    folds: list[list[int]] = [[] for _ in range(count)]
    for group in sorted(members, key=lambda name: (-len(members[name]), natural_key(Path(name)), name)):
        min(folds, key=len).extend(members[group])
    return set(folds[rule.fold - 1]), set()


def _by_time(rule: SplitRule, files: Sequence[Path], groups: Sequence[str]) -> tuple[set[int], set[int]]:
    """Cut each drive's time into as many blocks as there are folds; leave out what is nearer than the gap."""
    times = [seconds_of(path.stem, rule.fps) for path in files]
    mute = [path.name for path, time in zip(files, times) if time is None]
    if mute:
        raise UsageError(
            f"{len(mute)} names tell no time ({', '.join(mute[:3])}); if their numbers are frames, pass "
            f"split=time-gap,gap={rule.gap:g},fps=30 with the frames per second of the video"
        )
    count = rule.folds or _FOLDS
    drives: dict[str, list[tuple[float, str, int]]] = {}
    for index, (time, group) in enumerate(zip(times, groups)):
        told = told_by(files[index].stem)
        drive = told.before if group in (told.drive, told.video) else group  # of all days and videos: times tell them
        drives.setdefault(drive, []).append((time or 0.0, files[index].name, index))
    _refuse_timeless(drives, len(files), rule)
    validation: set[int] = set()
    left_out: set[int] = set()
    for frames in drives.values():
        frames.sort()
        start, stop = ((rule.fold - 1 + more) * len(frames) // count for more in (0, 1))
        block = frames[start:stop]
        if block:
            first, last = block[0][0] - rule.gap, block[-1][0] + rule.gap
            validation.update(index for _, _, index in block)
            left_out.update(index for time, _, index in frames if first < time < last)
    return validation, left_out - validation


def _refuse_timeless(drives: dict[str, list[tuple[float, str, int]]], images: int, rule: SplitRule) -> None:
    """Raise UsageError where there is no drive with a time in it."""
    if images > 1 and all(len({time for time, _, _ in frames}) == 1 for frames in drives.values()):
        frames = max(drives.values(), key=len)
        if len(frames) > 1:
            shown = f"{len(frames)} images have one time by their names ({frames[0][1]}, {frames[1][1]})"
            frames_too = "" if rule.fps else "; if another number counts frames, pass fps=N too"
        else:
            shown = f"by its name, each image is a drive of its own ({', '.join(list(drives)[:3])})"
            frames_too = ""
        raise UsageError(f"{shown}, so there is no time to leave a gap in{frames_too}; else split by=folder or random")


def _by_chance(rule: SplitRule, files: Sequence[Path], groups: Sequence[str]) -> tuple[set[int], set[int]]:
    """Order the images by a digest of seed and name, and take a share of them."""
    count = rule.folds or _FOLDS

    def digest(index: int) -> bytes:
        return hashlib.blake2b(f"{rule.seed}/{groups[index]}/{files[index].name}".encode("utf-8", "replace")).digest()

    order = sorted(range(len(files)), key=digest)
    return set(order[rule.fold - 1 :: count]), set()


_Rule = Callable[[SplitRule, Sequence[Path], Sequence[str]], "tuple[set[int], set[int]]"]

RULES: Mapping[str, _Rule] = {
    "folder": _by_folder,
    "prefix": _by_prefix,
    "time-gap": _by_time,
    "random": _by_chance,
}
"""Rule -> what chooses the images for validation, and those that are on neither side."""
