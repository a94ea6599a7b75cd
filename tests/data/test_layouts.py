"""Every layout gives the ids that were drawn, and says in one line what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from edgeseg.app.data import absolute_data, dataset_from
from edgeseg.data.layouts import LAYOUTS, layout_of
from edgeseg.data.opening import is_of_layout, opened, with_parameters
from edgeseg.data.shapes import polygon_mask, runs_mask, runs_of_text
from edgeseg.errors import DatasetError, ImageError, UsageError
from edgeseg.images import Dataset
from edgeseg.spec import IGNORE_ID, ModelSpec
from tests.data.conftest import SIZE_HW, SPEC, sample, write

Lay = Callable[..., "list[np.ndarray]"]


def masks_of(data: Dataset) -> list[np.ndarray]:
    found = [data[index].label for index in range(len(data))]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def same(data: Dataset, drawn: list[np.ndarray]) -> None:
    found = masks_of(data)
    assert len(found) == len(drawn)
    for one, other in zip(found, drawn):
        np.testing.assert_array_equal(one, other)


FOLDERS = {
    "masks of the same name": ("s/images/{}.png", "s/masks/{}.png", "s"),
    "capitals": ("s/Images/{}.JPG", "s/Masks/{}.PNG", "s"),
    "sets below": ("s/images/train/{}.png", "s/masks/train/{}.png", "s/images/train"),
    "drives below": ("s/images/drive{}/a.png", "s/masks/drive{}/a.png", "s"),
    "NAMEannot": ("train/{}.png", "trainannot/{}.png", "train"),
    "NAME_labels": ("train/{}.png", "train_labels/{}.png", "train"),
    "NAME_masks and a suffix": ("train/{}.jpg", "train_masks/{}_mask.png", "train"),
    "labelIds": ("s/images/{}.png", "s/masks/{}_labelIds.png", "s"),
    "both end": ("s/images/{}_image.tif", "s/labels/{}_mask.bmp", "s"),
    "both begin": ("s/images/img_{}.png", "s/labels/mask_{}.png", "s"),
    "mixed": ("s/{}.png", "s/{}_mask.png", "s"),
    "mixed, both end": ("s/{}_sat.jpg", "s/{}_mask.png", "s"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_masks_are_found_under_the_names_that_people_give(name: str, tmp_path: Path, laid_out: Lay) -> None:
    image, mask, where = FOLDERS[name]
    drawn = laid_out(image, mask)
    data = dataset_from(str(tmp_path / where), spec=SPEC, need_labels=True)
    same(data, drawn)
    assert data.description.startswith("4 images in ")
    assert dataset_from(str(tmp_path / where))[0].label is None, "pictures to calibrate on need no masks"


def test_names_are_declared_where_none_is_known_or_two_fit(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/images/{}.png", "s/masks/seg-{}-v2.png")
    with pytest.raises(DatasetError, match="4 of 4 images have no mask .*the folder holds seg-0-v2.png"):
        dataset_from(str(tmp_path / "s"), spec=SPEC, need_labels=True)
    same(dataset_from(f"data://{tmp_path}/s?names=*:seg-*-v2", spec=SPEC, need_labels=True), drawn)
    laid_out("t/images/{}.png", "t/masks/{}_mask.png")
    laid_out("t/images/{}.png", "t/masks/{}_labelIds.png", encode=lambda ids: 2 - ids)
    two = r"masks of two names, \*_mask and \*_labelIds .0_mask.png and 0_labelIds.png.*; say which: .*names="
    with pytest.raises(DatasetError, match=two):
        dataset_from(str(tmp_path / "t"), spec=SPEC, need_labels=True)
    with pytest.raises(DatasetError, match="`names` is IMAGE:MASK with one"):
        dataset_from(f"data://{tmp_path}/t?names=x", spec=SPEC)


@pytest.mark.parametrize("name", ["{}_label", "{}_mask", "{}_gt"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_second_mask_of_an_image_is_told(tmp_path: Path, laid_out: Lay, name: str, count: int) -> None:
    """Be it one of many, or beside a mask of the image's own name."""
    laid_out("s/images/{}.png", f"s/masks/{name}.png", count=count)
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png")
    with pytest.raises(DatasetError, match=r"images of .* have masks of two names, \* and .*names=\*:\*"):
        dataset_from(str(tmp_path / "s"), spec=SPEC, need_labels=True)
    same(dataset_from(f"data://{tmp_path}/s?names=*:*", spec=SPEC, need_labels=True), drawn)


