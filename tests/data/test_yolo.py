"""Which label belongs to which picture in YOLO's folders, and what its ids are called: right, or refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edgeseg.app.data import dataset_from
from edgeseg.app.data_check import check_data
from edgeseg.app.data_config import DataCheckConfig
from edgeseg.data.layouts import layout_of
from edgeseg.data.opening import classes_of, opened
from edgeseg.errors import DatasetError, ImageError, UsageError
from tests.data.conftest import SIZE_HW, SPEC, turned, write

SQUARE = "1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n"
EXPECTED = np.zeros(SIZE_HW, np.uint8)
EXPECTED[12:36, 16:48] = 2


def lay(root: Path, image: str, label: str, names: str = "data.yaml", count: int = 2) -> Path:
    """A box (own id 1) on each picture."""
    for index in range(count):
        write(root / image.format(index), np.full((*SIZE_HW, 3), 90 + index, np.uint8))
        path = root / label.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SQUARE)
    (root / names).parent.mkdir(exist_ok=True)
    (root / names).write_text("train: train\nnames: [disc, box]\n" if names.endswith("yaml") else "disc\nbox\n")
    return root


def read(where: object) -> None:
    """Every picture has its box."""
    data = dataset_from(str(where), spec=SPEC, need_labels=True)
    assert len(data) == 2
    for index in range(2):
        np.testing.assert_array_equal(data[index].label, EXPECTED)


def refused(where: object) -> str:
    with pytest.raises((DatasetError, UsageError, ImageError)) as told:
        dataset_from(str(where), spec=SPEC, need_labels=True)[0]
    return str(told.value)


NFC, NFD = (unicodedata.normalize(form, "straße_ü") for form in ("NFC", "NFD"))
RIGHT = {
    "flat": ("images/{}.jpg", "labels/{}.txt", "data.yaml", ""),
    "a set": ("images/train/{}.jpg", "labels/train/{}.txt", "data.yaml", ""),
    "drives below a set": ("images/train/north/{}.jpg", "labels/train/north/{}.txt", "data.yaml", ""),
    "names of labelImg": ("images/{}.jpg", "labels/{}.txt", "labels/classes.txt", ""),
    "a list of names": ("images/{}.jpg", "labels/{}.txt", "classes.txt", ""),
    "Roboflow's root": ("train/images/{}.jpg", "train/labels/{}.txt", "data.yaml", ""),
    "Roboflow's set": ("train/images/{}.jpg", "train/labels/{}.txt", "data.yaml", "train"),
    "capitals": ("images/{}.JPG", "labels/{}.TXT", "data.yaml", ""),
    "dots": ("images/a.b{}.jpg", "labels/a.b{}.txt", "data.yaml", ""),
    "composed labels": (f"images/{NFD}{{}}.jpg", f"labels/{NFC}{{}}.txt", "data.yaml", ""),
    "decomposed labels": (f"images/{NFC}{{}}.jpg", f"labels/{NFD}{{}}.txt", "data.yaml", ""),
    "sets of two spellings": (f"images/{NFC}/{{}}.jpg", f"labels/{NFD}/{{}}.txt", "data.yaml", ""),
    "drives of two spellings": (f"images/a/{NFC}/{{}}.jpg", f"labels/a/{NFD}/{{}}.txt", "data.yaml", ""),
}


@pytest.mark.parametrize("name", RIGHT)
def test_labels_and_names_are_found_where_tools_put_them(name: str, tmp_path: Path) -> None:
    image, label, names, inner = RIGHT[name]
    where = lay(tmp_path / "s", image, label, names) / inner
    assert layout_of(where) == "yolo" and classes_of(str(where)) == ("background", "disc", "box")
    read(where)


def test_a_set_is_named_in_either_spelling(tmp_path: Path) -> None:
    lay(tmp_path, f"images/{NFD}/{{}}.jpg", f"labels/{NFD}/{{}}.txt")
    write(tmp_path / "images" / "other" / "x.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
    read(f"yolo://{tmp_path}?set={NFC}")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/IMG_{}.JPG", "labels/img_{}.txt"),
        ("images/{}.jpg", "labels/{}.jpg.txt"),
        ("images/{}.jpg", "labels/train/{}.txt"),
        ("images/train/{}.jpg", "labels/{}.txt"),
        ("images/train/{}.jpg", "labels/trainx/{}.txt"),
        ("train/images/{}.jpg", "train/labels/x{}.txt"),
    ],
)
def test_images_without_any_label_of_their_name_are_refused(image: str, label: str, tmp_path: Path) -> None:
    lay(tmp_path, image, label)
    assert "2 images have no label of their name: " in refused(f"yolo://{tmp_path}")
    (report,) = check_data(DataCheckConfig((f"yolo://{tmp_path}",), classes="background,disc,box")).sets
    assert len(report.problems) == 2, "and are no empty ones for the check"


def test_a_label_that_matches_no_image_is_told_and_refused_where_an_image_has_none(tmp_path: Path) -> None:
    lay(tmp_path, "images/{}.jpg", "labels/{}.txt")
    (tmp_path / "labels" / "gone.txt").write_text(SQUARE)
    read(tmp_path)
    told = dataset_from(str(tmp_path), spec=SPEC).description
    assert told.endswith("images (YOLO; 1 labels that match no image (gone.txt))")
    (tmp_path / "labels" / "1.txt").rename(tmp_path / "labels" / "1.jpg.txt")
    said = refused(tmp_path)
    assert "1 images have no label of their name: 1.jpg; " in said and "(1.jpg.txt, gone.txt)" in said
    (tmp_path / "labels" / "1.jpg.txt").unlink()
    (tmp_path / "labels" / "gone.txt").unlink()
    empty = dataset_from(str(tmp_path), spec=SPEC, need_labels=True)[1].label
    assert empty is not None and not empty.any(), "an image without objects has no file"


def test_pictures_that_would_be_left_out_are_refused(tmp_path: Path) -> None:
    lay(tmp_path / "twice", "images/{}.jpg", "labels/{}.txt")
    for index in range(2):
        write(tmp_path / "twice" / "images" / f"{index}.png", np.zeros((*SIZE_HW, 3), np.uint8))
    assert "2 pairs of files in" in refused(tmp_path / "twice")
    beside = lay(tmp_path / "beside", "images/train/{}.jpg", "labels/train/{}.txt")
    write(beside / "images" / "x.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
    assert "holds images beside the set train" in refused(beside)
    read(f"yolo://{beside}?set=train")


@pytest.mark.parametrize(
    "hidden", ["images/.ipynb_checkpoints/0.jpg", "images/__MACOSX/0.jpg", "images/train/.x/0.jpg"]
)
def test_hidden_folders_are_no_sets_and_hold_no_images(hidden: str, tmp_path: Path) -> None:
    lay(tmp_path, "images/train/{}.jpg", "labels/train/{}.txt")
    write(tmp_path / hidden, np.zeros((*SIZE_HW, 3), np.uint8))
    (tmp_path / "._data.yaml").write_bytes(b"\0\5\x16\7names: *\n")
    read(tmp_path)


def test_ids_without_names_are_not_those_of_the_model(tmp_path: Path) -> None:
    """Id 1 would be the disc: the model's ids begin with the background, and those of YOLO do not."""
    lay(tmp_path, "images/{}.jpg", "labels/{}.txt")
    (tmp_path / "data.yaml").write_text("nc: 2\n")
    assert "does not name its classes; name them there (YOLO: names in data.yaml), or say map=0:box" in refused(
        tmp_path
    )
    read(f"data://{tmp_path}?map=0:disc,1:box")
    read(f"data://{tmp_path}?rest=box")
    assert "`map` names 'disc', which the data does not have; it has ids alone" in refused(
        f"data://{tmp_path}?map=disc:box"
    )
    assert "has the id 1, which its data set does not list" in refused(f"data://{tmp_path}?map=0:disc")
    assert len(opened(str(tmp_path))) == 2, "pictures alone need no names"


