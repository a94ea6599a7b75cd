"""COCO files that say a thing twice, or not at all: every picture has its objects, or the file is refused."""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from edgeseg.app.data import dataset_from
from edgeseg.app.data_check import check_data
from edgeseg.app.data_config import DataCheckConfig
from edgeseg.data.opening import opened
from edgeseg.errors import DatasetError, ImageError, UsageError
from tests.data.conftest import SIZE_HW, SPEC, turned, write

Change = Callable[["dict[str, Any]"], Any]
SQUARE = [[16, 12, 48, 12, 48, 36, 16, 36]]
BOX = np.zeros(SIZE_HW, np.uint8)
BOX[12:36, 16:48] = 2


def tree(kind: str = "coco", count: int = 2) -> dict[str, Any]:
    """A box on each picture; the panoptic one has segment 258."""
    size = {"width": SIZE_HW[1], "height": SIZE_HW[0]}
    label: dict[str, Any] = {"category_id": 2, "segmentation": SQUARE}
    if kind == "panoptic":
        label = {"segments_info": [{"id": 258, "category_id": 2}]}
    return {
        "images": [{"id": own, "file_name": f"{own}.jpg", **size} for own in range(count)],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "box"}],
        "annotations": [{"id": own, "image_id": own, "file_name": f"{own}.png", **label} for own in range(count)],
    }


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., str]:
    """What is said of a changed file; empty where every picture has its box."""
    for own in range(3):
        write(tmp_path / "images" / f"{own}.jpg", np.full((*SIZE_HW, 3), 60 + own, np.uint8))
        write(tmp_path / "labels" / f"{own}.png", np.stack([0 * BOX, BOX // 2, BOX], -1))

    def say(change: Change, kind: str = "coco") -> str:
        content = tree(kind)
        change(content)
        (tmp_path / "labels.json").write_text(json.dumps(content))
        try:
            data = dataset_from(str(tmp_path), spec=SPEC, need_labels=True)
            labels = [data[index].label for index in range(len(data))]
        except (DatasetError, ImageError) as error:
            return str(error)
        rest = 0 if kind == "coco" else 255
        assert len(labels) == 2
        assert all(np.array_equal(one, np.where(BOX == 2, 2, rest)) for one in labels)
        return ""

    return say


def part(name: str, index: int, **values: Any) -> Change:
    return lambda content: content[name][index].update(values)


def more(name: str, index: int, **values: Any) -> Change:
    return lambda content: content[name].append({**copy.deepcopy(content[name][index]), **values})


TWICE = {
    "two images of one id": (part("images", 1, id=0), "1 image ids of labels.json stand for two images: 0"),
    "ids alike as numbers": (part("images", 1, id="0"), "1 image ids of labels.json stand for two images: 0"),
    "one image of two ids": (more("images", 0, id=9), "1 images of labels.json have two ids: "),
    "one image in two spellings": (
        more("images", 0, id=9, file_name="./0.jpg"),
        "1 images of labels.json have two ids",
    ),
    "an id of two categories": (part("categories", 1, id=1), "1 category ids of labels.json have two names: 1"),
    "an image that is not listed": (part("annotations", 0, image_id=7), "1 image ids in annotations of .* none of its"),
    "an image that was taken out": (lambda c: c["images"].pop(), "1 image ids in annotations of .* none of its images"),
}


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
@pytest.mark.parametrize("name", TWICE)
def test_what_stands_twice_is_refused(name: str, kind: str, said: Callable[..., str]) -> None:
    change, expected = TWICE[name]
    assert said(lambda content: None, kind) == ""
    assert re.search(expected, said(change, kind))


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
def test_what_stands_twice_alike_does_no_harm(kind: str, said: Callable[..., str]) -> None:
    assert (
        said(more("images", 0), kind) == said(more("categories", 0), kind) == said(more("annotations", 0), kind) == ""
    )


def test_two_sizes_of_an_image_are_refused(said: Callable[..., str]) -> None:
    assert "1 image ids of labels.json have two sizes: 0" in said(more("images", 0, width=65))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (more("annotations", 0, file_name="2.png"), "1 images of labels.json have two annotations: 0"),
        (part("annotations", 1, file_name="0.png"), "1 masks are of two images: "),
        (
            lambda c: c["annotations"][0]["segments_info"].append({"id": 258, "category_id": 1}),
            "have two categories: 258",
        ),
        (
            lambda c: c["annotations"][0]["segments_info"].append({"id": 0, "category_id": 1}),
            "are no colour: 0; a segm",
        ),
        (lambda c: c["annotations"][0]["segments_info"].append({"id": -1, "category_id": 1}), "are no colour: -1"),
        (
            lambda c: c["annotations"][0]["segments_info"].append({"id": 258 + (1 << 24), "category_id": 1}),
            "are no colour: 16777474",
        ),
    ],
)
def test_segments_that_stand_for_two_things_are_refused(
    change: Change, expected: str, said: Callable[..., str]
) -> None:
    assert expected in said(change, "panoptic")


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
@pytest.mark.parametrize("own", [-1, -2, 1 << 40])
def test_what_is_no_id_of_a_category_is_refused(own: int, kind: str, said: Callable[..., str]) -> None:
    def change(content: dict[str, Any]) -> None:
        first = content["annotations"][0]
        first.get("segments_info", [first])[0].update(category_id=own)

    assert "has no id from 0 on as category_id" in said(change, kind)
    assert "has no id from 0 on as id" in said(part("categories", 0, id=own), kind)


@pytest.mark.parametrize("empty", [[], [[]], None, {}, ""])
def test_boxes_without_an_outline_are_refused_all_at_once(
    empty: object, said: Callable[..., str], tmp_path: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["segmentation"] = empty

    assert "2 annotations of labels.json have an empty segmentation: 0 of 0.jpg, 1 of 1.jpg; draw them" in said(change)
    (report,) = check_data(DataCheckConfig((str(tmp_path),), classes="background,disc,box")).sets
    assert len(report.problems) == 2
    assert len(opened(str(tmp_path))) == 2, "pictures alone need no outlines"


def as_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_floats(one) for one in value]
    return float(value) if isinstance(value, int) else value


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
def test_whole_numbers_may_be_written_as_pandas_does(kind: str, said: Callable[..., str]) -> None:
    assert said(lambda content: content.update(as_floats(content)), kind) == ""
    assert "has no whole number as id" in said(part("images", 0, id=0.5), kind)
    assert "has no whole number as id" in said(part("images", 0, id=float("nan")), kind)


def test_run_lengths_are_whole(said: Callable[..., str]) -> None:
    flat = BOX.ravel(order="F") > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int))).tolist()
    counts = np.diff([0, *edges, flat.size]).astype(float).tolist()
    assert said(part("annotations", 0, segmentation={"size": [48.0, 64.0], "counts": counts})) == ""
    counts[-1] += 0.5
    assert "the run lengths are no whole numbers" in said(
        part("annotations", 0, segmentation={"size": [48, 64], "counts": counts})
    )


