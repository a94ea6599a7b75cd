from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeseg.errors import ImageError
from edgeseg.preprocess import class_map_at, normalized, resized_frame
from edgeseg.spec import Preprocess


def test_normalized_is_the_written_formula() -> None:
    frame = np.zeros((1, 2, 2, 3), np.uint8)
    frame[0, 0, 1] = (10, 20, 30)
    pre = Preprocess()
    rgb = normalized(frame, pre)
    assert rgb.shape == (1, 3, 2, 2) and rgb.dtype == np.float32 and rgb.flags.c_contiguous
    for channel, value in enumerate((30, 20, 10)):
        expected = (value / 255 - pre.mean[channel]) / pre.std[channel]
        assert rgb[0, channel, 0, 1] == pytest.approx(expected, abs=1e-6)
    bgr = normalized(frame, Preprocess(mean=pre.mean[::-1], std=pre.std[::-1], channel_order="BGR"))
    np.testing.assert_allclose(bgr[:, ::-1], rgb, atol=1e-6)


def test_resize_into_a_given_buffer() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    buffer = np.zeros((1, 32, 48, 3), np.uint8)
    result = resized_frame(frame, (32, 48), out=buffer[0])
    np.testing.assert_array_equal(buffer[0], resized_frame(frame, (32, 48)))
    assert np.shares_memory(result, buffer)
    same = np.zeros((50, 70, 3), np.uint8)
    resized_frame(frame, (50, 70), out=same)
    np.testing.assert_array_equal(same, frame)
    assert resized_frame(frame, (50, 70)) is frame, "nothing to do"


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    assert set(np.unique(resized_frame(stripes, (32, 32)))) == {127}


@pytest.mark.parametrize(("size_hw", "averages"), [((64, 64), True), ((64, 40), False), ((40, 64), False)])
def test_it_averages_where_both_sides_shrink_by_two(size_hw: tuple[int, int], averages: bool) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    way = cv2.INTER_AREA if averages else cv2.INTER_LINEAR
    np.testing.assert_array_equal(resized_frame(frame, (32, 32)), cv2.resize(frame, (32, 32), interpolation=way))


def test_what_is_no_frame_is_refused() -> None:
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ImageError, match="HxWx3 uint8"):
            resized_frame(bad, (32, 32))


def test_class_maps_keep_their_ids() -> None:
    classes = np.array([[0, 5], [9, 2]], np.uint8)
    larger = class_map_at(classes, (6, 4))
    assert larger.shape == (6, 4) and set(np.unique(larger)) == {0, 2, 5, 9}
    assert class_map_at(classes, (2, 2)) is classes