@pytest.mark.parametrize(("images", "masks"), [("s/images", "s/masks"), ("s/train", "s/trainannot")])
def test_images_below_count_where_their_masks_do(tmp_path: Path, laid_out: Lay, images: str, masks: str) -> None:
    """What is left out is said, and what is hidden at any depth is no part of it."""
    where = tmp_path / ("s" if images.endswith("images") else images)
    drawn = laid_out(f"{images}/{{}}.png", f"{masks}/{{}}.png")
    more = laid_out(f"{images}/town/deep/{{}}.png", f"{masks}/town/deep/{{}}.png", count=2)
    for hidden in (f"{images}/.ipynb_checkpoints", f"{images}/.old/town", f"{masks}/.ipynb_checkpoints"):
        write(tmp_path / hidden / "0.png", sample(0)[0])
    data = opened(str(where), spec=SPEC, need_labels=True)
    assert [path.parent.name for path in data.files].count("deep") == 2 and len(data) == 6
    same(data, [*drawn, *more])
    write(tmp_path / images / "thumbs" / "0.png", sample(0)[0])
    data = opened(str(where), spec=SPEC, need_labels=True)
    assert len(data) == 6 and "(images in thumbs left out)" in data.description


PALETTE = np.array([[9, 9, 9], [200, 0, 0], [0, 200, 0]] + [[0, 0, 0]] * 253, np.uint8)


