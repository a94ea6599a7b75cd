"""The calibration cache: published values, round trips, and nothing but CompileError for broken text."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.compiler.calibration.tensorrt_cache import (
    CalibrationCache,
    cache_from_ranges,
    cache_from_text,
    tensorrt_version_code,
    text_from_cache,
)
from edgeseg.errors import CompileError
from edgeseg.ranges import Ranges

POSITIVE = st.floats(min_value=2.0**-126, max_value=2.0**127, width=32)
NAMES = st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), min_size=1).filter(str.strip)


def ranges_of(tensors: dict[str, tuple[float, float]]) -> Ranges:
    return Ranges(tensors, {}, "minmax", 16, "graph", "data", "test")


@pytest.mark.parametrize(
    ("version", "code"), [("8.5.2", 8502), ("8.5.2.2", 8502), ("8.6.1", 8601), ("10.3.0", 100300), ("10.16", 101600)]
)
def test_version_codes(version: str, code: int) -> None:
    assert tensorrt_version_code(version) == code


@pytest.mark.parametrize("version", ["11.0.0", "12.1.0", "8", "8.x.1", "", "8.5.2.2.2", "²8.5.1", "8.5.99999"])
def test_versions_without_a_cache_are_refused(version: str) -> None:
    with pytest.raises(CompileError):
        tensorrt_version_code(version)


def test_published_values_encode_and_decode() -> None:
    """3c010204 is the scale of amax 1; 3c010a14, common for sigmoid outputs, that of amax 1.00024."""
    text = text_from_cache(cache_from_ranges(ranges_of({"sigmoid": (-0.5, 1.0)}), "8.5.2"))
    assert text == "TRT-8502-EntropyCalibration2\nsigmoid: 3c010204\n"
    read = cache_from_text(
        "TRT-8601-EntropyCalibration2\ninput_1:0: 3c010a14\n(Unnamed Layer* 48) [C]_output: 3c010204\n"
    )
    assert read.scales["(Unnamed Layer* 48) [C]_output"] == np.float32(1 / 127)
    assert read.scales["input_1:0"] * 127 == pytest.approx(1.00024, abs=1e-5)
    assert text_from_cache(read).splitlines()[1] == "input_1:0: 3c010a14"


@pytest.mark.parametrize(("version", "header"), [("8.5.2", "8502"), ("8.6.1", "8601"), ("10.3.0", "100300")])
def test_a_networks_scales_come_back_identical(graph_and_ranges: tuple[Any, Ranges], version: str, header: str) -> None:
    _, ranges = graph_and_ranges
    cache = cache_from_ranges(ranges, version)
    text = text_from_cache(cache)
    assert text.startswith(f"TRT-{header}-EntropyCalibration2\n")
    assert cache_from_text(text) == cache
    assert len(cache.scales) == len(ranges.tensors) > 50
    for name, scale in cache.scales.items():
        assert scale == np.float32(ranges.amax(name) / 127)


@given(st.dictionaries(NAMES, POSITIVE), st.sampled_from([8502, 8601, 100300]))
def test_round_trip(scales: dict[str, float], code: int) -> None:
    cache = CalibrationCache(code, scales)
    assert cache_from_text(text_from_cache(cache)) == cache


def test_a_dead_tensor_gets_a_positive_scale() -> None:
    (scale,) = cache_from_ranges(ranges_of({"dead": (0.0, 0.0)}), "8.5.2").scales.values()
    assert scale > 0 and struct.pack(">f", scale).hex() == "00800000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "TRT-8502\n",
        "TRT-8502-EntropyCalibration2\nno colon\n",
        "TRT-8502-EntropyCalibration2\na: xyz\n",
        "TRT-8502-EntropyCalibration2\na: 00000000\n",
        "TRT-8502-EntropyCalibration2\na: bf800000\n",
        "TRT-8502-EntropyCalibration2\na: 7f800000\n",
        "TRT-8502-EntropyCalibration2\na: 7fc00000\n",
        "TRT-8502-EntropyCalibration2\na: 3c0102041\n",
    ],
)
def test_broken_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        cache_from_text(text)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        cache_from_text("TRT-8502-EntropyCalibration2\n" + text)
    except CompileError as error:
        assert "\n" not in str(error)
