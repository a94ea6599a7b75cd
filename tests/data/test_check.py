"""``edgeseg data check``: what it counts, finds and lists; and bad data, whoever meets it, in one line each."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from edgeseg.app.data import dataset_from
from edgeseg.app.data_check import DataReport, check_data
from edgeseg.app.data_config import DataCheckConfig
from edgeseg.data.findings import FINDINGS, scenes
from edgeseg.data.sheet import contact_sheet, evenly
from edgeseg.data.split import prefix_of
from edgeseg.errors import EdgesegError, ImageError, UsageError
from edgeseg.images import read_image, read_mask, write_png
from edgeseg.labels import label_counts
from edgeseg.runtime.sinks.own import own_png
from tests.cli.test_cli import edgeseg
from tests.data.conftest import SPEC, sample, write
from tests.data.test_layouts import yolo_of
from tests.picture_writers import png

CLASSES = "background,disc,box"
Lay = Callable[..., "list[np.ndarray]"]


def checked(*data: object, val: object = None, **more: Any) -> DataReport:
    names = tuple(str(one) for one in data)
    return check_data(DataCheckConfig(names, None if val is None else str(val), CLASSES, **more))


def kinds(report: DataReport) -> set[str]:
    return {one.kind for one in report.findings}


def text(report: DataReport, kind: str) -> str:
    return "\n".join(one.text for one in report.findings if one.kind == kind)


def test_everything_is_counted(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("train/{}.png", "trainannot/{}.png", count=12)
    report = checked(tmp_path / "train")
    (one,) = report.sets
    assert (one.role, one.images, one.masks, one.problems) == ("training", 12, 12, ())
    assert one.sizes == {"64x48": 12} and one.kinds == {"PNG": 12} and one.ignored == 0
    assert one.pixels.tolist() == [sum(int((ids == kind).sum()) for ids in drawn) for kind in range(3)]
    assert one.images_with.tolist() == [12, 12, 12] and not report.findings and report.sheet is None


def mask(array: np.ndarray, suffix: str = ".png") -> Callable[[Path], object]:
    """What puts another mask in the place of 5."""

    def change(s: Path) -> None:
        (s / "masks" / "5.png").unlink()
        write(s / "masks" / f"5{suffix}", array)

    return change


def cut(kind: str, size: int) -> Callable[[Path], object]:
    """What cuts an image or mask off."""
    return lambda s: (s / kind / "5.png").write_bytes((s / kind / "5.png").read_bytes()[:size])


def content(kind: str, data: bytes) -> Callable[[Path], object]:
    return lambda s: (s / kind / "5.png").write_bytes(data)


def folder_in_its_place(s: Path) -> None:
    (s / "masks" / "5.png").unlink()
    (s / "masks" / "5.png").mkdir()


def pages(s: Path) -> None:
    (s / "images" / "5.png").unlink()
    cv2.imwritemulti(str(s / "images" / "5.tif"), [sample(5)[0]] * 2)


def flat(shape: tuple[int, ...], value: object, kind: Any = np.uint8) -> np.ndarray:
    return np.full(shape, value, kind)


JPEG = cv2.imencode(".jpg", sample(5)[1])[1].tobytes()
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing mask": (lambda s: (s / "masks" / "5.png").unlink(), "png has no mask"),
    "RGBA mask": (mask(flat((48, 64, 4), (1, 2, 3, 9))), "(48, 64, 4) uint8; a mask has one channel"),
    "colour mask": (mask(flat((48, 64, 3), (1, 2, 3))), "(48, 64, 3) uint8; a mask has one channel"),
    "16-bit mask": (mask(flat((48, 64), 300, np.uint16)), "holds values of 300 to 300"),
    "JPEG under PNG's name": (content("masks", JPEG), "is a JPEG, whose compression changes class ids"),
    "id out of range": (mask(flat((48, 64), 7)), "has class id 7, but there are 3 classes"),
    "other size": (mask(flat((20, 30), 0)), "is 30x20 but its image is 64x48"),
    "float mask": (mask(flat((48, 64), 0, np.float32), ".tiff"), "float32; a mask has one channel of whole numbers"),
    "empty file": (content("images", b""), "it is empty (truncated to 0 bytes)"),
    "text": (content("images", b"hello"), "cannot be decoded as an image"),
    "cut image": (cut("images", 900), "is truncated (900 bytes"),
    "cut mask": (cut("masks", 90), "is truncated (90 bytes"),
    "12 bits in 16": (
        lambda s: write(s / "images" / "5.png", sample(5)[0].astype(np.uint16) * 16),
        "as of a 12-bit camera",
    ),
    "a folder": (folder_in_its_place, "is no file"),
    "several pages": (pages, "is a TIFF of 2 pages"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_in_the_middle_is_one_line(name: str, tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12)
    change, said = BAD[name]
    change(tmp_path / "s")
    (report,) = checked(tmp_path / "s").sets
    assert len(report.problems) == 1 and said in report.problems[0].what, report.problems
    assert "\n" not in report.problems[0].what and "/5." in report.problems[0].file
    assert (report.images, report.masks) == (12, 11)


def test_all_bad_files_are_listed_in_one_go(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=40)
    for number, (change, _) in enumerate(BAD.values()):
        folder = tmp_path / "part"
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / kind / f"{number}.png").rename(folder / kind / "5.png")
        change(folder)
        for kind in ("images", "masks"):
            for path in (folder / kind).iterdir():
                path.rename(tmp_path / "s" / kind / f"{number}{path.suffix}")
    (tmp_path / "s/masks/8.png").write_bytes(b"")  # beside image 8, which is empty too
    report = checked(tmp_path / "s")
    assert len(report.sets[0].problems) == len(BAD) + 1 and report.problems == len(BAD) + 1
    for _, said in BAD.values():
        assert any(said in one.what for one in report.sets[0].problems), said
    done = edgeseg("data", "check", "s", "--classes", CLASSES, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count("cannot be used (training): ") == len(BAD) + 1
    assert done.stderr == f"edgeseg: {len(BAD) + 1} files of 40 images cannot be used; all are listed above\n"
    told = json.loads(edgeseg("data", "check", "s", "--classes", CLASSES, "--json", cwd=tmp_path).stdout)
    assert len(told["sets"][0]["problems"]) == len(BAD) + 1
    with pytest.raises(ImageError) as raised:
        (tmp_path / "s/masks/0.png").write_bytes((tmp_path / "s/masks/39.png").read_bytes())
        label_counts(dataset_from(str(tmp_path / "s"), spec=SPEC), SPEC)
    said = str(raised.value)
    assert said.startswith(f"{len(BAD) - 1} of 40 images or their masks cannot be used: (1) ") and "\n" not in said
    assert f"({len(BAD) - 1}) " in said and said.endswith("('edgeseg data check' lists all)")


def test_duplicate_names_are_all_named(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png")
    for index in (1, 2):
        write(tmp_path / "s" / "images" / f"{index}.jpg", sample(index)[0])
    with pytest.raises(EdgesegError, match=r"1\.\w+ would share the mask .*1\.png, .*2\.\w+ would share the mask"):
        checked(tmp_path / "s")
    for index in (1, 2):
        (tmp_path / "s" / "images" / f"{index}.jpg").unlink()
        write(tmp_path / "s" / "masks" / f"{index}.bmp", sample(index)[1])
    with pytest.raises(EdgesegError, match=r"1\.\w+ and .*1\.\w+, .*2\.\w+ and .*2\.\w+ are masks of one image"):
        checked(tmp_path / "s")


def test_one_image_an_empty_class_and_a_wrong_class_count(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=1, encode=lambda ids: ids % 2)
    report = checked(tmp_path / "s")
    assert text(report, "few images").startswith("training has 1 image, too few")
    assert text(report, "empty class") == "no training mask holds box"
    two = check_data(DataCheckConfig((str(tmp_path / "s"),), None, "background,disc"))
    assert kinds(two) == {"few images"}
    with pytest.raises(UsageError, match="does not name its classes; pass `classes`"):
        check_data(DataCheckConfig((str(tmp_path / "s"),)))


def test_masks_of_0_and_255_are_told(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12, encode=lambda ids: (ids > 0).astype(np.uint8) * 255)
    told = check_data(DataCheckConfig((str(tmp_path / "s"),), None, "background,disc"))
    assert "12 of 12 training masks hold one class and 255" in text(told, "binary masks")
    told = check_data(DataCheckConfig((f"data://{tmp_path}/s?masks=binary",), None, "background,disc"))
    assert not told.findings


def street(folder: Path, name: str, drives: dict[str, range]) -> None:
    """Pictures of drives: what moves in one moves a little from picture to picture."""
    for drive, numbers in drives.items():
        for number in numbers:
            rng = np.random.default_rng(sum(map(ord, drive)))
            picture = cv2.resize(rng.integers(0, 256, (2, 10, 3), dtype=np.uint8), (400, 48))
            picture = np.ascontiguousarray(picture[:, number % 300 : number % 300 + 64])
            write(folder / name / f"{drive}_{number:05d}.png", picture)
            write(folder / f"{name}annot" / f"{drive}_{number:05d}.png", sample(0)[1])


@pytest.mark.parametrize("encoding", ["ids", "palette", "colours", "binary"])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_palettes_that_contradict_each_other_are_told(
    tmp_path: Path, laid_out: Lay, encoding: str, is_sorted: bool
) -> None:
    """A program that saves few colours sorts the entries of each file by itself."""
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png", count=10)
    colours = [(1, 2, 3), (9, 99, 9), (8, 8, 88)]
    for index, ids in enumerate(drawn):
        order = [1, 0, 2] if is_sorted and index == 7 else [0, 1, 2]
        ids = (ids > 0).astype(np.uint8) if encoding == "binary" else ids
        palette = bytes(channel for own in order for channel in colours[own]) + bytes(15)
        (tmp_path / "s" / "masks" / f"{index}.png").write_bytes(
            png(np.argsort(order).astype(np.uint8)[ids], 8, palette)
        )
    (tmp_path / "s" / "colours.txt").write_text("background 1 2 3\ndisc 9 99 9\nbox 8 8 88\n")
    report = checked(f"data://{tmp_path}/s?masks={encoding}{'&colours=colours.txt' if encoding == 'colours' else ''}")
    if is_sorted and encoding != "colours":
        assert "is background in 0.png and disc in 7.png" in text(report, "palettes")
    else:
        assert not text(report, "palettes") and report.sets[0].masks == 10


def test_a_broken_palette_and_an_ignored_id_are_no_contradiction(tmp_path: Path, laid_out: Lay) -> None:
    drawn = laid_out("s/images/{}.png", "s/masks/{}.png", count=10)
    for index, ids in enumerate(drawn):
        ids = np.where(ids == 2, 77, ids).astype(np.uint8) if index else ids
        palette = bytes([9, 9, 9, 1, 2, 3, 4, 5, 6] + 74 * [7, 7, 7] + [4, 5, 6])
        (tmp_path / "s" / "masks" / f"{index}.png").write_bytes(png(ids, 8, palette[:-1] if index == 5 else palette))
    report = checked(f"data://{tmp_path}/s?ignore=77")
    assert not text(report, "palettes") and not report.sets[0].problems


def test_leaks_between_training_and_validation(tmp_path: Path) -> None:
    street(tmp_path, "train", {"a": range(0, 300, 30), "b": range(0, 300, 30)})
    street(tmp_path, "val", {"b": range(121, 131)})
    report = checked(tmp_path / "train", val=tmp_path / "val")
    told = text(report, "one scene")
    assert "all 10 validation images are one scene (b, numbers 121-130" in told
    assert "10 training images are of it too" in told and "is 5 away from a validation image (median; least 1)" in told
    assert "validation images are nearly training images (first: b_00121.png is nearly b_00120.png" in text(
        report, "near duplicates"
    )
    (tmp_path / "val" / "b_00130.png").write_bytes((tmp_path / "train" / "a_00030.png").read_bytes())
    assert "1 of 10 validation images are training images too (first: b_00130.png is a_00030.png)" in text(
        checked(tmp_path / "train", val=tmp_path / "val"), "shared images"
    )
    (tmp_path / "train" / "a_00060.png").write_bytes((tmp_path / "train" / "a_00030.png").read_bytes())
    assert text(checked(tmp_path / "train"), "duplicates").startswith("1 training images are there more than once")
    split = checked(tmp_path / "train", split="by=prefix", fold="2/2")
    assert [one.images for one in split.sets] == [10, 10] and "one scene" in kinds(split)
    assert not text(split, "one scene").count("trained on") and "near duplicates" not in kinds(split)


def test_names_that_tell_no_drives_tell_no_scenes() -> None:
    def named(*stems: str) -> list[tuple[str, str]]:
        return [(stem, prefix_of(stem)) for stem in stems]

    assert not list(scenes(named("0001", "0002"), named("0003", "0004")))
    assert not list(scenes(named("frame1", "frame2"), named("frame3", "frame4")))
    assert not list(scenes(named("a_1", "b_1"), named("c_1")))
    (line,) = scenes(named("a_1", "b_1"), named("c_1", "c_2"))
    assert line.startswith("all 2 validation images are one scene (c, numbers 1-2): mIoU")
    first, second = scenes(named("a_1", "b_1", "b_9"), named("b_5", "c_2"))
    assert first.startswith("1 of 2 validation images are of drives that are trained on (b); mIoU")
    assert "is 4 away from a validation image (median; least 4)" in second
    for form in ("a_{}_leftImg8bit", "a_{}_v2", "a_mp4-{}_jpg.rf.0123456789abcdef", "a_2024-05-01_10-00-{}"):
        train, val = [form.format(20), form.format(21)], [form.format(56), form.format(57)]
        assert (
            "is 35 away from a validation image (median; least 35)"
            in list(scenes(named(*train, "b_1"), named(*val)))[-1]
        )


def test_other_findings(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12, encode=lambda ids: np.where(ids == 1, 0, ids))
    for index, shape in ((3, (48, 64)), (4, (64, 48)), (5, (64, 48))):
        picture = np.random.default_rng(index).integers(0, 65536, (*shape, 3), dtype=np.uint16)
        write(tmp_path / "s" / "images" / f"{index}.png", picture)
        mask = np.zeros(shape, np.uint8)
        mask[0, : 3 * (index == 3)] = 1
        write(tmp_path / "s" / "masks" / f"{index}.png", mask)
    report = checked(tmp_path / "s")
    assert kinds(report) == {"rare class", "several shapes", "deep images"} <= set(FINDINGS)
    assert text(report, "rare class").startswith("rare in training: disc (0.008 % in 1 images)")
    assert "images of 2 shapes" in text(report, "several shapes") and "48x64 (2)" in text(report, "several shapes")
    assert text(report, "deep images").startswith("3 training images have more than 8 bits")
    assert report.sets[0].kinds == {"PNG": 9, "PNG, 16 bits": 3}


def test_the_sheet_shows_the_masks(tmp_path: Path, laid_out: Lay) -> None:
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12)
    (tmp_path / "s/images/3.png").write_bytes(b"")
    report = checked(tmp_path / "s", sheet=tmp_path / "sheet.png", tiles=6)
    assert report.sheet == tmp_path / "sheet.png"
    sheet = read_image(report.sheet)
    picture, ids = sample(0)
    at = np.argwhere(ids == 1).mean(0) * 240 / 64
    tile = contact_sheet([("0", picture, ids)], report.spec)
    np.testing.assert_array_equal(sheet[: tile.shape[0] - 5, :480], tile[:-5, :480])
    top = tile.shape[0] - 4 - 180
    np.testing.assert_array_equal(
        tile[top + int(at[0]), 244 + int(at[1])], np.array([40, 200, 230]) // 2 + [28, 114, 28]
    )
    checked(tmp_path / "s", sheet=tmp_path / "sheet.png")  # its own is replaced
    (tmp_path / "notes.png").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.png exists and is no contact sheet of edgeseg"):
        checked(tmp_path / "s", sheet=tmp_path / "notes.png")
    assert evenly(3, 5) == [0, 1, 2] and evenly(100, 3) == [0, 50, 99] and evenly(0, 3) == []


@pytest.mark.parametrize("name", ["images/3.png", "masks/3.png", "link.png", "predicted.png", "holiday.png"])
def test_the_sheet_replaces_no_other_picture(tmp_path: Path, laid_out: Lay, name: str) -> None:
    """Nor a mask that edgeseg wrote, where it is part of the data."""
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12)
    write_png(tmp_path / "holiday.png", np.zeros((8, 8), np.uint8))
    mask = tmp_path / "s/masks/5.png"
    mask.write_bytes(own_png(read_mask(mask), mask))
    for link, target in (("predicted.png", mask), ("link.png", tmp_path / "s/images/4.png")):
        (tmp_path / link).symlink_to(target)
    path = tmp_path / name if (tmp_path / name).exists() else tmp_path / "s" / name
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is not replaced|would be overwritten"):
        checked(tmp_path / "s", sheet=path)
    assert path.read_bytes() == before


def test_a_full_disk_is_one_line(tmp_path: Path, laid_out: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may have 1000 bytes here, which ends a write as a full disk does."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # Python would leave cut modules in its cache
    resource = pytest.importorskip("resource", reason="limits of files are POSIX")
    laid_out("s/images/{}.png", "s/masks/{}.png", count=12)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    words = ("data", "check", "s", "--classes", CLASSES, "--sheet", "sheet.png")
    done = edgeseg(*words, cwd=tmp_path, preexec_fn=limited)
    assert done.returncode == 1 and done.stderr.startswith("edgeseg: ") and done.stderr.count("\n") == 1, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"s"}, "nothing is left behind"


def test_data_that_names_its_classes_needs_no_list(tmp_path: Path) -> None:
    yolo_of(tmp_path)
    done = edgeseg("data", "check", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("background", "disc", "box", "few images: training has 3 images"))


def test_camvids_validation_is_said_to_be_one_scene(camvid: Path) -> None:
    report = check_data(DataCheckConfig((str(camvid / "train"),), str(camvid / "val"), "camvid"))
    told = text(report, "one scene")
    assert "all 101 validation images are one scene (0016E5, numbers 7959-8159" in told
    assert "204 training images are of it too" in told and not report.problems


def test_rendered_images_are_looked_at_too() -> None:
    config = DataCheckConfig(("demo://street?frames=2&step=90&size=64x48",), "demo://street?frames=2&seed=5&size=64x48")
    report = check_data(config)
    assert report.spec.classes[0] == "sky" and report.problems == 0
    first, second = report.sets
    assert dict(first.kinds) == {"rendered": 2} and second.sizes == {"64x48": 2}
    assert int(first.pixels.sum()) == 2 * 64 * 48
    assert [one.kind for one in report.findings if one.kind == "one scene"]