def as_palette(path: Path, ids: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow writes palettes")
    picture = image.fromarray(ids)
    picture.putpalette(PALETTE.ravel().tolist())
    picture.save(path)


def test_masks_in_each_encoding(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png")
    for index, ids in enumerate(drawn):
        as_palette(tmp_path / "s" / "masks" / f"{index}.png", ids)
    same(dataset_from(f"data://{tmp_path}/s?masks=palette", spec=SPEC), drawn)
    colours = np.array(SPEC.palette, np.uint8)[:, ::-1]
    laid_out("c/images/{}.png", "c/masks/{}.png", encode=lambda ids: colours[ids])
    same(dataset_from(f"data://{tmp_path}/c?masks=colours", spec=SPEC), drawn)
    two = ModelSpec(("background", "disc"), ((0, 0, 0), (255, 0, 0)), SIZE_HW)
    for folder, high in (("b", 255), ("one", 1), ("seven", 7)):
        laid_out(f"{folder}/images/{{}}.png", f"{folder}/masks/{{}}.png", encode=lambda ids, v=high: (ids > 0) * v)
        same(dataset_from(f"data://{tmp_path}/{folder}?masks=binary", spec=two), [ids > 0 for ids in drawn])
    laid_out("j/images/{}.png", "j/masks/{}.jpg", encode=lambda ids: (ids > 0).astype(np.uint8) * 255)
    found = masks_of(dataset_from(f"data://{tmp_path}/j?masks=threshold", spec=two))
    assert np.mean([np.mean(one == (ids > 0)) for one, ids in zip(found, drawn)]) > 0.99


@pytest.mark.parametrize(
    ("encoding", "mask", "said"),
    [
        ("binary", np.arange(64, dtype=np.uint8) % 3, "holds the values 0, 1, 2; a binary mask holds 0 and one more"),
        ("palette", np.arange(64, dtype=np.uint8) % 3, "is no PNG with a palette, as declared"),
        ("colours", np.array([[1, 2, 3]] * 64, np.uint8), r"1 colours that are no class, in 3072 pixels \(3 2 1\)"),
        ("threshold", np.array([[1, 2, 3]] * 64, np.uint8), "has colours; masks=threshold reads grey"),
    ],
)
def test_a_mask_of_another_encoding_than_declared_is_refused(
    encoding: str, mask: np.ndarray, said: str, tmp_path: Path, laid_out: Lay
) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", encode=lambda ids: np.stack([mask] * 48))
    with pytest.raises(ImageError, match=said):
        dataset_from(f"data://{tmp_path}/s?masks={encoding}", spec=SPEC)[0]


def test_colours_of_a_longer_list_are_merged(tmp_path: Path, laid_out: Lay) -> None:
    """As CamVid's 32 colours are merged to 11 classes."""
    listed = np.array([[1, 1, 1], [2, 2, 2], [3, 3, 3]], np.uint8)
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png", encode=lambda ids: listed[ids])
    (tmp_path / "s" / "colours.txt").write_text("background 1 1 1\ncircle 2 2 2\nsquare 3 3 3\n")
    where = f"data://{tmp_path}/s?masks=colours&colours=colours.txt"
    with pytest.raises(UsageError, match="2 classes of the data are none of the model's .*: circle, square; merge"):
        dataset_from(where, spec=SPEC)
    same(dataset_from(f"{where}&map=circle:disc,square:box", spec=SPEC), drawn)
    (tmp_path / "s" / "map.txt").write_text("circle: disc\nsquare: ignore  # not labelled well\n")
    expected = [np.where(ids == 2, IGNORE_ID, ids) for ids in drawn]
    same(dataset_from(f"{where}&map=map.txt", spec=SPEC), expected)


def test_ids_are_merged_and_ignored(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png", encode=lambda ids: np.where(ids == 2, 77, ids))
    where = f"data://{tmp_path}/s"
    with pytest.raises(ImageError, match="has class id 77, but there are 3 classes"):
        dataset_from(where, spec=SPEC)[0]
    same(dataset_from(f"{where}?map=77:box", spec=SPEC), drawn)
    same(dataset_from(f"{where}?ignore=77", spec=SPEC), [np.where(ids == 2, IGNORE_ID, ids) for ids in drawn])
    same(dataset_from(f"{where}?rest=disc", spec=SPEC), [np.where(ids == 2, 1, ids) for ids in drawn])
    same(dataset_from(f"{where}?map=77:box,disc:box", spec=SPEC), [np.where(ids == 1, 2, ids) for ids in drawn])
    for wrong, said in (
        ("map=77", "`map` is NAME:CLASS"),
        ("map=77:house", "`map` sends 77 to 'house', which is no class of the model; pass one of background, disc"),
        ("map=dics:box", "`map` names 'dics', which the data does not have; did you mean disc"),
        ("map=1:box,1:disc", "`map` sends 1 to both box and disc"),
        ("rest=house", "`rest` is 'house', which is no class"),
        ("ignore=x", "`ignore` is an id such as 255"),
        ("maks=ids", "has no parameter maks; it has masks, colours"),
        ("masks=coloured", "masks is ids or palette or binary"),
        ("labels=nowhere", "nowhere does not exist; `labels` is relative to"),
    ):
        with pytest.raises((UsageError, DatasetError), match=said):
            dataset_from(f"{where}?{wrong}", spec=SPEC)


def test_a_folder_says_itself_what_it_is(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/pics/{}.png", "s/drawn/{}.png", encode=lambda ids: np.where(ids == 2, 77, ids))
    declared = 'layout = "csv"\n'
    (tmp_path / "s" / "dataset.toml").write_text('labels = "../drawn"\n[map]\n77 = "box"\n')
    (tmp_path / "s" / "dataset.toml").rename(tmp_path / "s" / "pics" / "dataset.toml")
    same(dataset_from(str(tmp_path / "s" / "pics"), spec=SPEC, need_labels=True), drawn)
    for text, said in (
        (declared.replace("csv", "cvs"), "layout is one of voc, cityscapes"),
        ("masks = 1.5\n", "masks is a text or a whole number"),
        ("x = \n", "cannot be read as TOML"),
        ('maks = "ids"\n', "dataset.toml of folders://FOLDER has no parameter maks"),
    ):
        (tmp_path / "s" / "pics" / "dataset.toml").write_text(text)
        with pytest.raises((UsageError, DatasetError), match=said):
            dataset_from(str(tmp_path / "s" / "pics"), spec=SPEC)


def pascal(root: Path, count: int = 4) -> list[np.ndarray]:
    """A VOC folder: disc is an aeroplane (1), box a bicycle (2), with a border of 255."""
    drawn = []
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    for index in range(count):
        image, ids = sample(index)
        edge = cv2.dilate(ids, np.ones((3, 3), np.uint8)) != cv2.erode(ids, np.ones((3, 3), np.uint8))
        ids = np.where(edge, 255, ids).astype(np.uint8)
        write(root / "JPEGImages" / f"2007_{index}.jpg", image)
        as_palette(root / "SegmentationClass" / f"2007_{index}.png", ids)
        drawn.append(ids)
    for name, part in (("train", range(count - 1)), ("val", range(count - 1, count))):
        text = "".join(f"2007_{index}\n" for index in part)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    return drawn


def test_pascal_voc(tmp_path: Path) -> None:
    drawn = pascal(tmp_path / "VOC2012")
    names = "map=aeroplane:disc,bicycle:box&rest=ignore"
    same(dataset_from(f"voc://{tmp_path}/VOC2012?set=train&{names}", spec=SPEC, need_labels=True), drawn[:3])
    same(dataset_from(f"data://{tmp_path}/VOC2012?set=val&{names}", spec=SPEC, need_labels=True), drawn[3:])
    with pytest.raises(UsageError, match="lists several sets: found train.txt, val.txt; say which with `set`"):
        dataset_from(str(tmp_path / "VOC2012"), spec=SPEC)
    with pytest.raises(DatasetError, match=r"test.txt does not exist; `set` is one of train, val"):
        dataset_from(f"voc://{tmp_path}/VOC2012?set=test", spec=SPEC)
    (tmp_path / "VOC2012" / "SegmentationClass" / "2007_1.png").unlink()
    with pytest.raises(DatasetError, match="1 images of .* have no mask: 2007_1; list only"):
        dataset_from(f"voc://{tmp_path}/VOC2012?set=train&{names}", spec=SPEC, need_labels=True)


def test_what_cvat_exports_as_voc(tmp_path: Path) -> None:
    """Its masks are of colours, which ``labelmap.txt`` lists."""
    colours = np.array([[0, 0, 0], [4, 5, 6], [7, 8, 9]], np.uint8)
    drawn = []
    for index in range(2):
        image, ids = sample(index)
        write(tmp_path / "JPEGImages" / f"{index}.png", image)
        write(tmp_path / "SegmentationClass" / f"{index}.png", colours[ids][..., ::-1])
        drawn.append(ids)
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndisc:4,5,6::\nbox:7,8,9::\n"
    )
    same(dataset_from(str(tmp_path), spec=SPEC), drawn)
    (tmp_path / "labelmap.txt").write_text("background:0,0::\n")
    with pytest.raises(DatasetError, match="labelmap.txt, line 1: .* is not NAME:R,G,B::"):
        dataset_from(str(tmp_path), spec=SPEC)


def test_cityscapes(tmp_path: Path) -> None:
    spec = ModelSpec(("road", "car"), ((0, 0, 0), (1, 1, 1)), SIZE_HW)
    own = np.array([7, 26, 29], np.uint8)  # road, car, caravan
    drawn = []
    for index, town in enumerate(("aachen", "aachen", "ulm")):
        image, ids = sample(index)
        name = f"{town}_000000_00001{index}"
        write(tmp_path / "leftImg8bit" / "train" / town / f"{name}_leftImg8bit.png", image)
        write(tmp_path / "gtFine" / "train" / town / f"{name}_gtFine_labelIds.png", own[ids])
        drawn.append(np.where(ids == 2, IGNORE_ID, ids))
    with pytest.raises(UsageError, match="17 classes of the data are none of the model's .*: sidewalk, building"):
        dataset_from(str(tmp_path), spec=spec)
    data = opened(f"cityscapes://{tmp_path}?rest=ignore&set=train", spec=spec, need_labels=True)
    same(data, drawn)
    assert data.groups == ["aachen", "aachen", "ulm"]
    with pytest.raises(DatasetError, match="3 images have no labelTrainIds in .*gtFine: aachen"):
        opened(f"cityscapes://{tmp_path}?rest=ignore&ids=labelTrainIds", spec=spec, need_labels=True)


def test_a_table_of_pairs(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("a/{}.png", "b/m{}.png")
    table = tmp_path / "pairs.csv"
    rows = [f"a/{index}.png;b/m{index}.png;drive{index % 2}\n" for index in range(4)]
    table.write_text("image;mask;group\n" + "".join(rows), encoding="utf-16")
    data = opened(str(table), spec=SPEC, need_labels=True)
    same(data, drawn)
    assert data.groups == ["drive0", "drive1"] * 2
    for text, said in (
        ("image,mask\na/0.png,b/m0.png\nx.png,b/m1.png\na/2.png,y.png\n", r"2 files of .* are missing: .*x.png, .*y.p"),
        ("a/0.png,b/m0.png\n", "has the columns a/0.png, b/m0.png; its first line is image,mask"),
        ("image,mask\na/0.png\na/1.png\n", "2 rows of .* have not the 2 cells of the first: line 2, line 3"),
        ("image,mask\na/0.png,\na/1.png,b/m1.png\n", "1 rows of .* have no mask"),
        ("", "is empty; its first line is image,mask"),
        ("image,mask\n\n# one\na/0.png\n", "1 rows of .* first: line 4"),
        (
            "image,mask\na/0.png,b/m0.png\na/1.png,b/m1.png\n./a/0.png,b/m2.png\n",
            r"1 images of .* are in several rows: 0.png \(lines 2, 4\)",
        ),
    ):
        table.write_text(text)
        with pytest.raises(DatasetError, match=said):
            opened(str(table), spec=SPEC, need_labels=True)


def test_a_table_reads_what_people_and_windows_write(tmp_path: Path, laid_out: Lay) -> None:
    """A comment is no picture, and a picture is no comment; a backslash in a name of its own stays one."""
    drawn = laid_out("a/{}.png", "b/m{}.png")
    (tmp_path / "a" / "0.png").rename(tmp_path / "#0.png")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a\\1.png")
    table = tmp_path / "pairs.csv"
    rows = ["# made by hand", "image,mask", "#0.png,b\\m0.png", "#a/9.png,b/m9.png", r"a\1.png,b\m1.png"]
    table.write_text("\r\n".join([*rows, r"a\2.png,.\b\m2.png", "", "# the end, really", "a/3.png,b/m3.png"]))
    same(opened(str(table), spec=SPEC, need_labels=True), drawn)


def coco_of(root: Path, count: int = 3, form: str = "polygons") -> tuple[Path, list[np.ndarray]]:
    """A COCO file as its own tools write it; category 5 is the disc, 9 the box."""
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools encodes the masks")
    content: dict[str, Any] = {"categories": [{"id": 5, "name": "disc"}, {"id": 9, "name": "box"}]}
    content.update(images=[], annotations=[])
    drawn = []
    for index in range(count):
        image, ids = sample(index)
        write(root / "images" / f"{index}.jpg", image)
        content["images"].append({"id": 100 + index, "file_name": f"{index}.jpg", "height": 48, "width": 64})
        expected = np.zeros_like(ids)
        for category, kind in ((9, 2), (5, 1)):
            encoded = tools.encode(np.asfortranarray((ids == kind).astype(np.uint8)))
            segmentation: Any = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            if form == "polygons":
                outlines, _ = cv2.findContours((ids == kind).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
                segmentation = [(one.reshape(-1) + 0.5).tolist() for one in outlines]
                encoded = tools.merge(tools.frPyObjects(segmentation, 48, 64))
            elif form == "counts":
                flat = (ids == kind).ravel(order="F")
                edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]))).tolist()
                segmentation["counts"] = np.diff([0, *edges, flat.size]).tolist()
            expected[tools.decode(encoded) > 0] = kind
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": 100 + index, "category_id": category,
                 "segmentation": segmentation, "iscrowd": int(form != "polygons")}
            )  # fmt: skip
        drawn.append(expected)
    path = root / "annotations" / "instances_val.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path, drawn


