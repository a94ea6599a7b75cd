"""Large pictures are looked at in windows of their own resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from edgeseg.app.data import dataset_from
from edgeseg.data.opening import opened
from edgeseg.data.windows import picture_hw, places, window_from
from edgeseg.errors import ImageError, UsageError
from edgeseg.images import read_image
from edgeseg.spec import IGNORE_ID
from tests.data.conftest import SIZE_HW, SPEC, sample, write

Lay = Callable[..., "list[np.ndarray]"]


@pytest.mark.parametrize(("size", "window"), [((48, 64), (48, 64)), ((50, 70), (32, 32)), ((100, 30), (33, 7))])
def test_as_few_windows_as_needed_cover_a_picture(size: tuple[int, int], window: tuple[int, int]) -> None:
    seen, found = np.zeros(size, int), places(size, window)
    for top, left in found:
        assert top + window[0] <= size[0] and left + window[1] <= size[1]
        seen[top : top + window[0], left : left + window[1]] += 1
    assert seen.min() == 1 and len(found) == -(-size[0] // window[0]) * -(-size[1] // window[1])


def test_windows_hold_the_pixels_of_their_places(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/images/a_{}.png", "s/masks/a_{}.png", count=2)
    data = dataset_from(f"data://{tmp_path}/s?windows=32x32", spec=SPEC, need_labels=True)
    assert len(data) == 8 and data.description.endswith(", 8 windows of 32x32")
    image, _ = sample(1)
    for index in range(4, 8):
        name, frame, label = data[index]
        assert label is not None
        top, left = (int(one) for one in name.rpartition("-y")[2].split("x"))
        np.testing.assert_array_equal(frame, image[top : top + 32, left : left + 32])
        np.testing.assert_array_equal(label, drawn[1][top : top + 32, left : left + 32])


def test_a_picture_smaller_than_a_window_is_continued_without_classes(tmp_path: Path, laid_out: Lay) -> None:
    [drawn] = laid_out("s/images/{}.png", "s/masks/{}.png", count=1)
    data = opened(f"data://{tmp_path}/s?windows=80x60", spec=SPEC)
    _, frame, label = data[0]
    assert len(data) == 1 and label is not None
    assert frame.shape == (60, 80, 3) and label.shape == (60, 80)
    np.testing.assert_array_equal(label[: SIZE_HW[0], : SIZE_HW[1]], drawn)
    assert (label[SIZE_HW[0] :] == IGNORE_ID).all() and (label[:, SIZE_HW[1] :] == IGNORE_ID).all()
    np.testing.assert_array_equal(frame[SIZE_HW[0]], frame[SIZE_HW[0] - 1])


def test_windows_go_with_splits_by_drive_and_with_parts(tmp_path: Path) -> None:
    for drive in "ab":
        for index in range(2):
            image, mask = sample(index)
            write(tmp_path / f"s/images/{drive}_{index}.png", image)
            write(tmp_path / f"s/masks/{drive}_{index}.png", mask)
    data = opened(f"data://{tmp_path}/s?split=prefix&fold=1/2&part=val&windows=32x32", spec=SPEC)
    assert len(data) == 8 and set(data.groups) == {"a"} and {group for _, group in data.named()} == {"a"}
    last = data.part([7], "the last")
    assert len(last) == 1 and last[0].name == data[7].name
    np.testing.assert_array_equal(last[0].frame, data[7].frame)


def test_a_broken_picture_is_said_when_it_is_read(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=2)
    (tmp_path / "s/images/1.png").write_bytes(b"no picture")
    data = opened(f"data://{tmp_path}/s?windows=32x32", spec=SPEC)
    assert len(data) == 5
    with pytest.raises(ImageError, match="1.png"):
        data[4]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_sizes_are_those_of_the_decoded_pictures(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", np.zeros((30, 50, 3), np.uint8))
    assert picture_hw(path) == read_image(path).shape[:2] == (30, 50)


def test_wrong_windows_are_refused() -> None:
    for text in ("", "32", "0x32", "32x0", "axb", "32x32x3", "-1x4"):
        with pytest.raises(UsageError, match="`windows` is WIDTHxHEIGHT such as 256x256"):
            window_from(text)
