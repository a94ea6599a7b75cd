"""Annotations that overlap: whole for a multi-label spec, small over large else, from every layout that has them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.app.data import Head, dataset_from, spec_from
from edgeseg.app.data_check import check_data
from edgeseg.app.data_config import DataCheckConfig
from edgeseg.data.check import shares
from edgeseg.data.layouts import layout_of
from edgeseg.data.opening import classes_of
from edgeseg.errors import DatasetError, ImageError, UsageError
from edgeseg.spec import IGNORE_ID, ModelSpec
from tests.data.conftest import SIZE_HW, SPEC, sample, write

SEVERAL = dataclasses.replace(SPEC, mode="multilabel")
DISC, BOX = np.zeros(SIZE_HW, np.uint8), np.zeros(SIZE_HW, np.uint8)
cv2.circle(DISC, (20, 20), 9, 1, -1)
BOX[15:40, 10:50] = 1


def planes_of(where: str, spec: ModelSpec = SEVERAL) -> list[np.ndarray]:
    data = dataset_from(where, spec=spec, need_labels=True)
    found = [data[index].label for index in range(len(data))]
    assert all(one is not None and one.dtype == np.uint8 for one in found)
    return [one for one in found if one is not None]


def lay(folder: Path, masks: dict[str, np.ndarray], name: str = "a") -> None:
    write(folder / "images" / f"{name}.png", sample(0)[0])
    for kind, mask in masks.items():
        write(folder / "masks" / kind / f"{name}.png", mask)


def test_a_folder_of_masks_per_class_keeps_what_overlaps(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC * 255, "Box": BOX})
    assert layout_of(tmp_path) == "class-folders" and classes_of(str(tmp_path)) == ("background", "Box", "disc")
    np.testing.assert_array_equal(planes_of(str(tmp_path)), [np.stack([DISC, BOX])])
    flat = planes_of(str(tmp_path), SPEC)[0]
    np.testing.assert_array_equal(flat, np.where(DISC == 1, 1, 2 * BOX), "the disc is the smaller one")


def test_a_mask_that_is_not_there_is_empty_and_said_but_an_image_has_one(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC, "box": BOX})
    lay(tmp_path, {"disc": 0 * DISC}, "b")
    data = dataset_from(str(tmp_path), spec=SEVERAL, need_labels=True)
    assert data.description.endswith("(2 folders of masks, 1 masks that are not there count as empty)")
    assert data[1].label is not None and not data[1].label.any()
    lay(tmp_path, {}, "c")
    with pytest.raises(DatasetError, match="1 images have no mask in any folder of .*: c.png; write one that is all 0"):
        dataset_from(str(tmp_path), spec=SEVERAL, need_labels=True)


def test_masks_of_other_values_sizes_and_places_are_told(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC + 2 * BOX, "box": BOX})
    with pytest.raises(ImageError, match="a.png holds the values 0, 1, 2, 3; a binary mask holds 0 and one more"):
        planes_of(str(tmp_path))
    lay(tmp_path, {"disc": DISC[:30]})
    with pytest.raises(ImageError, match="masks must have the size of their images"):
        planes_of(str(tmp_path))
    with pytest.raises(UsageError, match="masks is binary or threshold, got 'ids'"):
        planes_of(f"class-folders://{tmp_path}?masks=ids")
    with pytest.raises(DatasetError, match="holds no folder of masks for each class"):
        planes_of(f"class-folders://{tmp_path}/images")


def test_a_folder_whose_masks_are_of_no_image_is_told(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC, "box": BOX})
    (tmp_path / "masks" / "box" / "a.png").rename(tmp_path / "masks" / "box" / "box_a.png")
    with pytest.raises(DatasetError, match=r"1 folders of .* hold masks, but none of an image: box \(box_a.png\)"):
        planes_of(str(tmp_path))


def test_one_folder_of_masks_is_no_class_unless_it_is_said(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC})
    assert layout_of(tmp_path) == "folders"
    found = planes_of(f"class-folders://{tmp_path}", spec_from("background,disc", "64x48", None, head=Head("binary")))
    np.testing.assert_array_equal(found, [DISC])


def coco(folder: Path) -> Path:
    write(folder / "a.png", sample(0)[0])
    box, disc = [10, 15, 50, 15, 50, 40, 10, 40], [20, 11, 29, 20, 20, 29, 11, 20]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "box"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "segmentation": [box]},
            {"id": 2, "image_id": 1, "category_id": 7, "segmentation": [disc]},
        ],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def test_polygons_of_coco_and_yolo_stay_whole(tmp_path: Path) -> None:
    path = coco(tmp_path)
    disc, box = planes_of(f"coco://{path}")[0]
    both = (disc == 1) & (box == 1)
    assert both.sum() > 50 and (box == 1).sum() == BOX.sum() and both.sum() < disc.sum()
    flat = planes_of(f"coco://{path}", SPEC)[0]
    np.testing.assert_array_equal(flat, np.where(disc == 1, 1, 2 * box))
    yolo = tmp_path / "yolo"
    write(yolo / "images" / "a.png", sample(0)[0])
    (yolo / "labels").mkdir()
    (yolo / "data.yaml").write_text("names: [disc, box]\n")
    width, height = SIZE_HW[::-1]
    lines = []
    for kind, points in ((1, [10, 15, 50, 15, 50, 40, 10, 40]), (0, [20, 11, 29, 20, 20, 29, 11, 20])):
        lines.append(f"{kind} " + " ".join(str(p / (height if i % 2 else width)) for i, p in enumerate(points)))
    (yolo / "labels" / "a.txt").write_text("\n".join(lines))
    np.testing.assert_array_equal(planes_of(f"yolo://{yolo}")[0], [disc, box])


def test_a_map_merges_drops_and_leaves_out(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC, "box": BOX, "dust": np.roll(DISC, 20, 1)})
    dust = np.roll(DISC, 20, 1)
    with pytest.raises(UsageError, match="1 classes of the data are none of the model's .*: dust"):
        planes_of(str(tmp_path))
    np.testing.assert_array_equal(planes_of(f"data://{tmp_path}?map=dust:disc")[0], [DISC | dust, BOX])
    np.testing.assert_array_equal(planes_of(f"data://{tmp_path}?map=dust:background")[0], [DISC, BOX])
    void = planes_of(f"data://{tmp_path}?map=dust:ignore")[0]
    np.testing.assert_array_equal(void, np.where(dust == 1, IGNORE_ID, np.stack([DISC, BOX])))
    outside = planes_of(f"data://{tmp_path}?map=dust:disc&unlabelled=ignore")[0]
    covered = (DISC | BOX | dust) == 1
    np.testing.assert_array_equal(outside, np.where(covered, np.stack([DISC | dust, BOX]), IGNORE_ID))


def test_windows_of_planes_are_those_of_ids(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC, "box": BOX})
    windows = planes_of(f"data://{tmp_path}?windows=40x40")
    assert len(windows) == 4 and all(one.shape == (2, 40, 40) for one in windows)
    np.testing.assert_array_equal(windows[0], np.stack([DISC, BOX])[:, :40, :40])
    whole = planes_of(f"data://{tmp_path}?windows=70x50")[0]
    np.testing.assert_array_equal(whole[:, : SIZE_HW[0], : SIZE_HW[1]], np.stack([DISC, BOX]))
    assert (whole[:, SIZE_HW[0] :] == IGNORE_ID).all() and (whole[:, :, SIZE_HW[1] :] == IGNORE_ID).all()


def test_class_0_of_sigmoids_has_to_be_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs class 0 for pixels without a label, got disc, box; .*background,disc"):
        spec_from("disc,box", "64x48", None, head=Head("multilabel"))
    with pytest.raises(UsageError, match="got 'disc' alone; list it in front: background,disc"):
        spec_from("disc", "64x48", None, head=Head("binary"))
    (tmp_path / "names.txt").write_text("disc\n")
    with pytest.raises(UsageError, match="got 'disc' alone"):
        spec_from(str(tmp_path / "names.txt"), "64x48", None, head=Head("binary"))
    spec = spec_from("None,disc", "64x48", None, head=Head("multilabel", 0.3))
    assert (spec.classes, spec.threshold, spec.outputs) == (("None", "disc"), 0.3, 1)


def test_the_check_counts_a_pixel_for_every_label(tmp_path: Path) -> None:
    lay(tmp_path, {"disc": DISC, "box": BOX})
    lay(tmp_path, {"disc": 0 * DISC, "box": BOX}, "b")
    config = DataCheckConfig(
        (str(tmp_path),), classes="background,disc,box", mode="multilabel", sheet=tmp_path / "s.png"
    )
    (report,) = check_data(config).sets
    neither = int(((DISC | BOX) == 0).sum())
    assert report.pixels.tolist() == [neither + int((BOX == 0).sum()), int(DISC.sum()), 2 * int(BOX.sum())]
    assert report.labelled == 2 * DISC.size and report.images_with.tolist() == [2, 1, 2] and not report.problems
    assert shares(report)[2] == pytest.approx(BOX.mean()) and (tmp_path / "s.png").is_file()
    told = report.to_json(SEVERAL)["classes"]
    assert told["box"]["share"] == pytest.approx(BOX.mean()) and told["disc"]["images"] == 1
