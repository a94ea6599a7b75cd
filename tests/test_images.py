from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.errors import DatasetError, ImageError
from edgeseg.images import FolderDataset, InMemory, Joined, image_files, read_image, read_mask, write_png
from edgeseg.spec import ModelSpec


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_refused_wherever_it_is_cut(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), image)
    data = path.read_bytes()
    assert read_image(path).shape == (60, 80, 3)
    for length in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:length])
        with pytest.raises(ImageError, match="truncated"):
            read_image(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_text("hello")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path / "a.bmp")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "missing.png")


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.full((4, 4, 3), (0, 0, 1), np.uint8))
    with pytest.raises(ImageError, match="one channel of whole numbers"):
        read_mask(tmp_path / "m.png")


def test_pairs_are_found_in_both_layouts(pairs: Path, spec: ModelSpec, tmp_path: Path) -> None:
    beside = FolderDataset(pairs, spec=spec, need_labels=True)
    assert len(beside) == 4 and beside[2].name == "2" and beside[2].label is not None
    inside = tmp_path / "inside"
    inside.mkdir()
    pairs.rename(inside / "images")
    (tmp_path / "trainannot").rename(inside / "masks")
    again = FolderDataset(inside, spec=spec, need_labels=True)
    assert len(again) == 4 and again[0].label is not None
    given = FolderDataset(inside / "images", labels=inside / "masks", spec=spec, need_labels=True)
    np.testing.assert_array_equal(given[3].label, again[3].label)


def test_a_missing_mask_is_named(pairs: Path, spec: ModelSpec) -> None:
    (pairs.with_name("trainannot") / "2.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 images have no mask.*2\.png"):
        FolderDataset(pairs, spec=spec, need_labels=True)
    assert FolderDataset(pairs, spec=spec)[2].label is None


def test_a_mask_of_another_size_is_refused(pairs: Path, spec: ModelSpec) -> None:
    write_png(pairs.with_name("trainannot") / "1.png", np.zeros((32, 96), np.uint8))
    with pytest.raises(ImageError, match=r"1\.png is 96x32 but its image is 96x64"):
        FolderDataset(pairs, spec=spec)[1]


def test_a_class_id_beyond_the_spec_is_refused(pairs: Path, spec: ModelSpec) -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[:2] = (9, 255) * 48  # ignored ids are fine
    path = pairs.with_name("trainannot") / "1.png"
    write_png(path, mask)
    assert FolderDataset(pairs, spec=spec)[1].label is not None
    mask[5, 5] = 3
    write_png(path, mask)
    with pytest.raises(
        ImageError, match=r"class id 3, but there are 3 classes .0-2. and 9 or 255 is ignored.*`ignore` ID"
    ):
        FolderDataset(pairs, spec=spec)[1]


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match="holds no images"):
        image_files(tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        image_files(tmp_path / "none")


def test_joined_and_in_memory(pairs: Path) -> None:
    folder = FolderDataset(pairs)
    few = InMemory([folder[0], folder[1]], "few")
    joined = Joined([few, folder])
    assert len(joined) == 6 and joined[3].name == "1" and joined.description == f"few + {folder.description}"


def test_an_empty_file_is_no_image(tmp_path: Path) -> None:
    for name in ("a.bmp", "a.webp", "a.tif"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_image(tmp_path / name)


def test_a_device_or_a_pipe_is_no_image(tmp_path: Path) -> None:
    """It may have no end, or nobody who writes to it."""
    device, pipe = tmp_path / "zero.png", tmp_path / "pipe.png"
    device.symlink_to("/dev/zero")
    os.mkfifo(pipe)
    for path in (device, pipe):
        for read in (read_image, read_mask):
            with pytest.raises(ImageError, match="is no file"):
                read(path)