def test_two_files_of_names_have_to_agree(tmp_path: Path) -> None:
    lay(tmp_path, "images/{}.jpg", "labels/{}.txt")
    (tmp_path / "classes.txt").write_text("disc\r\nbox\r\n")
    read(tmp_path)
    (tmp_path / "classes.txt").write_text("background\ndisc\nbox\n")
    assert "1 files name the classes otherwise than" in refused(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("disc\n\nbox\n")
    assert "1 lines of" in refused(tmp_path) and "are blank: line 2; remove them" in refused(tmp_path)
    (tmp_path / "classes.txt").write_text("disc\x0c\nbox\n")
    read(tmp_path)


def test_a_file_above_that_speaks_of_other_folders_names_nothing(tmp_path: Path) -> None:
    lay(tmp_path / "mine", "images/{}.jpg", "labels/{}.txt").joinpath("data.yaml").unlink()
    (tmp_path / "data.yaml").write_text("train: other/images\nnames: [x, y]\n")
    assert "does not name its classes" in refused(tmp_path / "mine")
    (tmp_path / "data.yaml").write_text("train: mine/images\nnames: [disc, box]\n")
    read(tmp_path / "mine")


@pytest.mark.parametrize("kind", ["-1", "0.5", "nan", "inf", "1e30", "99999999999", "disc"])
def test_what_is_no_class_id_is_refused(kind: str, tmp_path: Path) -> None:
    lay(tmp_path, "images/{}.jpg", "labels/{}.txt")
    (tmp_path / "labels" / "0.txt").write_text(kind + SQUARE[1:])
    assert "line 1: " in refused(tmp_path) and "with a CLASS from 0" in refused(tmp_path)
    (tmp_path / "labels" / "0.txt").write_text("1.0" + SQUARE[1:])
    read(tmp_path)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_outlines_on_pictures_that_exif_turns_are_refused(orientation: int, tmp_path: Path) -> None:
    lay(tmp_path, "images/{}.jpg", "labels/{}.txt")
    turned(tmp_path / "images" / "0.jpg", 1)
    read(tmp_path)
    turned(tmp_path / "images" / "0.jpg", orientation)
    assert f"EXIF orientation {orientation} and its mask has no size that tells" in refused(tmp_path)


def test_a_path_that_is_no_such_folder_is_one_line(tmp_path: Path) -> None:
    assert "images does not exist" in refused(f"yolo://{tmp_path}/nowhere")
    lay(tmp_path, "a/images/{}.jpg", "a/labels/{}.txt")
    lay(tmp_path, "b/images/{}.jpg", "b/labels/{}.txt")
    assert "found a, b; say which with `set`" in refused(f"yolo://{tmp_path}")
    assert "`set` is one of a, b" in refused(f"yolo://{tmp_path}?set=c")
    read(f"yolo://{tmp_path}?set=b")
