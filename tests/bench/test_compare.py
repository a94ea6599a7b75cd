from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.bench.compare import compared, paired_ratio, ratio_in_words, result_from_file
from edgeseg.errors import InputError, UsageError


def _result(turns: dict[str, list[float]], **changes: Any) -> dict[str, Any]:
    device = {"cpu": "a CPU", "cores": 2, "board": "", "power_mode": "15W", **changes.pop("device", {})}
    contenders = [
        {"name": name, "turn_medians_ms": ms, "ms_per_frame": {"p50_ms": float(np.median(ms))}, "unstable": False}
        for name, ms in turns.items()
    ]
    about = {"device": device, "threads": [0], "source": "frames", "model": "a", "size_hw": [3, 4], "soak": None}
    return {**about, "contenders": contenders, **changes}


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
    "none at all": lambda document: document.update(contenders=[]),
    "two of one name": lambda document: document.update(contenders=2 * document["contenders"]),
    "a number that no float holds": lambda document: document["contenders"][0].update(turn_medians_ms=[10**400]),
    "a time of ages": lambda document: document["contenders"][0].update(turn_medians_ms=[1e300]),
    "a device without a name": lambda document: document["device"].update(cpu=[1]),
    "a device that is a text": lambda document: document.update(device="cpu"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_result_is_read_in_each_encoding_that_people_save(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(_result({"x": [1.0]})), encoding=encoding)
    assert result_from_file(tmp_path / "r.json")["contenders"]


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" + bytes(range(256)) * 4000, b"\xff\xfe\x00", b"", b"{}", b"[]", b"3", b"null", b"[" * 100_000],
)
def test_what_is_no_result_is_told_shortly(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match="is no result of 'edgeseg bench'") as caught:
        result_from_file(tmp_path / "r.json")
    said = str(caught.value)
    assert len(said) < len(str(tmp_path)) + 150 and "Error(" not in said and "\n" not in said


def test_what_has_no_end_is_no_result(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="is no regular file"):
            result_from_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        result_from_file(tmp_path / "none.json")


def test_a_soak_has_no_turns(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    path.write_text(json.dumps(_result({}, soak={"name": "x"})))
    with pytest.raises(InputError, match="is of a soak, which has no turns to compare"):
        result_from_file(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "b"}, "the model is another one: a before, b after"),
        (
            {"size_hw": [6, 8]},
            r"the size of its input \(height, width\) is another one: \[3, 4\] before, \[6, 8\] after",
        ),
        ({"throttled": ["it was hot"]}, "it was hot after"),
        ({"interrupted": True}, "the measurement was interrupted after"),
    ],
)
def test_what_else_differs_is_noted(change: dict[str, Any], words: str) -> None:
    (note,) = compared(_result({"x": [1.0] * 9}), _result({"x": [1.0] * 9}, **change)).notes
    assert re.fullmatch(words, note)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a.edgeseg")])
@pytest.mark.parametrize("digests", [("1", "1"), ("1", "2"), (None, "2"), ("1", None), (None, None)])
def test_models_are_told_apart_by_what_is_in_them(
    names: tuple[str, str], digests: tuple[str | None, str | None]
) -> None:
    before, after = (
        _result({"x": [1.0] * 9}, model=name, **({} if digest is None else {"model_sha256": [digest]}))
        for name, digest in zip(names, digests)
    )
    is_other = digests[0] != digests[1] if None not in digests else names[0] != names[1]
    assert len(compared(before, after).notes) == is_other


@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=40))
def test_words_for_a_ratio_always_say_the_median(ratios: list[float]) -> None:
    ratio = paired_ratio([1.0] * len(ratios), ratios)
    said = ratio_in_words(ratio, len(ratios))
    median = float(np.median(ratios))
    assert f"{median:.2f}x as fast" in said or f"takes {1 / median:.2f}x as long" in said
    assert ("no difference seen" in said) == (ratio[1] <= 1 <= ratio[2])
    assert ("only" in said) == (len(ratios) < 8)


@given(st.integers(8, 2000))
def test_longer_measurements_make_no_difference_go_away(turns: int) -> None:
    """One odd turn among many that agree: the range of all of them would hold 1."""
    said = ratio_in_words(paired_ratio([1.0] * turns, [1.4] * (turns - 1) + [0.5]), turns)
    assert said == "1.40x as fast (1.40-1.40)"


def test_a_batch_or_an_engine_that_differs_is_noted() -> None:
    before, after = _result({"x": [1.0] * 9}), _result({"x": [1.0] * 9})
    for result, batch, engine in ((before, 1, "tensorrt"), (after, 4, "rtx")):
        result["contenders"][0].update(batch=batch, engine=engine)
    assert compared(before, after).notes == ["x has batch 1 before, 4 after", "x runs on tensorrt before, rtx after"]


def test_hours_of_turns_need_no_more_memory() -> None:
    turns = list(np.random.default_rng(0).normal(10, 0.5, 8_000))
    before = _result({"x": turns})
    tracemalloc.start()
    compared(before, before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6, "all draws at once are 4000 x 8000 numbers, twice"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
def test_a_result_with_anything_in_a_place_of_it_is_compared_or_one_line(data: st.DataObject) -> None:
    """Whoever edits a result by hand, or damages it: numbers, or a line."""
    document = _result({"x": [1.0] * 9, "y": [2.0, 3.0]}, throttled=[], interrupted=False)
    places = [*((document, key) for key in document), *((document["device"], key) for key in document["device"])]
    places += [(one, key) for one in document["contenders"] for key in one]
    inside, key = data.draw(st.sampled_from(places))
    inside[key] = data.draw(_JSON)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        path.write_text(json.dumps(document))
        try:
            found = compared(result_from_file(path), result_from_file(path))
        except (InputError, UsageError) as error:
            assert str(error)
        else:
            assert all(np.isfinite([one.low, one.high, one.times_slower]).all() for one in found.changes)
            json.dumps(found.to_json())


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
