"""Recipes and ranges by themselves: what they take, what they refuse, what they are in JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeseg.errors import CompileError, UsageError
from edgeseg.ranges import Ranges, asymmetric_scale, symmetric_scale
from edgeseg.recipes import (
    INT8_GRAPHS,
    RECIPES,
    Fp32,
    Recipe,
    StaticInt8,
    recipe_from_json,
    recipe_from_name,
    recipe_json,
)

RANGES = Ranges({"x": (-1.0, 2.0), "one": (3.0, 3.0)}, {"x": (0.5, 1.0)}, "minmax", 16, "g", "d", "a set")


@pytest.mark.parametrize("recipe", [Fp32(), Fp32("float16"), *RECIPES.values(), StaticInt8("cpu", float_layers=("a",))])
def test_a_recipe_comes_back_from_json(recipe: Recipe) -> None:
    assert recipe_from_json(json.loads(json.dumps(recipe_json(recipe)))) == recipe


def test_names_say_what_recipes_do() -> None:
    assert all(recipe_from_name(name).is_int8 == name.startswith("int8") for name in RECIPES)
    assert set(INT8_GRAPHS) < set(RECIPES) and not Fp32().is_int8
    for name, recipe in RECIPES.items():
        assert "tensorrt" not in name or recipe.target == "tensorrt"
        assert "cpu" not in name or recipe.target == "cpu"
    with pytest.raises(UsageError, match="no graph 'int4' can be emitted; there are int8-tensorrt, "):
        recipe_from_name("int4")


def test_weights_have_seven_bits_only_where_eight_would_saturate() -> None:
    bits = {name: recipe.dense_weight_bits for name, recipe in RECIPES.items() if isinstance(recipe, StaticInt8)}
    assert {name for name, count in bits.items() if count != 8} == {"int8-cpu"} and bits["int8-cpu"] == 7


def test_a_bundle_that_says_less_has_the_usual_knobs() -> None:
    usual = StaticInt8("cpu", 8, True, True, (), "float32")
    assert recipe_from_json({"name": "StaticInt8", "target": "cpu"}) == usual
    assert recipe_from_json({"name": "StaticInt8", "target": "cpu", "per_channel": None}) == usual


@pytest.mark.parametrize(
    "knobs", [{"target": "any"}, {"dense_weight_bits": 6}, {"dense_weight_bits": 9}, {"rest": "x" * 100}]
)
def test_a_knob_out_of_its_values_is_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(knobs))} is .*; there are") as refused:
        replace(StaticInt8("cpu"), **knobs)
    assert str(refused.value).count("x") <= 40


def test_names_that_are_not_known_are_cut_in_the_message() -> None:
    for data in ({"name": "x" * 100}, {"name": "Fp16", "x" * 100: 1, "z": 1}):
        with pytest.raises(ValueError, match=f"'{'x' * 40}'") as refused:
            recipe_from_json(data)
        assert "z" not in str(refused.value)


def test_ranges_come_back_from_json() -> None:
    document = json.loads(json.dumps(RANGES.to_json()))
    assert Ranges.from_json(document) == RANGES and document["schema"] == 1
    assert Ranges.from_json({}) == Ranges({}), "what is missing is the default"
    with pytest.raises(CompileError, match="ranges have schema 2, this edgeseg reads up to 1"):
        Ranges.from_json({**document, "schema": 2})


def test_scales_are_steps_of_int8_and_of_uint8() -> None:
    assert RANGES.amax("x") == 2.0 and RANGES.scale("x") == symmetric_scale(-1, 2) == 2 / 127
    assert asymmetric_scale(-1, 254) == 1.0
    zero = Ranges({"x": (0.0, 0.0)})
    assert zero.amax("x") == 0 and zero.scale("x") == np.finfo(np.float32).tiny, "TensorRT refuses zero"
    with pytest.raises(CompileError, match="tensor 'y' has no calibrated range"):
        RANGES.scale("y")


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([0, math.nan], "which are no two finite numbers"),
        ([-math.inf, 0], "which are no two finite numbers"),
        (["a" * 200, 1], "which are no two finite numbers"),
        ([True, 1], "which are no two finite numbers"),
        ([1, 0], "ends before it begins"),
        ([10**200, 1], "ends before it begins"),
        ([-1.7e308, 1.7e308], "it is not finite"),
    ],
)
def test_ends_that_make_no_range_are_shown_in_a_short_line(ends: list[Any], message: str) -> None:
    with pytest.raises(CompileError, match=f"ranges are malformed: the range of x is .*{message}") as refused:
        Ranges.from_json({"tensors": {"x": ends}})
    assert re.search(f"x is {re.escape(str(ends)[:80])}[,:] ", str(refused.value))


@pytest.mark.parametrize("ends", [5, [1], [1, 2, 3], None])
def test_a_range_has_two_ends(ends: Any) -> None:
    with pytest.raises(CompileError, match="ranges are malformed"):
        Ranges.from_json({"tensors": {"x": ends}})


@pytest.mark.parametrize("means", [{}, "ab", 3, [math.nan], ["a"], [None]])
def test_means_are_finite_numbers(means: Any) -> None:
    with pytest.raises(CompileError, match="the means of x are no finite numbers"):
        Ranges.from_json({"means": {"x": means}})
    assert Ranges.from_json({"means": {"x": []}}).means == {"x": ()}
