from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from edgeseg.errors import SpecError
from edgeseg.spec import IGNORE_ID, ModelSpec, Preprocess, of_byte_scale


def with_classes(spec: ModelSpec, *names: str) -> ModelSpec:
    return dataclasses.replace(spec, classes=names, palette=((0, 0, 0),) * len(names), ignore_id=IGNORE_ID)


def test_json_round_trip(spec: ModelSpec) -> None:
    odd = dataclasses.replace(spec, preprocess=Preprocess((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "BGR"))
    assert ModelSpec.from_json(json.loads(json.dumps(odd.to_json()))) == odd


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("road", "road", "sky")}, "must differ"),
        ({"palette": ((0, 0, 0),)}, "as many colours"),
        ({"palette": ((0, 0, 256), (0, 0, 0), (0, 0, 0))}, "0-255"),
        ({"palette": ((0, 0, 0), (0, -1, 0), (0, 0, 0))}, "0-255"),
        ({"palette": ((0, 0, 0), (0, 0, 0), (0, 0))}, "RGB triples"),
        ({"palette": ((0, 0, 0, 0), (0, 0, 0), (0, 0, 0))}, "RGB triples"),
        ({"size_hw": (31, 96)}, "at least 32 pixels"),
        ({"size_hw": (96, 31)}, "at least 32 pixels"),
        ({"size_hw": (96,)}, r"size_hw is \(height, width\)"),
        ({"size_hw": (64, 96, 3)}, r"size_hw is \(height, width\)"),
        ({"ignore_id": 0}, "also the id of class 'road'"),
        ({"ignore_id": 2}, "also the id of class 'sky'"),
    ],
)
def test_what_does_not_hold_together_is_refused(spec: ModelSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(spec, **change)


def test_the_ends_of_what_is_allowed(spec: ModelSpec) -> None:
    whole = {"palette": ((0, 0, 0), (255, 255, 255), (0, 255, 0)), "size_hw": (32, 32), "ignore_id": 3}
    assert dataclasses.replace(spec, **whole)
    assert dataclasses.replace(spec, ignore_id=-1)
    assert Preprocess((1.0, -1.0, 0.0), (1.0, 1.0, 1e-6))


@pytest.mark.parametrize("count", [0, 1, 2, 254, 255])
def test_a_model_has_2_to_254_classes(spec: ModelSpec, count: int) -> None:
    names = [f"class {number}" for number in range(count)]
    if 2 <= count <= 254:
        assert with_classes(spec, *names).classes == tuple(names)
        return
    with pytest.raises(SpecError, match=f"2 to 254 classes, got {count}") as refused:
        with_classes(spec, *names)
    assert ("'class 0'" in str(refused.value) and "background" in str(refused.value)) == (count == 1)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "a\u202eb", "a\u2066", "x" * 257])
def test_a_name_is_printable_and_short_and_so_is_the_message(spec: ModelSpec, name: str) -> None:
    with pytest.raises(SpecError, match="class names are 1 to 256 characters") as refused:
        with_classes(spec, "road", name)
    assert str(refused.value).isprintable() and str(refused.value).count("x") <= 40 + 1
    assert with_classes(spec, "road", "x" * 256, "été 1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"std": (0.2, 0.0, 0.2)}, "std must be positive"),
        ({"channel_order": "GBR"}, "RGB or BGR"),
        ({"resize": "letterbox"}, "'stretch'"),
        ({"mean": (0.5, 0.5)}, "three values each"),
        ({"std": (0.5,) * 4}, "three values each"),
        ({"mean": (0.5, math.nan, 0.5)}, "must be finite"),
        ({"std": (math.inf, 0.5, 0.5)}, "must be finite"),
        ({"mean": (-1.01, 0.0, 0.0)}, "are not of 0-1"),
        ({"std": (0.5, 1.01, 0.5)}, "are not of 0-1"),
    ],
)
def test_preprocess_is_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Preprocess(**fields)


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("mean", "std", "is_bytes"),
    [
        (*IMAGENET, True),
        ((103.5, 116.3, 123.7), (1, 1, 1), True),  # Caffe
        ((0, 0, 0), (255, 255, 255), True),
        ((0, 0, 0), (2, 2, 2), True),
        ((0, 100, 100), (1, 1, 1), True),
        ((1.5, 1.5, 1.5), (1, 1, 1), True),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
        ((0, 0, 0), (1, 1, 1), False),  # either scale
        ((1, 1, 1), (1, 1, 1), False),
        ((1, 1, 1), (2, 2, 2), False),
        ((123.7, 116.3, 103.5), (0.017, 0.017, 0.017), False),  # a factor
        ((256, 100, 100), (1, 1, 1), False),
        ((-1, 100, 100), (1, 1, 1), False),
        ((100, math.nan, 100), (1, 1, 1), False),
        ((100, 100, 100), (math.inf, 1, 1), False),
    ],
)
def test_the_scale_is_known_by_its_values(mean: Any, std: Any, is_bytes: bool) -> None:
    assert of_byte_scale(mean, std) == is_bytes
    if is_bytes:
        assert Preprocess.from_byte_scale(mean, std)
    else:
        with pytest.raises(SpecError, match="are not of pixels of 0-255"):
            Preprocess.from_byte_scale(mean, std)


def test_both_scales_say_the_same() -> None:
    assert Preprocess.from_byte_scale(*IMAGENET) == Preprocess()
    scale, offset = Preprocess().scale_and_offset()
    np.testing.assert_allclose([offset, scale], IMAGENET, rtol=1e-6)
    assert Preprocess.from_byte_scale((100, 100, 100), (50, 50, 50), "BGR") == Preprocess(
        (0.392156863,) * 3, (0.196078431,) * 3, "BGR"
    )


@pytest.mark.parametrize(
    ("mean", "std", "advice"),
    [
        (*IMAGENET, "of 0-255; write mean 0.485,0.456,0.406 and std 0.229,0.224,0.225"),
        ((123.7, 116.3, 103.5), (0.017, 0.017, 0.017), "the std is of 0-1 or a factor; write both divided by 255"),
        ((1.5, 1.5, 1.5), (0.5, 0.5, 0.5), "the std is of 0-1 or a factor"),
        ((-2, 1, 1), (0.5, 0.5, 0.5), "write both for pixels of 0-1"),
        ((300, 300, 300), (1, 1, 1), "write both for pixels of 0-1"),
        ((300, 300, 300), (1.5, 1.5, 1.5), "write both for pixels of 0-1"),
        ((0.5, 0.5, 0.5), (1.5, 1.5, 1.5), "write both for pixels of 0-1"),
    ],
)
def test_another_scale_is_refused_with_what_to_write(mean: Any, std: Any, advice: str) -> None:
    with pytest.raises(SpecError, match="are not of 0-1") as refused:
        Preprocess(mean, std)
    assert advice in str(refused.value)


def test_newer_and_incomplete_specs_are_refused(spec: ModelSpec) -> None:
    assert spec.to_json()["schema"] == 1
    with pytest.raises(SpecError, match="schema 2, .* up to 1; upgrade edgeseg"):
        ModelSpec.from_json({**spec.to_json(), "schema": 2})
    broken = spec.to_json()
    del broken["preprocess"]
    with pytest.raises(SpecError, match="incomplete"):
        ModelSpec.from_json(broken)
