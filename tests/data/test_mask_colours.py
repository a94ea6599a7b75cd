"""Masks whose colours, palette or alpha say other things than their samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.app.data import dataset_from
from edgeseg.data.encodings import ENCODINGS
from edgeseg.errors import ImageError
from edgeseg.images import read_mask
from edgeseg.spec import ModelSpec
from tests.data.conftest import SIZE_HW, SPEC, sample, write
from tests.picture_writers import png

COLOURS = {colour: index for index, colour in enumerate(SPEC.palette)}
TWO = ModelSpec(("background", "disc"), ((0, 0, 0), (255, 255, 255)), SIZE_HW)


def sorted_anew(ids: np.ndarray, order: list[int], colours: list[tuple[int, int, int]], fill: int = 0) -> bytes:
    """A palette PNG that shows the colours of ids by entries in another order, filled up with one colour."""
    entries = np.argsort(order).astype(np.uint8)
    return png(entries[ids], 8, bytes(sum((list(colours[own]) for own in order), [])) + bytes([fill] * 3 * 5))


@given(order=st.permutations([0, 1, 2]), fill=st.sampled_from([0, 7]), only=st.sampled_from([None, 0, 1, 2]))
@settings(max_examples=40)
def test_a_palette_of_known_colours_is_read_by_colour(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], fill: int, only: int | None
) -> None:
    ids = sample(0)[1] if only is None else np.full((4, 4), only, np.uint8)
    path = tmp_path_factory.getbasetemp() / "sorted.png"
    path.write_bytes(sorted_anew(ids, order, list(SPEC.palette), fill))
    np.testing.assert_array_equal(read_mask(path, 3, COLOURS), ids)
    np.testing.assert_array_equal(ENCODINGS["ids"](path, 3, COLOURS), ids)
    np.testing.assert_array_equal(ENCODINGS["palette"](path, 3, COLOURS), np.argsort(order)[ids])


def test_a_palette_for_showing_and_one_that_is_filled_up_are_left_alone(tmp_path: Path) -> None:
    ids = sample(0)[1]
    ids[:3] = 255
    path = tmp_path / "m.png"
    for shown in ([SPEC.palette[own] for own in range(3)], [(1, 2, 3), (4, 5, 6), (7, 8, 9)]):
        path.write_bytes(png(ids, 8, bytes(sum(map(list, shown), [])) + bytes(3 * (256 - len(shown)))))
        np.testing.assert_array_equal(read_mask(path, 3, COLOURS), ids)


def test_known_colours_in_another_order_beside_unknown_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(png(sample(0)[1], 8, bytes([*SPEC.palette[1], *SPEC.palette[0], 8, 9, 7])))
    with pytest.raises(ImageError, match="entry 0 shows 255 0 0, the colour of id 1, beside colours of no class"):
        read_mask(path, 3, COLOURS)
    np.testing.assert_array_equal(read_mask(path, 3), sample(0)[1])


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


@pytest.mark.parametrize("layout", ["voc", "cvat", "folders", "csv"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_masks_that_a_program_sorted_anew_in_each_layout(tmp_path: Path, layout: str, order: list[int]) -> None:
    images, masks = {"voc": ("JPEGImages", "SegmentationClass"), "cvat": ("JPEGImages", "SegmentationClass")}.get(
        layout, ("images", "masks")
    )
    colours = VOC if layout in ("voc", "cvat") else list(SPEC.palette)
    drawn, rows = [], ["image,mask"]
    for index in range(3):
        image, ids = sample(index)
        write(tmp_path / images / f"{index}.png", image)
        write(tmp_path / masks / f"{index}.png", ids)
        (tmp_path / masks / f"{index}.png").write_bytes(sorted_anew(ids, order, colours))
        rows.append(f"{images}/{index}.png,{masks}/{index}.png")
        drawn.append(ids)
    where = str(tmp_path)
    if layout == "voc":
        where = f"voc://{tmp_path}?map=aeroplane:disc,bicycle:box&rest=ignore"
    elif layout == "cvat":
        (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nbox:0,128,0::\ndisc:128,0,0::\n")
    elif layout == "csv":
        (tmp_path / "pairs.csv").write_text("\n".join(rows))
        where = f"{tmp_path}/pairs.csv"
    data = dataset_from(where, spec=SPEC)
    for index, ids in enumerate(drawn):
        np.testing.assert_array_equal(data[index].label, ids)


def test_ids_that_a_map_renames_have_not_the_colours_of_the_classes(tmp_path: Path, laid_out: Callable) -> None:
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png")
    for index, ids in enumerate(drawn):
        (tmp_path / "s" / "masks" / f"{index}.png").write_bytes(sorted_anew(ids, [0, 2, 1], list(SPEC.palette)))
    data = dataset_from(f"data://{tmp_path}/s?map=1:box,2:disc", spec=SPEC)
    np.testing.assert_array_equal(data[0].label, drawn[0])


@pytest.mark.parametrize("entries", [[(200, 0, 0), (0, 0, 0)], [(0, 0, 0), (200, 0, 0)]])
def test_black_is_the_background_of_a_binary_palette(tmp_path: Path, entries: list[tuple[int, int, int]]) -> None:
    ids = (sample(0)[1] > 0).astype(np.uint8)
    path = tmp_path / "m.png"
    path.write_bytes(png(ids, 8, bytes(sum(map(list, entries), []))))
    if entries[0] == (0, 0, 0):
        np.testing.assert_array_equal(ENCODINGS["binary"](path, 2, {}), ids)
    else:
        with pytest.raises(ImageError, match="entry 1 shows 0 0 0, the colour of id 0"):
            ENCODINGS["binary"](path, 2, {})


def _with_alpha(path: Path, picture: np.ndarray, alpha: np.ndarray) -> None:
    """Write HxWx3 uint8 BGR and alpha, or grey and alpha where the name says LA."""
    from PIL import Image

    kept = io.BytesIO()
    shown = Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).convert("RGB")
    shown.putalpha(Image.fromarray(alpha))
    kind = {".png": "PNG", ".webp": "WEBP"}[path.suffix]
    shown.convert("LA" if "LA" in path.stem else "RGBA").save(kept, kind, **({} if kind == "PNG" else _EXACT))
    path.write_bytes(kept.getvalue())


_EXACT = {"lossless": True, "exact": True}


@pytest.mark.parametrize("name", ["RGBA.png", "LA.png", "RGBA.webp"])
@pytest.mark.parametrize("encoding", ["threshold", "colours"])
def test_alpha_that_says_more_than_the_colours_is_refused(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    ids = (sample(0)[1] > 0).astype(np.uint8)
    white, full, grey = np.full((*SIZE_HW, 3), 255, np.uint8), np.full(SIZE_HW, 255, np.uint8), ids * 255
    table = {(0, 0, 0): 0, (255, 255, 255): 1}
    drawn = np.dstack([grey] * 3)
    for alpha in (full, grey):  # opaque, or transparent where it is black and nowhere else
        _with_alpha(path, drawn, alpha)
        np.testing.assert_array_equal(ENCODINGS[encoding](path, 2, table), ids)
    erased = np.where(sample(0)[1] == 2, 0, 255).astype(np.uint8)
    for picture, alpha in ((white, grey), (drawn * 0, grey), (drawn, erased), (drawn, full - 1), (drawn, 255 - grey)):
        _with_alpha(path, picture, alpha)
        with pytest.raises(ImageError, match=r"is transparent in \d+ pixels, and its colours alone do not say"):
            ENCODINGS[encoding](path, 2, table)


@pytest.mark.parametrize("layout", ["class-folders", "voc", "coco-panoptic"])
def test_alpha_is_looked_at_in_each_layout_of_colours(tmp_path: Path, layout: str) -> None:
    image, ids = sample(0)
    erased = np.where(ids == 2, 0, 255).astype(np.uint8)
    if layout == "class-folders":
        write(tmp_path / "images" / "0.png", image)
        write(tmp_path / "masks" / "disc" / "0.png", ids)
        _with_alpha(tmp_path / "masks" / "disc" / "0.png", np.dstack([(ids > 0).astype(np.uint8) * 255] * 3), erased)
        where = f"class-folders://{tmp_path}?masks=threshold"
    elif layout == "voc":
        write(tmp_path / "JPEGImages" / "0.png", image)
        write(tmp_path / "SegmentationClass" / "0.png", ids)
        _with_alpha(tmp_path / "SegmentationClass" / "0.png", np.array(VOC, np.uint8)[ids][..., ::-1], erased)
        where = f"voc://{tmp_path}?map=aeroplane:disc,bicycle:box&rest=ignore"
    else:
        write(tmp_path / "0.png", image)
        write(tmp_path / "p" / "0.png", ids)
        _with_alpha(tmp_path / "p" / "0.png", np.dstack([ids * 0, ids * 0, ids]), erased)
        listed = '[{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}]'
        (tmp_path / "p.json").write_text(
            '{"images": [{"id": 1, "file_name": "0.png", "width": 64, "height": 48}], "categories": [{"id": 1, "name": '
            '"disc"}, {"id": 2, "name": "box"}], "annotations": [{"image_id": 1, "file_name": "0.png", '
            f'"segments_info": {listed}}}]}}'
        )
        where = f"coco-panoptic://{tmp_path}/p.json"
    with pytest.raises(ImageError, match=r"is transparent in \d+ pixels"):
        dataset_from(where, spec=SPEC)[0]


def test_a_colour_that_is_always_transparent_is_that_colour(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the file")
    ids = sample(0)[1]
    picture = image.fromarray(ids)
    picture.putpalette(sum(map(list, SPEC.palette), []))
    for transparent in (0, 2):
        picture.save(tmp_path / "m.png", transparency=transparent)
        np.testing.assert_array_equal(ENCODINGS["colours"](tmp_path / "m.png", 3, COLOURS), ids)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 100), (0, 127), (128, 255), (200, 255)])
def test_two_values_on_one_side_of_the_threshold_are_refused(tmp_path: Path, low: int, high: int) -> None:
    ids = (sample(0)[1] > 0).astype(np.uint8)
    write(tmp_path / "m.png", np.where(ids, high, low).astype(np.uint8))
    with pytest.raises(ImageError, match=f"holds {low} and {high}, on one side of the 128 of masks=threshold"):
        ENCODINGS["threshold"](tmp_path / "m.png", 2, {})


def test_masks_of_one_value_or_many_have_a_threshold(tmp_path: Path) -> None:
    """A picture without objects is black, and a map of probabilities has all values."""
    for values in (np.zeros(SIZE_HW), np.full(SIZE_HW, 255), np.arange(3072).reshape(SIZE_HW) % 90):
        write(tmp_path / "m.png", values.astype(np.uint8))
        np.testing.assert_array_equal(ENCODINGS["threshold"](tmp_path / "m.png", 2, {}), values >= 128)
    cv2.imwrite(str(tmp_path / "m.jpg"), np.arange(3072, dtype=np.uint8).reshape(SIZE_HW) % 2)
    assert not ENCODINGS["threshold"](tmp_path / "m.jpg", 2, {}).any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("layout", ["yolo", "coco without sizes", "coco"])
def test_polygons_prove_a_turn_only_with_a_size(tmp_path: Path, layout: str, orientation: int) -> None:
    """Where they are drawn at whatever size a picture has, any turn seems to fit."""
    from PIL import Image

    exif, kept = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image, _ = sample(0)
    Image.fromarray(image[..., ::-1].copy()).save(kept, "PNG", exif=exif)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(kept.getvalue())
    if layout == "yolo":
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.4\n")
        (tmp_path / "data.yaml").write_text("names: [disc]\n")
    else:
        height, width = SIZE_HW if orientation < 5 else SIZE_HW[::-1]
        size = f', "width": {width}, "height": {height}' if layout == "coco" else ""
        (tmp_path / "images" / "a.json").write_text(
            f'{{"images": [{{"id": 1, "file_name": "0.png"{size}}}], "categories": [{{"id": 1, "name": "disc"}}], '
            '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 20, 1, 20, 9]]}]}'
        )
    where = f"yolo://{tmp_path}" if layout == "yolo" else f"coco://{tmp_path}/images/a.json"
    data = dataset_from(where, spec=SPEC)
    if orientation == 1 or (layout == "coco" and orientation >= 5):
        assert data[0].label is not None and data[0].label.any()
    else:
        with pytest.raises(ImageError, match=f"EXIF orientation {orientation} and its mask has no size that tells"):
            data[0]
