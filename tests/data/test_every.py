"""``every=N`` of a data set takes one image of every N."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.data.opening import opened, with_parameters
from edgeseg.errors import UsageError
from edgeseg.images import write_png


@pytest.fixture()
def drive(tmp_path: Path) -> Path:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for number in range(7):
            shape = (4, 6, 3) if kind == "images" else (4, 6)
            write_png(tmp_path / kind / f"a_{number:02d}.png", np.full(shape, number, np.uint8))
    return tmp_path


@pytest.mark.parametrize("step, kept", [(1, 7), (2, 4), (3, 3), (7, 1), (100, 1)])
def test_takes_the_first_of_every_n_images_with_its_mask(drive: Path, step: int, kept: int) -> None:
    data = opened(with_parameters(str(drive), every=str(step)))
    assert [path.stem for path in data.files] == [f"a_{number:02d}" for number in range(0, 7, step)]
    assert len(data) == kept and len(data.masks) == kept


def test_thins_the_part_of_a_split(drive: Path) -> None:
    part = {"split": "time-gap,gap=0,fps=1", "fold": "1/2"}
    whole = opened(with_parameters(str(drive), part="train", **part))
    thin = opened(with_parameters(str(drive), part="train", every="2", **part))
    assert list(thin.files) == list(whole.files)[::2]


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "two", "99999999999999"])
def test_another_number_is_one_line(drive: Path, wrong: str) -> None:
    with pytest.raises(UsageError, match="`every` is N, a whole number from 1"):
        opened(with_parameters(str(drive), every=wrong))