@pytest.mark.parametrize("form", ["polygons", "rle", "counts"])
def test_coco_as_its_own_tools_decode_it(tmp_path: Path, form: str) -> None:
    path, drawn = coco_of(tmp_path, form=form)
    for where in (str(path), str(tmp_path), f"coco://{path}?images=../images", f"coco://{tmp_path}"):
        same(dataset_from(where, spec=SPEC, need_labels=True), drawn)
    two = ModelSpec(("disc", "box"), ((0, 0, 0), (1, 1, 1)), SIZE_HW)
    with pytest.raises(UsageError, match="pixels without annotation are; pass unlabelled=CLASS"):
        dataset_from(str(path), spec=two)
    expected = [np.where(ids == 0, IGNORE_ID, ids - 1) for ids in drawn]
    same(dataset_from(f"coco://{path}?unlabelled=ignore", spec=two), expected)


def test_broken_coco_files_are_one_line(tmp_path: Path) -> None:
    path, _ = coco_of(tmp_path)
    good = json.loads(path.read_text())
    with pytest.raises(DatasetError, match="3 images of instances_val.json are missing: .*say where they are with"):
        dataset_from(f"coco://{path}?images=.", spec=SPEC)

    def broken(change: Callable[[dict[str, Any]], object]) -> str:
        content = json.loads(json.dumps(good))
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises((DatasetError, ImageError, UsageError)) as told:
            dataset_from(f"coco://{path}", spec=SPEC)[0]
        return str(told.value)

    def of_shape(segmentation: object) -> str:
        return broken(lambda c: c["annotations"][0].update(segmentation=segmentation))

    of_first = "annotation 0 of 0.jpg: its segmentation is neither polygons nor run lengths of the picture"
    assert of_first in of_shape([[1, 2, 3]])
    assert of_first in of_shape({"size": [48, 64], "counts": "0~"})
    assert "a polygon that reaches to 1e+09" in of_shape([[0, 0, 9, 0, 1e9, 9]])
    assert "run lengths of 5x5" in of_shape({"size": [5, 5], "counts": [25]})
    assert "cover 4 of 3072 pixels" in of_shape({"size": [48, 64], "counts": [4]})
    assert 'instances_val.json: {"id": 5} has no text as name' in broken(lambda c: c["categories"][0].pop("name"))
    assert "has no text as file_name" in broken(lambda c: c["images"][0].pop("file_name"))
    assert "has no whole number as image_id" in broken(lambda c: c["annotations"][0].update(image_id=[1]))
    assert "an image is said to be 0x48" in broken(lambda c: c["images"][0].update(width=0))
    assert "has the id 6, which its data" in broken(lambda c: c["annotations"][0].update(category_id=6))
    assert "it has no lists images, categories" in broken(lambda c: c.pop("categories"))
    path.write_text("{")
    with pytest.raises(DatasetError, match="cannot be read as JSON"):
        dataset_from(f"coco://{path}", spec=SPEC)