@pytest.mark.parametrize("kind", ["coco", "panoptic"])
@pytest.mark.parametrize(
    ("inner", "written"), [("a/{}", "a\\{}"), ("ü/{}", "ü\\{}"), ("a/ü{}", "a/ü{}"), ("a/b/{}", ".\\a\\b\\{}")]
)
def test_files_are_found_as_windows_and_macos_write_them(inner: str, written: str, kind: str, tmp_path: Path) -> None:
    content = tree(kind)
    for own in range(2):
        there = unicodedata.normalize("NFD", inner.format(own))
        write(tmp_path / "images" / f"{there}.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
        write(tmp_path / "labels" / f"{there}.png", np.stack([0 * BOX, BOX // 2, BOX], -1))
        content["images"][own]["file_name"] = unicodedata.normalize("NFC", written.format(own)) + ".jpg"
        content["annotations"][own]["file_name"] = unicodedata.normalize("NFC", written.format(own)) + ".png"
    (tmp_path / "labels.json").write_text(json.dumps(content))
    data = dataset_from(str(tmp_path), spec=SPEC, need_labels=True)
    assert [data[index].label[20, 20] for index in range(2)] == [2, 2]  # type: ignore[index]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_outlines_without_a_size_on_turned_pictures_are_refused(
    orientation: int, said: Callable[..., str], tmp_path: Path
) -> None:
    def sizeless(content: dict[str, Any]) -> None:
        for one in content["images"]:
            one.pop("width")

    turned(tmp_path / "images" / "0.jpg", 1)
    assert said(sizeless) == ""
    turned(tmp_path / "images" / "0.jpg", orientation)
    assert f"EXIF orientation {orientation} and its mask has no size that tells" in said(sizeless)
    assert f"EXIF orientation {orientation}" in said(lambda content: None), "sizes of the stored pixels"


def test_a_file_without_categories_names_nothing(said: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="does not name its classes"):
        said(lambda content: content.update(categories=[]))
