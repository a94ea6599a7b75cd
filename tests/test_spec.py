from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from edgeseg.errors import SpecError
from edgeseg.spec import ModelSpec, Preprocess


def test_json_round_trip(spec: ModelSpec) -> None:
    odd = dataclasses.replace(spec, preprocess=Preprocess((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "BGR"))
    assert ModelSpec.from_json(json.loads(json.dumps(odd.to_json()))) == odd


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("road",)}, "2 to 254 classes"),
        ({"classes": ("road", "road", "sky")}, "must differ"),
        ({"palette": ((0, 0, 0),)}, "as many colours"),
        ({"palette": ((0, 0, 256), (0, 0, 0), (0, 0, 0))}, "0-255"),
        ({"size_hw": (16, 96)}, "at least 32 pixels"),
        ({"ignore_id": 1}, "also the id of class 'car'"),
    ],
)
def test_what_does_not_hold_together_is_refused(spec: ModelSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(spec, **change)


def test_preprocess_is_checked() -> None:
    with pytest.raises(SpecError, match="std must be positive"):
        Preprocess(std=(0.2, 0.0, 0.2))
    with pytest.raises(SpecError, match="RGB or BGR"):
        Preprocess(channel_order="GBR")
    with pytest.raises(SpecError, match="'stretch'"):
        Preprocess(resize="letterbox")


def test_newer_and_incomplete_specs_are_refused(spec: ModelSpec) -> None:
    with pytest.raises(SpecError, match="schema 99.*upgrade edgeseg"):
        ModelSpec.from_json({**spec.to_json(), "schema": 99})
    broken = spec.to_json()
    del broken["preprocess"]
    with pytest.raises(SpecError, match="incomplete"):
        ModelSpec.from_json(broken)