def test_polygons_and_run_lengths_are_those_of_pycocotools() -> None:
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is what it is compared with")
    rng = np.random.default_rng(0)
    for number in range(200):
        height, width = (int(one) for one in rng.integers(1, 80, 2))
        points = rng.random((int(rng.integers(3, 12)), 2)) * (width, height) * 1.2 - 0.1 * width
        points = np.round(points) if number % 3 else points
        encoded = tools.frPyObjects([points.ravel().tolist()], height, width)[0]
        expected = tools.decode(encoded).astype(bool)
        np.testing.assert_array_equal(polygon_mask(points.ravel().tolist(), (height, width)), expected)
        counts = runs_of_text(encoded["counts"].decode())
        np.testing.assert_array_equal(runs_mask(counts, (height, width)), expected)


def test_coco_panoptic(tmp_path: Path) -> None:
    kinds = {0: "background", 5: "disc", 9: "box"}
    content: dict[str, Any] = {"categories": [{"id": own, "name": name} for own, name in kinds.items()]}
    content.update(images=[], annotations=[])
    drawn = []
    for index in range(2):
        image, ids = sample(index)
        write(tmp_path / "val" / f"{index}.jpg", image)
        segments = np.array([70000, 300, 2])[ids]  # of background, disc, box
        segments[0, :5] = 0  # void
        colours = np.stack([segments & 255, segments >> 8 & 255, segments >> 16], -1).astype(np.uint8)
        write(tmp_path / "annotations" / "panoptic_val" / f"{index}.png", colours[..., ::-1])
        content["images"].append({"id": index, "file_name": f"{index}.jpg"})
        info = [{"id": own, "category_id": kind} for own, kind in ((70000, 0), (300, 5), (2, 9))]
        content["annotations"].append({"image_id": index, "file_name": f"{index}.png", "segments_info": info})
        drawn.append(np.where(segments == 0, IGNORE_ID, ids))
    path = tmp_path / "annotations" / "panoptic_val.json"
    path.write_text(json.dumps(content))
    for where in (str(path), str(tmp_path), f"coco-panoptic://{path}"):
        same(dataset_from(where, spec=SPEC, need_labels=True), drawn)
    content["annotations"][0]["segments_info"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ImageError, match=r"0.png has 1 colours that are no class, in 160 pixels \(2 0 0\)"):
        dataset_from(str(path), spec=SPEC)[0]


