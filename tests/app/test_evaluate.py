"""``edgeseg eval --masks``: what is counted, and which file a refusal names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeseg.app.bench_config import EvalConfig
from edgeseg.app.evaluate import Evaluation, evaluate
from edgeseg.errors import DatasetError, ImageError
from edgeseg.images import write_png

NAMES = ("0", "1", "town/0", "town/2", "village/deep/9")


def label(name: str, height: int = 6) -> np.ndarray:
    """HxW uint8 of the classes 0-3, and 255."""
    drawn = np.random.default_rng(len(name)).integers(0, 5, (height, 8), np.uint8)
    return np.where(drawn == 4, 255, drawn).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for part in ("labels", "found"):
        for name in NAMES:
            path = tmp_path / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, label(name) if part == "labels" else np.minimum(label(name), 3))
    return tmp_path


def evaluated(folders: Path) -> Evaluation:
    return evaluate(EvalConfig(masks=folders / "found", labels=folders / "labels"))


def test_folders_below_are_counted_too(folders: Path) -> None:
    (folders / "labels" / ".ipynb_checkpoints").mkdir()
    write_png(folders / "labels" / ".ipynb_checkpoints" / "0.png", label("0"))
    found = evaluated(folders)
    assert found.images == 5 and found.confusion.miou() == 1
    assert found.confusion.counts.sum() == sum(int((label(name) != 255).sum()) for name in NAMES)
    (folders / "found" / "town" / "2.png").unlink()
    with pytest.raises(DatasetError, match="1 of 5 labels have no mask in .*first: town/2"):
        evaluated(folders)


@pytest.mark.parametrize("wrong", ["size", "id", "broken", "label id"])
@pytest.mark.parametrize("names", [["0"], ["town/0"], ["1", "village/deep/9"], list(NAMES)])
def test_every_file_that_cannot_be_used_is_named(folders: Path, wrong: str, names: list[str]) -> None:
    part = "labels" if wrong == "label id" else "found"
    for name in names:
        path = folders / part / f"{name}.png"
        if wrong == "size":
            write_png(path, label(name, 9))
        elif wrong == "broken":
            path.write_bytes(b"")
        else:
            write_png(path, np.full((6, 8), 255 if wrong == "id" else 77, np.uint8))
    with pytest.raises(ImageError) as caught:
        evaluated(folders)
    said = str(caught.value)
    assert all(str(folders / part / f"{name}.png") in said for name in names) and "\n" not in said
    if wrong == "size":
        assert "is 8x9 and its label" in said
    if len(names) > 1:
        assert said.startswith(f"{len(names)} of 5 masks or their labels cannot be used")


def test_an_id_that_is_no_class_may_stand_where_nothing_is_labelled(folders: Path) -> None:
    for name in NAMES:
        write_png(folders / "found" / f"{name}.png", label(name))
    assert evaluated(folders).confusion.miou() == 1
