"""Lists and label maps of Pascal VOC as people and tools write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edgeseg.app.data import dataset_from
from edgeseg.errors import DatasetError, UsageError
from tests.data.conftest import SPEC, sample, write

COLOURS = np.array([[0, 0, 0], [4, 5, 6], [7, 8, 9]], np.uint8)
LABELS = "background:0,0,0::\ndisc:4,5,6::\nbox:7,8,9::\n"


def lay(root: Path, stem: str, image_form: str = "NFC", mask_form: str = "NFC") -> list[np.ndarray]:
    drawn = []
    for index in range(3):
        image, ids = sample(index)
        name = stem.format(index)
        write(root / "JPEGImages" / f"{unicodedata.normalize(image_form, name)}.jpg", image)
        colours = np.ascontiguousarray(COLOURS[ids][..., ::-1])
        write(root / "SegmentationClass" / f"{unicodedata.normalize(mask_form, name)}.png", colours)
        drawn.append(ids)
    (root / "labelmap.txt").write_text(LABELS)
    return drawn


def listed(root: Path, text: str) -> Path:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "default.txt").write_bytes(text.encode())
    return root


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", " \n", "\n\n"])
@pytest.mark.parametrize("line", ["{}", "{}.jpg", "{}.JPG", "{}.png", "{} 1", "{}  -1", "{} 0"])
@pytest.mark.parametrize("stem", ["a{}", "my image {}", "a.b{}", "sub/a{}", "ü{}", "img{} 1", "{}.jpg"])
def test_lists_name_images_in_every_form(stem: str, line: str, ends: str, tmp_path: Path) -> None:
    mark = "\ufeff" if ends == "\r\n" else ""
    drawn = lay(tmp_path, stem, "NFC", "NFD")
    text = mark + "".join(line.format(stem.format(index)) + ends for index in range(3))
    data = dataset_from(str(listed(tmp_path, text)), spec=SPEC, need_labels=True)
    assert len(data) == 3
    for index, ids in enumerate(drawn):
        np.testing.assert_array_equal(data[index].label, ids)


def test_an_image_that_is_listed_twice_is_one_image(tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    assert len(dataset_from(str(listed(tmp_path, "a0\na1\na0\na1.jpg\na2 1\n")), spec=SPEC, need_labels=True)) == 3


def test_missing_images_are_named_as_listed(tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    with pytest.raises(DatasetError, match="2 images of .* are missing: my image 1, my image 2 1; put them back"):
        dataset_from(str(listed(tmp_path, "a0\nmy image 1\nmy image 2 1\n")), spec=SPEC)


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_two_files_of_one_name_are_refused(folder: str, tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    write(tmp_path / folder / "a0.bmp", sample(9)[0])
    with pytest.raises(DatasetError, match=f"1 pairs of files in .*{folder} have one name: a0.bmp and a0"):
        dataset_from(str(tmp_path), spec=SPEC)


def test_hidden_files_are_none(tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    listed(tmp_path, "a0\na1\n")
    (tmp_path / "ImageSets" / "Segmentation" / "._default.txt").write_bytes(b"\0\5\x16\7")
    write(tmp_path / "JPEGImages" / ".ipynb_checkpoints" / "a0.jpg", sample(0)[0])
    assert len(dataset_from(str(tmp_path), spec=SPEC, need_labels=True)) == 2


def test_colours_of_a_label_map_are_told_apart(tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    (tmp_path / "labelmap.txt").write_text("a:0,0,0::\nb:4,5,6::\nc:4,5,6::\nd:0,0,0::\n")
    said = (
        r"labelmap.txt: b and c have the same colour \(4, 5, 6\), a and d have the same colour .*cannot tell them apart"
    )
    with pytest.raises(UsageError, match=said):
        dataset_from(f"voc://{tmp_path}?rest=ignore", spec=SPEC)


@pytest.mark.parametrize("line", ["disc", "disc:1,2", "disc:1,2,3,4::", "disc:1,2,256::", "disc:-1,2,3::", ":1,2,3::"])
def test_a_broken_line_of_a_label_map_has_the_number_it_has_in_the_file(line: str, tmp_path: Path) -> None:
    lay(tmp_path, "a{}")
    (tmp_path / "labelmap.txt").write_text(f"# label:color_rgb\n\nbackground:0,0,0::\n{line}\n")
    with pytest.raises(DatasetError, match=r"labelmap.txt, line 4: .* is not NAME:R,G,B::"):
        dataset_from(str(tmp_path), spec=SPEC)
    (tmp_path / "labelmap.txt").write_text(LABELS.replace("disc:4,5,6::", " disc : 4, 5, 6 :a,b:c"))
    assert dataset_from(str(tmp_path), spec=SPEC)[0].label is not None
