"""Compare two results of ``edgeseg bench``: who changed its speed, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from edgeseg.errors import InputError, UsageError
from edgeseg.files import text_from

__all__ = ["Change", "Comparison", "compared", "paired_ratio", "ratio_in_words", "result_from_file"]

_DRAWS = 4000
_BLOCK = 4
"""Turns that are drawn together: neighbours are alike, for what slows a machine lasts longer than a turn."""
_FEW = 2 * _BLOCK
"""Of fewer turns an interval says little."""
_AT_ONCE = 1 << 22
"""Turns that are drawn at a time, so that hours of them need no more memory than seconds."""
_LONGEST_MS = 1e9
_BETWEEN_RUNS = 0.02
"""What two runs of the same thing may differ by, whatever their turns say: an allowance that was not measured."""


@dataclass(frozen=True)
class Change:
    """A contender in both results.

    Attributes:
        name: of the contender.
        before_ms, after_ms: its p50 per frame, of all frames.
        times_slower: median turn after over median turn before; below 1 it became faster.
        low, high: 95 % interval of that, of the turns alone.
    """

    name: str
    before_ms: float
    after_ms: float
    times_slower: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return ``slower``, ``faster`` or ``no change seen``: the interval must leave what two runs differ by."""
        if self.low > 1 + _BETWEEN_RUNS:
            return "slower"
        return "faster" if self.high < 1 / (1 + _BETWEEN_RUNS) else "no change seen"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        ratio = {"times_slower": self.times_slower, "low": self.low, "high": self.high}
        rounded = {name: round(value, 4) for name, value in ratio.items()}
        return {
            "name": self.name,
            "before_ms": self.before_ms,
            "after_ms": self.after_ms,
            **rounded,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """What changed from one result to another.

    Attributes:
        changes: of the contenders that are in both.
        only_before, only_after: names of those that are in one.
        notes: what makes the comparison weaker, a line each.
    """

    changes: Sequence[Change]
    only_before: Sequence[str]
    only_after: Sequence[str]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict."""
        return {
            "changes": [change.to_json() for change in self.changes],
            "only_before": list(self.only_before),
            "only_after": list(self.only_after),
            "notes": list(self.notes),
        }


def result_from_file(path: Path) -> Mapping[str, Any]:
    """Read a result that ``edgeseg bench`` wrote or printed.

    Raises:
        InputError: it cannot be read, or is something else, or of a version that kept no turns.
    """
    foreign = f"{path} is no result of 'edgeseg bench' of this version"
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise InputError(f"{path} is no regular file; name one that `result` wrote")
        document = json.loads(text_from(path.read_bytes()))
        if document.get("soak") is not None:
            raise InputError(f"{path} is of a soak, which has no turns to compare; measure without `soak`")
        names = [one["name"] for one in document["contenders"]]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{len(names)} contenders under {len(set(names))} names")
        for one in document["contenders"]:
            turns, p50 = one["turn_medians_ms"], one["ms_per_frame"]["p50_ms"]
            if not turns or not all(_is_time(value) for value in (*turns, p50)) or not isinstance(one["name"], str):
                raise ValueError("a time is no positive number of milliseconds")
        if not isinstance(document["device"]["cpu"], str):
            raise ValueError("the machine has no name")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{foreign}: it is no JSON (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{foreign}: it is no text") from error
    except KeyError as error:
        raise InputError(f"{foreign}: `{error.args[0]}` is missing") from error
    except ValueError as error:
        raise InputError(f"{foreign}: {error}") from error
    except (TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{foreign}: its parts are not what they are called") from error
    return document  # type: ignore[no-any-return]


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _LONGEST_MS


def compared(before: Mapping[str, Any], after: Mapping[str, Any], *, seed: int = 0) -> Comparison:
    """Compare two results, contender by contender.

    The interval is a block bootstrap of the turns of both (Künsch 1989).

    Args:
        before: as ``result_from_file`` reads it.
        after: the same, of what is judged.
        seed: of the bootstrap.

    Raises:
        UsageError: they are of other machines, power modes, frames or numbers of threads, or share no contender.
    """
    _refuse_other_conditions(before, after)
    one, other = ({item["name"]: item for item in result["contenders"]} for result in (before, after))
    shared = [name for name in one if name in other]
    if not shared:
        raise UsageError(f"the results share no contender: {', '.join(one)} against {', '.join(other)}")
    rng = np.random.default_rng(seed)
    changes = []
    for name in shared:
        low, high = _interval(one[name]["turn_medians_ms"], other[name]["turn_medians_ms"], rng)
        medians = [float(np.median(item[name]["turn_medians_ms"])) for item in (one, other)]
        was, now = (float(item[name]["ms_per_frame"]["p50_ms"]) for item in (one, other))
        changes.append(Change(name, was, now, medians[1] / medians[0], low, high))
    notes = [
        f"{name} was unstable {when}"
        for when, result in (("before", one), ("after", other))
        for name in shared
        if result[name].get("unstable")
    ]
    notes += _other_things(before, after)
    notes += [f"{name} has batch {a} before, {b} after" for name, a, b in _pairs(one, other, "batch")]
    notes += [f"{name} runs on {a} before, {b} after" for name, a, b in _pairs(one, other, "engine")]
    few = [name for name in shared if min(len(item[name]["turn_medians_ms"]) for item in (one, other)) < _FEW]
    notes += [f"{name} has few turns, so its interval says little; measure for 10 s or more" for name in few]
    return Comparison(
        changes, [name for name in one if name not in other], [name for name in other if name not in one], notes
    )


def _other_things(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what else differs or went wrong: a line each. They may be what the comparison is about."""
    notes = []
    model = "model_sha256" if before.get("model_sha256") and after.get("model_sha256") else "model"
    if before.get(model) != after.get(model):
        what = "model" if before.get("model") != after.get("model") else "content of the model"
        notes.append(f"the {what} is another one: {before.get('model')} before, {after.get('model')} after")
    was, now = before.get("size_hw"), after.get("size_hw")
    if was != now:
        notes.append(f"the size of its input (height, width) is another one: {was} before, {now} after")
    for when, result in (("before", before), ("after", after)):
        throttled = result.get("throttled")
        notes += [f"{reason} {when}" for reason in (throttled if isinstance(throttled, list) else ())]
        if result.get("interrupted"):
            notes.append(f"the measurement was interrupted {when}")
    return notes


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> list[tuple[str, object, object]]:
    """Return name, value before and value after of contenders that differ in something."""
    shared = [name for name in one if name in other]
    found = [(name, one[name].get(key), other[name].get(key)) for name in shared]
    return [(name, was, now) for name, was, now in found if was != now]


def _refuse_other_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for what, key in (("machine", "board"), ("machine", "cpu"), ("number of cores", "cores")):
        _refuse_if_other(what, before["device"].get(key), after["device"].get(key))
    _refuse_if_other("power mode", before["device"].get("power_mode"), after["device"].get("power_mode"))
    for what, key in (("number of threads", "threads"), ("source of frames", "source")):
        _refuse_if_other(what, before.get(key), after.get(key))


def _refuse_if_other(what: str, before: object, after: object) -> None:
    if before != after:
        raise UsageError(
            f"the {what} is another one: {before or 'none'} before, {after or 'none'} after; measure both alike"
        )


def _interval(before: Sequence[float], after: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    ratios = _medians(np.asarray(after, float), rng) / _medians(np.asarray(before, float), rng)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def paired_ratio(
    ours: Sequence[float], theirs: Sequence[float], *, block: int = _BLOCK, seed: int = 0
) -> tuple[float, float, float]:
    """Compare two contenders whose turns alternated: theirs over ours, turn by turn.

    Args:
        ours: a time per turn, in order.
        theirs: as many of the other.
        block: turns that are drawn together: 1 where neighbours have nothing to do with each other.
        seed: of the bootstrap.

    Returns:
        The median of the ratios, and the ends of its 95 % interval.

    Raises:
        ValueError: there are no turns, or more of one than of the other.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"turns are paired: {len(ours)} of ours, {len(theirs)} of theirs")
    ratios = np.asarray(theirs, float) / np.asarray(ours, float)
    low, high = np.percentile(_medians(ratios, np.random.default_rng(seed), block), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def ratio_in_words(ratio: tuple[float, float, float], turns: int) -> str:
    """Say how fast something is beside another, and how sure that is.

    Args:
        ratio: the other's time over its own, as ``paired_ratio`` returns it.
        turns: that it comes of.
    """
    times, low, high = ratio
    few = "" if turns >= _FEW else f", of {turns} turn{'s' if turns > 1 else ''} only"
    if low <= 1 <= high:
        return f"{times:.2f}x as fast ({low:.2f}-{high:.2f}): no difference seen{few}"
    if times >= 1:
        return f"{times:.2f}x as fast ({low:.2f}-{high:.2f}){few}"
    return f"takes {1 / times:.2f}x as long ({1 / high:.2f}-{1 / low:.2f}){few}"


def _medians(turns: np.ndarray, rng: np.random.Generator, block: int = _BLOCK) -> np.ndarray:
    """Return the medians of turns that are drawn again in blocks: (_DRAWS,)."""
    block = min(block, len(turns))
    blocks = -(-len(turns) // block)
    starts = rng.integers(0, len(turns) - block + 1, (_DRAWS, blocks))
    medians = []
    for some in np.array_split(starts, min(_DRAWS, -(-starts.size * block // _AT_ONCE))):
        drawn = (some[..., None] + np.arange(block)).reshape(len(some), -1)[:, : len(turns)]
        medians.append(np.median(turns[drawn], axis=1))
    return np.concatenate(medians)
