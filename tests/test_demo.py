from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.demo.street import StreetDataset, parse_street_uri
from edgeseg.errors import UsageError


def test_every_parameter() -> None:
    parsed = parse_street_uri("demo://street?seed=3&frames=7&fps=12.5&size=320x240&step=4")
    assert (parsed.seed, parsed.frames, parsed.fps, parsed.size_hw, parsed.step) == (3, 7, 12.5, (240, 320), 4)
    assert parse_street_uri("demo://street").frames == 0


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("demo://road", "there is demo://street"),
        ("demo://street?frame=3", "no parameter frame"),
        ("demo://street?frames=x", "invalid literal"),
        ("demo://street?size=640", "invalid literal"),
        ("demo://street?step=0&frames=2", "step >= 1"),
    ],
)
def test_wrong_uris_name_what_is_wrong(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_street_uri(uri)


_WHOLE = st.integers(-(10**400), 10**400) | st.integers(0, 10**6)
_RATES = st.floats() | st.sampled_from([1e-3, 1e6, math.pi])


@settings(max_examples=60)
@given(seed=_WHOLE, frames=_WHOLE, step=_WHOLE, fps=_RATES)
def test_whatever_numbers_are_given_they_are_refused_or_rendered(seed: int, frames: int, step: int, fps: float) -> None:
    try:
        parsed = parse_street_uri(f"demo://street?seed={seed}&frames={frames}&step={step}&fps={fps}&size=32x32")
    except UsageError as error:
        assert "demo://street: " in str(error)
        return
    scene = parsed.scene()
    for index in (0, 1, parsed.frames or 10**9):
        assert scene.render(index * parsed.step)[0].shape == (32, 32, 3)
    assert 1 / parsed.fps < threading.TIMEOUT_MAX


def test_dataset_is_a_labelled_stretch() -> None:
    data = StreetDataset("demo://street?frames=3&step=10&size=160x120")
    assert len(data) == 3
    name, frame, label = data[2]
    assert frame.shape == (120, 160, 3) and label is not None and label.shape == (120, 160)
    skipped = StreetDataset("demo://street?frames=30&size=160x120")[20]
    np.testing.assert_array_equal(frame, skipped.frame)
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(UsageError, match="endless"):
        StreetDataset("demo://street")
    with pytest.raises(UsageError, match="demo://street"):
        StreetDataset("demo://street?frames=1&size=8x8")


def test_towns_share_the_frames_and_are_the_streets_of_their_seeds() -> None:
    data = StreetDataset("demo://street?frames=7&towns=3&seed=4&step=5&size=64x48")
    names = [data[index].name for index in range(7)]
    assert names == [
        f"street{seed}-{number:05d}" for seed, count in ((4, 3), (5, 2), (6, 2)) for number in range(count)
    ]
    alone = StreetDataset("demo://street?frames=2&seed=6&step=5&size=64x48")
    np.testing.assert_array_equal(data[6].frame, alone[1].frame)
    for uri in ("demo://street?towns=2", "demo://street?towns=3&frames=2", "demo://street?towns=0&frames=2"):
        with pytest.raises(UsageError, match="towns is at least 1 and at most frames"):
            parse_street_uri(uri)
