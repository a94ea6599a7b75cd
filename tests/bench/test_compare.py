from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.bench.compare import compared, paired_ratio, result_from_file
from edgeseg.errors import InputError, UsageError


def _result(turns: dict[str, list[float]], **changes: Any) -> dict[str, Any]:
    device = {"cpu": "a CPU", "cores": 2, "board": "", "power_mode": "15W", **changes.pop("device", {})}
    contenders = [
        {"name": name, "turn_medians_ms": ms, "ms_per_frame": {"p50_ms": float(np.median(ms))}, "unstable": False}
        for name, ms in turns.items()
    ]
    return {"device": device, "threads": [0], "source": "frames", "contenders": contenders, **changes}


def _turns(rng: np.random.Generator, ms: float, count: int = 40) -> list[float]:
    """Turns of a machine whose speed wanders and that is disturbed now and then."""
    wander = np.zeros(count)
    for index in range(1, count):
        wander[index] = 0.7 * wander[index - 1] + rng.normal(0, 0.008)
    disturbed = (rng.random(count) < 0.08) * rng.exponential(0.3, count)
    return list(ms * (1 + wander + disturbed))


def test_a_slowdown_of_5_percent_is_found_and_none_is_not_cried() -> None:
    found = {1.0: 0, 1.05: 0, 0.95: 0}
    for trial in range(20):
        rng = np.random.default_rng(trial)
        before = _result({"x": _turns(rng, 10)})
        for planted in found:
            (change,) = compared(before, _result({"x": _turns(rng, 10 * planted)})).changes
            found[planted] += change.verdict == {1.05: "slower", 0.95: "faster"}.get(planted, "no change seen")
            assert change.low <= change.times_slower <= change.high
    assert min(found.values()) >= 19, found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": {"power_mode": "MAXN"}}, "the power mode is another one: 15W before, MAXN after"),
        ({"device": {"cpu": "another"}}, "the machine is another one"),
        ({"device": {"cores": 4}}, "the number of cores is another one"),
        ({"threads": [1]}, "the number of threads is another one"),
        ({"source": "others"}, "the source of frames is another one"),
    ],
)
def test_other_conditions_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compared(_result({"x": [1.0] * 9}), _result({"x": [1.0] * 9}, **change))


def test_what_is_in_one_result_is_named() -> None:
    found = compared(_result({"x": [1.0] * 9, "y": [1.0] * 9}), _result({"x": [1.0] * 3, "z": [1.0]}))
    assert (found.only_before, found.only_after) == (["y"], ["z"]) and "few turns" in found.notes[0]
    with pytest.raises(UsageError, match="share no contender: y against z"):
        compared(_result({"y": [1.0]}), _result({"z": [1.0]}))


_SPOILED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no contenders": lambda document: document.pop("contenders"),
    "a contender without turns": lambda document: document["contenders"][0].pop("turn_medians_ms"),
    "no turns": lambda document: document["contenders"][0].update(turn_medians_ms=[]),
    "a text": lambda document: document["contenders"][0].update(turn_medians_ms=["1"]),
    "true": lambda document: document["contenders"][0].update(turn_medians_ms=[True]),
    "zero": lambda document: document["contenders"][0].update(turn_medians_ms=[0.0]),
    "not a number": lambda document: document["contenders"][0].update(turn_medians_ms=[float("nan")]),
    "no name": lambda document: document["contenders"][0].update(name=None),
    "no device": lambda document: document.pop("device"),
    "a list": lambda document: document.update(contenders=3),
}


@pytest.mark.parametrize("spoiled", list(_SPOILED))
def test_a_file_that_is_no_result_is_one_line(tmp_path: Path, spoiled: str) -> None:
    document = _result({"x": [1.0]})
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    assert result_from_file(path)["contenders"][0]["name"] == "x"
    _SPOILED[spoiled](document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="is no result of 'edgeseg bench'"):
        result_from_file(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_result_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no result"):
        result_from_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        result_from_file(tmp_path / "none.json")


@pytest.mark.parametrize("block", [1, 4])
def test_a_ratio_of_paired_turns_is_free_of_what_slows_both(block: int) -> None:
    rng = np.random.default_rng(0)
    machine = np.repeat([1.0, 3.0, 1.5], 8)  # three times slower for a while
    ours, theirs = (list(ms * machine * (1 + rng.normal(0, 0.01, 24))) for ms in (10.0, 12.0))
    times, low, high = paired_ratio(ours, theirs, block=block)
    assert 1.18 < low <= times <= high < 1.22


def test_turns_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of ours, 1 of theirs"):
        paired_ratio([1.0, 2.0], [1.0])
