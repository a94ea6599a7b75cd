"""Windows cover a picture, and a network that looks at one pixel at a time sees no seam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.prediction.tiles import blended_bands, window_starts

SIDES = st.integers(1, 150)
OVERLAPS = st.floats(0, 0.75)


def of_pixels(window: np.ndarray) -> np.ndarray:
    """Probabilities of two classes that depend on a pixel alone."""
    first = window[..., 0].astype(np.float32) / 255
    return np.stack([first, 1 - first])


@given(length=st.integers(1, 3000), window=st.integers(1, 400), overlap=OVERLAPS)
def test_windows_cover_a_side_and_overlap_by_at_least_what_was_asked(length: int, window: int, overlap: float) -> None:
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - window)
    steps = np.diff(starts)
    assert all(0 < step <= max(1, window * (1 - overlap)) for step in steps)


def test_no_more_windows_than_are_needed() -> None:
    assert window_starts(100, 100, 0.5) == [0]
    assert window_starts(200, 100, 0.0) == [0, 100]
    assert window_starts(200, 100, 0.25) == [0, 50, 100]
    assert window_starts(201, 100, 0.0) == [0, 50, 101]


@settings(max_examples=60)
@given(height=SIDES, width=SIDES, window=st.tuples(st.integers(2, 60), st.integers(2, 60)), overlap=OVERLAPS)
def test_no_seam_is_seen(height: int, width: int, window: tuple[int, int], overlap: float) -> None:
    picture = np.random.default_rng(height * 151 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    bands = list(blended_bands(of_pixels, picture, window, overlap))
    assert [top for top, _ in bands] == list(np.cumsum([0, *(band.shape[1] for _, band in bands)]))[:-1]
    np.testing.assert_allclose(np.concatenate([band for _, band in bands], axis=1), of_pixels(picture), atol=1e-5)


def test_where_windows_overlap_the_nearer_one_counts_more() -> None:
    names = iter(np.float32([0, 1]))
    ((_, band),) = blended_bands(
        lambda window: np.full((1, 4, 8), next(names)), np.zeros((4, 12, 3), np.uint8), (4, 8), 0.5
    )
    assert band[0, 0].tolist() == pytest.approx([0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


def test_only_the_rows_of_one_window_are_looked_at_at_a_time() -> None:
    class Rows:
        shape = (1000, 64, 3)
        tallest = 0

        def __getitem__(self, where: Any) -> np.ndarray:
            rows, columns = where
            self.tallest = max(self.tallest, rows.stop - rows.start)
            return np.zeros((min(rows.stop, 1000) - rows.start, 64 - columns.start, 3), np.uint8)[:, :32]

    picture: Any = Rows()
    assert sum(band.shape[1] for _, band in blended_bands(of_pixels, picture, (32, 32), 0.25)) == 1000
    assert picture.tallest == 32
