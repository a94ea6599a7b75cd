"""``edgeseg predict``: what it writes, and what it refuses in one line."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from edgeseg.app.predict import open_predictor, predict
from edgeseg.app.predict_config import PredictConfig
from edgeseg.app.predict_files import folder_names
from edgeseg.bundle import Bundle
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import ForeignFileError, ImageError, SinkError, UsageError
from edgeseg.images import read_image, read_mask, write_png
from edgeseg.prediction.predictor import PredictOptions
from edgeseg.progress import Progress
from tests.cli.test_cli import edgeseg, refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of a street, one of them of another size."""
    (tmp_path / "street").mkdir()
    for index, size in enumerate(("480x360", "640x480", "480x360")):
        frame = StreetDataset(f"demo://street?frames=1&seed={index}&size={size}")[0].frame
        write_png(tmp_path / "street" / f"{index}.png", frame)
    return tmp_path


def test_python_and_the_command_line_give_the_same_numbers(folder: Path, shipped: Bundle) -> None:
    views = ("--scale", 1, "--scale", 0.75, "--flip")
    done = edgeseg("predict", "street", *views, "-o", "out", "--probabilities", "p", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == 3
    with open_predictor(shipped, PredictOptions(scales=(1.0, 0.75), flip=True)) as predictor:
        for index in range(3):
            found = predictor.predict(read_image(folder / "street" / f"{index}.png"), probabilities=True)
            stored = np.load(folder / "p" / f"{index}.npy")
            assert (read_mask(folder / "out" / "masks" / f"{index}.png") == found.classes).all()
            assert stored.dtype == np.float16 and (folder / "out" / "overlays" / f"{index}.png").is_file()
            assert found.probabilities is not None
            np.testing.assert_array_equal(stored, found.probabilities.astype(np.float16))


def test_tiles_count_rows_and_keep_the_size(folder: Path) -> None:
    rows: list[tuple[str, int, int]] = []
    config = PredictConfig(pictures=(str(folder / "street" / "1.png"),), output=str(folder / "out"), tiles=True)
    predict(config, Progress(count=lambda *what: rows.append(what)))
    assert rows[-1] == ("rows of 1", 480, 480) and len(rows) > 1
    assert read_mask(folder / "out" / "masks" / "1.png").shape == (480, 640)


def test_a_video_is_smoothed_in_order(tmp_path: Path) -> None:
    video = "demo://street?frames=3&size=320x240"
    for share, name in ((0.0, "plain"), (0.9, "steady")):
        predict(PredictConfig(pictures=(video,), probabilities=tmp_path / name, smooth=share))
    plain, steady = ([np.load(path) for path in sorted((tmp_path / name).iterdir())] for name in ("plain", "steady"))
    assert len(plain) == 3
    np.testing.assert_allclose(steady[0], plain[0], atol=1e-3)
    expected = 0.9 * (0.9 * plain[0] + 0.1 * plain[1]) + 0.1 * plain[2]
    np.testing.assert_allclose(steady[2], expected, atol=2e-3)


def test_several_sources_do_not_overwrite_each_other(folder: Path) -> None:
    first = str(folder / "street" / "0.png")
    (folder / "other").mkdir()
    write_png(folder / "other" / "0.png", read_image(folder / "street" / "2.png"))
    names = (first, str(folder / "other" / "0.png"))
    predict(PredictConfig(pictures=names, output=str(folder / "out"), probabilities=folder / "p"))
    assert len(list((folder / "out" / "masks").rglob("*.png"))) == 2
    assert len(list((folder / "p").rglob("*.npy"))) == 2


def test_probabilities_that_are_there_stay(folder: Path) -> None:
    (folder / "p").mkdir()
    (folder / "p" / "0.npy").write_bytes(b"mine")
    config = PredictConfig(pictures=(str(folder / "street" / "0.png"),), probabilities=folder / "p")
    with pytest.raises(ForeignFileError, match="is not replaced"):
        predict(config)
    assert [path.read_bytes() for path in (folder / "p").iterdir()] == [b"mine"]
    predict(PredictConfig(pictures=config.pictures, probabilities=folder / "p", overwrite=True))
    assert np.load(folder / "p" / "0.npy").shape == (11, 360, 480)


def test_every_class_has_a_mask_of_its_own_that_is_not_replaced(folder: Path, shipped: Bundle) -> None:
    picture = folder / "street" / "1.png"
    config = PredictConfig(pictures=(str(picture),), output=str(folder / "out"), class_masks=folder / "c")
    heard: list[str] = []
    predict(config, Progress(step=heard.append))
    classes = read_mask(folder / "out" / "masks" / "1.png")
    assert {path.name for path in (folder / "c").iterdir()} == set(shipped.spec.classes)
    for index, name in enumerate(shipped.spec.classes):
        mask = read_mask(folder / "c" / name / "1.png")
        np.testing.assert_array_equal(mask, np.where(classes == index, 255, 0))
    assert not any("several labels" in line for line in heard)
    with pytest.raises(ForeignFileError, match="1.png is there and is not replaced"):
        predict(PredictConfig(pictures=(str(picture),), class_masks=folder / "c"))
    predict(PredictConfig(pictures=(str(picture),), class_masks=folder / "c", overwrite=True))


def test_folders_of_classes_are_names_that_stay_below_their_folder() -> None:
    assert folder_names(("road", "..", "a/b", "a:b", "ROAD", "déjà")) == ["road", "_", "a_b", "a_b-3", "ROAD-4", "déjà"]


def test_a_full_disk_leaves_no_part_of_a_file(folder: Path) -> None:
    """The limit on the size of a file stands for the disk: it is met in the middle of the probabilities, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    config = PredictConfig(pictures=(str(folder / "street" / "0.png"),), probabilities=folder / "p")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SinkError, match="cannot be written: File too large; free space"):
            predict(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((folder / "p").iterdir()) == []


def test_a_file_that_appears_meanwhile_stays(folder: Path) -> None:
    """And nothing is written through a link that lies where a part of the file might be."""
    (folder / "p").mkdir()
    (folder / "p" / ".0.npy.part").symlink_to(folder / "theirs")

    def appear(*_: object) -> None:
        (folder / "p" / "0.npy").write_bytes(b"theirs")

    config = PredictConfig(pictures=(str(folder / "street" / "0.png"),), probabilities=folder / "p")
    with pytest.raises(ForeignFileError, match="0.npy was written by something else meanwhile"):
        predict(config, Progress(count=appear))
    assert (folder / "p" / "0.npy").read_bytes() == b"theirs" and not (folder / "theirs").exists()
    assert sorted(path.name for path in (folder / "p").iterdir()) == [".0.npy.part", "0.npy"]


@pytest.mark.parametrize("kind", ["folder", "file", "glob", "list", "linked folder", "linked class", "one of two"])
def test_class_masks_never_replace_the_pictures_they_are_of(folder: Path, kind: str) -> None:
    cars = folder / "car"
    (folder / "street").rename(cars)
    above, pictures = folder, [cars]
    (folder / "list.txt").write_text("car/0.png\n")
    if kind == "linked folder":
        (folder / "here").symlink_to(cars)
        pictures = [folder / "here"]
    elif kind == "linked class":
        above = folder / "out"
        above.mkdir()
        (above / "car").symlink_to(cars)
    elif kind == "one of two":
        (folder / "1").mkdir()
        cars.rename(folder / "1" / "car")
        cars = folder / "1" / "car"
        pictures = [Path("demo://street?frames=1"), cars]
    elif kind != "folder":
        pictures = [{"file": cars / "0.png", "glob": cars / "*.png", "list": folder / "list.txt"}[kind]]
    before = {path: path.read_bytes() for path in cars.iterdir()}
    names = tuple(str(path).replace("demo:/", "demo://") for path in pictures)
    with pytest.raises(UsageError, match="`class_masks` .* would write among the images of the source"):
        predict(PredictConfig(pictures=names, class_masks=above, overwrite=True))
    assert {path: path.read_bytes() for path in cars.iterdir()} == before


@pytest.mark.parametrize("broken", [["0"], ["1"], ["2"], ["0", "2"], ["0", "1"]])
def test_pictures_that_cannot_be_read_keep_no_others_from_it(folder: Path, broken: list[str]) -> None:
    for name in broken:
        (folder / "street" / f"{name}.png").write_bytes(b"")
    config = PredictConfig(pictures=(str(folder / "street"),), output=str(folder / "out"))
    with pytest.raises(ImageError) as caught:
        predict(config)
    assert f"{len(broken)} of 3 pictures could not be read" in str(caught.value)
    assert str(folder / "out") in str(caught.value) and "\n" not in str(caught.value)
    assert all(f"{name}.png" in str(caught.value) for name in broken)
    assert {path.stem for path in (folder / "out" / "masks").iterdir()} == {"0", "1", "2"} - set(broken)


def test_results_of_files_that_share_names_say_which_is_which(folder: Path) -> None:
    for index, name in enumerate(("a.jpg", "a.png", "A.png")):
        picture = (folder / "street" / f"{index}.png").rename(folder / "street" / name)
        assert picture.exists()
    heard: list[str] = []
    predict(PredictConfig(pictures=(str(folder / "street"),), class_masks=folder / "c"), Progress(step=heard.append))
    told = next(line for line in heard if "share names" in line)
    written = {path.name for path in (folder / "c" / "car").iterdir()}
    assert len(written) == 3
    for name in ("a.jpg", "a.png", "A.png"):
        result = re.search(rf"/{re.escape(name)} are called ([^ ,]+)", told)
        assert result is not None and f"{result[1]}.png" in written and name in result[1]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PredictConfig(output="out"), "say what to predict: `pictures`"),
        (PredictConfig(pictures=("street",)), "say where results go: `output`"),
        (PredictConfig(pictures=("rtsp://127.0.0.1/x",), output="out"), "is live and has no end"),
        (PredictConfig(pictures=("data/masks",), output="data"), "among the images of the source"),
        (PredictConfig(pictures=("street",), output="out", scales=()), "`scales`"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, config: PredictConfig, said: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "data").mkdir()
    (folder / "street").rename(folder / "data" / "masks")
    (folder / "street").symlink_to("data/masks")
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match=said):
        predict(config)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none.png", "-o", "out"), 1, "none.png"),
        (("street", "-o", "out", "--graph", "int8-cpu"), 1, "edgeseg compile --scores"),
        (("street", "-o", "out", "--graph", "int4"), 1, "no graph 'int4'"),
        (("street", "-o", "out", "-m", "street/0.png"), 1, "0.png"),
        (("cut.png", "-o", "out"), 1, "cut.png"),
        (("street", "-o", "out.txt"), 1, "no sink for .txt"),
    ],
)
def test_each_mistake_is_one_line(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    (folder / "cut.png").write_bytes((folder / "street" / "0.png").read_bytes()[:5000])
    line = refused("predict", *arguments, cwd=folder, code=code)
    assert said in line