def yolo_of(root: Path, names: str = "names: [disc, box]\n") -> list[np.ndarray]:
    drawn = []
    for index in range(3):
        image, ids = sample(index)
        write(root / "images" / "train" / f"{index}.jpg", image)
        lines, expected = [], np.zeros_like(ids)
        for kind in (2, 1):
            outlines, _ = cv2.findContours((ids == kind).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            for one in outlines:
                points = (one.reshape(-1, 2) + 0.5) / (64, 48)
                lines.append(" ".join([str(kind - 1), *(f"{value:.6f}" for value in points.ravel())]))
                rounded = np.round(points, 6) * (64, 48)
                expected[polygon_mask(rounded.ravel().tolist(), SIZE_HW)] = kind
        drawn.append(expected)
        (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (root / "labels" / "train" / f"{index}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\n{names}nc: 2\n")
    return drawn


@pytest.mark.parametrize(
    "names",
    [
        "names: [disc, box]\n",
        "names: ['disc', \"box\"]  # two\n",
        "names:\n  0: disc\n  1: box\n",
        "names:\n- disc\n- box\n",
        "names: {0: disc, 1: box}\r\n",
    ],
)
def test_yolo(names: str, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML says what the file means")
    told = yaml.safe_load(names.replace("\r", ""))["names"]
    assert list(told.values() if isinstance(told, dict) else told) == ["disc", "box"]
    drawn = yolo_of(tmp_path, names)
    for where in (str(tmp_path), f"yolo://{tmp_path}?set=train"):
        same(dataset_from(where, spec=SPEC, need_labels=True), drawn)
    (tmp_path / "labels" / "train" / "1.txt").unlink()
    assert not masks_of(dataset_from(str(tmp_path), spec=SPEC))[1].any(), "an image without a file has no objects"


def test_broken_yolo_files_are_one_line(tmp_path: Path) -> None:
    yolo_of(tmp_path)
    label = tmp_path / "labels" / "train" / "0.txt"
    for text, said in (
        ("0 0.5 0.5 0.1 0.1", "line 1 is a box; a mask needs polygons"),
        ("\n0 0.1 0.1 0.2 0.2 0.3", "line 2 is no polygon of three or more points"),
        ("0 1 1 20 20 30 1", "line 1 is no polygon of three or more points between 0 and 1"),
        ("disc 0.1 0.1", "line 1: 'disc 0.1 0.1' is not CLASS x y"),
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", "has the id 7, which its data set does not list"),
    ):
        label.write_text(text)
        with pytest.raises(ImageError, match=said):
            dataset_from(str(tmp_path), spec=SPEC)[0]
    (tmp_path / "data.yaml").write_text("names: *anchor\n")
    with pytest.raises(DatasetError, match="data.yaml has no list of names that is read"):
        dataset_from(str(tmp_path), spec=SPEC)
    with pytest.raises(DatasetError, match="`set` is one of train"):
        dataset_from(f"yolo://{tmp_path}?set=val", spec=SPEC)


def test_the_layout_of_a_path_is_seen_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist; pass a folder of images, or one of voc://FOLDER"):
        layout_of(tmp_path / "nowhere")
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"x\.bin has no layout that is known"):
        layout_of(tmp_path / "x.bin")
    yolo_of(tmp_path)
    pascal(tmp_path)
    with pytest.raises(UsageError, match=f"could be voc or yolo; say which: voc://{re.escape(str(tmp_path))}"):
        layout_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert absolute_data("voc://x?set=a") == f"voc://{tmp_path}/x?set=a" and absolute_data("7") == f"{tmp_path}/7"
    assert absolute_data("data://x") == f"data://{tmp_path}/x" and not is_of_layout("demo://street")
    assert with_parameters("x", part="val") == "data://x?part=val"
    assert with_parameters("voc://x?part=val&set=a", part="train") == "voc://x?set=a&part=train"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_described(name: str) -> None:
    layout = LAYOUTS[name]
    assert layout.shown.startswith(f"{name}://") and layout.is_path and layout.help.endswith(".")
    assert {"map", "rest", "ignore", "split", "part"} <= set(layout.parameters)
