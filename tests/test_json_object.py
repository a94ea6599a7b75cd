"""What a reader of JSON takes: each kind of fact, what is missing, and what is of another kind."""

from __future__ import annotations

import math
import sys
from typing import Any, Callable

import pytest

from edgeseg.json_object import JsonObject

LARGEST = int(sys.float_info.max)

READERS: list[tuple[Callable[[JsonObject], Any], list[Any], list[Any], Any]] = [
    (lambda facts: facts.text("x"), ["", "a"], [1, True, ["a"]], ""),
    (lambda facts: facts.optional_text("x"), ["", "a"], [1, True], None),
    (lambda facts: facts.flag("x", True), [True, False], [0, 1, "true"], True),
    (lambda facts: facts.whole("x"), [0, -3, LARGEST, -LARGEST], [1.0, True, "1", 2**1024, -(2**1024)], 0),
    (lambda facts: facts.number("x", 0.5), [0, 1.5, -1e30], [True, "1", [1], 2**1024], 0.5),
    (lambda facts: facts.optional_number("x"), [0, 1.5], [True, "1"], None),
    (lambda facts: facts.values("x"), [[], [1, "a"]], [{}, "ab", 1], []),
]


@pytest.mark.parametrize(("read", "right", "wrong", "default"), READERS)
def test_a_fact_is_of_its_kind(read: Callable[[JsonObject], Any], right: Any, wrong: Any, default: Any) -> None:
    for value in right:
        assert read(JsonObject({"x": value}, "it")) == value
    for value in wrong:
        with pytest.raises(ValueError, match=r"x of it is|too large"):
            read(JsonObject({"x": value}, "it"))
    assert read(JsonObject({}, "it")) == default and read(JsonObject({"x": None}, "it")) == default


def test_a_finite_number_is_one_that_a_float_holds() -> None:
    for value in (0, -1.5, 1e30, -1e30):
        assert JsonObject({"x": value}, "it").finite("x", 1.0) == value
    for value in (math.nan, -math.inf, LARGEST, 2**1024, True, "1", None):
        with pytest.raises(ValueError, match="limit x of it is .* no finite number"):
            JsonObject({"x": value}, "it").finite("x", 1.0)
    assert JsonObject({}, "it").finite("x", 1.0) == 1.0


def test_lists_and_objects_hold_what_they_should() -> None:
    facts = JsonObject(
        {"names": ["a", "b"], "inner": {"n": {"x": 1}}, "many": [{"x": 1}], "n": {"a": 1, "b": None}}, "it"
    )
    assert facts.texts("names") == ("a", "b") and facts.texts("none") == ()
    assert facts.objects("inner")["n"].whole("x") == facts.listed("many")[0].whole("x") == 1
    numbers = facts.numbers("n")
    assert numbers["a"] == 1 and math.isnan(numbers["b"]) and facts.object("none").facts == {}
    for read in (lambda: facts.texts("many"), lambda: facts.listed("names"), lambda: JsonObject([], "it")):
        with pytest.raises(ValueError, match=r"no list of names|a JSON object and is a"):
            read()


def test_what_is_long_is_cut_in_the_message() -> None:
    large, names = 10**1000, ["a", 1] * 1000
    facts = JsonObject({"text": large, "names": names}, "it")
    for read, value in ((lambda: facts.text("text"), large), (lambda: facts.texts("names"), names)):
        with pytest.raises(ValueError, match="of it is|it has") as refused:
            read()
        assert str(value)[:80] in str(refused.value) and str(value)[:81] not in str(refused.value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e31, LARGEST, math.nan, None])
def test_a_number_that_is_not_finite_is_none(value: Any) -> None:
    assert JsonObject({"x": value}, "it").optional_number("x") is None
    assert math.isnan(JsonObject({"x": value}, "it").number("x"))
