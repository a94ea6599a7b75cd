"""``edgeseg train`` and ``edgeseg eval`` as people type them."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.demo import CLASSES, PALETTE
from edgeseg.demo.street import StreetDataset
from edgeseg.images import write_png
from tests import HANG_S
from tests.cli.test_cli import edgeseg, refused
from tests.fleet.rig import descendants, until

SMALL = ("--size", "64x64", "--batch", 2, "--epochs", 1, "--workers", 0, "--weights", "none")


def data_set(folder: Path, name: str, count: int, value: int) -> None:
    """Pictures with a bright disc; its pixels have ``value`` in the masks, all others 0."""
    rng = np.random.default_rng(count)
    (folder / name).mkdir()
    (folder / f"{name}annot").mkdir()
    for index in range(count):
        mask = np.zeros((64, 64), np.uint8)
        cv2.circle(mask, (int(rng.integers(20, 44)), 32), 14, value, -1)
        image = rng.integers(40, 110, (64, 64, 3), dtype=np.uint8)
        image[mask > 0] = (40, 200, 230)
        write_png(folder / name / f"{index}.png", image)
        write_png(folder / f"{name}annot" / f"{index}.png", mask)


def train(folder: Path, *more: object, classes: str = "ground,disc") -> subprocess.CompletedProcess[str]:
    return edgeseg("train", "train", "--val", "val", "--classes", classes, *SMALL, "--out", "run", *more, cwd=folder)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_run_says_device_steps_and_what_is_left(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 6, 1)
    data_set(tmp_path, "val", 2, 1)
    done = train(tmp_path, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "epochs 1-2 of 3 steps (2 of 6 images each)" in done.stdout and "on the CPU (1 threads)" in done.stdout
    assert "epoch 1/2  loss" in done.stdout and "left" in done.stdout and "epoch 2/2  loss" in done.stdout
    assert "\r" not in done.stdout + done.stderr, "no line is written over where nobody watches"
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2"]
    again = train(tmp_path, "--epochs", 2, "--resume")
    assert again.returncode == 0 and "all 2 epochs are done already; pass a larger --epochs" in again.stdout


def test_validation_masks_of_0_and_255_are_one_line(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 2, 255)
    done = train(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "validation masks hold only 1 of the 2 classes" in done.stderr and "converted to 0 and 1" in done.stderr
    assert not (tmp_path / "run" / "last.safetensors").exists()


@pytest.mark.parametrize(("value", "said"), [(255, "masks of 0 and 255 must"), (0, "the masks are empty or belong")])
def test_eval_refuses_labels_on_which_nothing_can_be_measured(tmp_path: Path, value: int, said: str) -> None:
    """A model that finds nothing would have mIoU 100. The shipped model's classes are CamVid's; 0 is its sky."""
    data_set(tmp_path, "val", 2, value)
    line = refused("eval", "--data", "val", cwd=tmp_path)
    assert "the labels of val hold only 1 of the 11 classes" in line and said in line
    line = refused("eval", "--masks", "valannot", "--labels", "valannot", cwd=tmp_path)
    assert "the labels of valannot hold only 1 of the 11 classes" in line and said in line
    assert said in refused("compile", "--int8", "--eval", "val", "-o", "x.edgeseg", cwd=tmp_path)
    assert said in refused("bench", "--data", "val", "--no-torch", cwd=tmp_path)


def test_eval_says_how_much_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    write_png(tmp_path / "labels" / "a.png", np.array([[0, 1, 255, 11]], np.uint8).repeat(8, 0))
    (tmp_path / "found").mkdir()
    write_png(tmp_path / "found" / "a.png", np.array([[0, 1, 1, 1]], np.uint8).repeat(8, 0))
    done = edgeseg("eval", "--masks", "found", "--labels", "labels", cwd=tmp_path)
    assert done.returncode == 0 and "ignored (label 11 or 255): 50.00 % of the pixels" in done.stdout, done.stderr
    told = json.loads(edgeseg("eval", "--masks", "found", "--labels", "labels", "--json", cwd=tmp_path).stdout)
    assert told["ignored"] == 0.5 and told["miou"] == 1.0


def test_a_diverged_run_is_one_line_and_no_success(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 6, 1)
    data_set(tmp_path, "val", 2, 1)
    done = train(tmp_path, "--lr", "1e8", "--epochs", 3)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "smaller --lr (it was 1e+08)" in done.stderr and "next: edgeseg compile" not in done.stdout


def test_a_table_is_split_by_drive_and_augmented(tmp_path: Path, one_thread: None) -> None:
    """Validation is a drive, the next command names it, and the folder's configuration trains the same again."""
    data_set(tmp_path, "all", 9, 255)
    rows = [f"all/{index}.png,allannot/{index}.png,drive{index % 3}" for index in range(9)]
    (tmp_path / "pairs.csv").write_text("image,mask,group\n" + "\n".join(rows))
    (tmp_path / "dataset.toml").write_text('layout = "csv"\n')  # of the folder, and no business of the table
    words = ("--classes", "ground,disc", *SMALL, "--out", "run", "--split", "by=prefix", "--fold", "2/3")
    done = edgeseg("train", "csv://pairs.csv?masks=binary", *words, "--augment", "street", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train on: 9 images of pairs.csv, train of split by=prefix, fold 2/3: 6 images" in done.stdout
    assert "validate on: 9 images of pairs.csv, val of split by=prefix, fold 2/3: 3 images" in done.stdout
    assert "validation: all 3 validation images are one scene (drive1, numbers 1-7): mIoU" in done.stdout
    with (tmp_path / "run" / "metrics.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["val_miou"]))
    said = re.search(r"best mIoU ([\d.]+), mean Dice ([\d.]+) \(epoch", done.stdout)
    assert said and float(said[1]) == pytest.approx(100 * float(best["val_miou"]), abs=0.01)
    assert float(said[2]) == pytest.approx(100 * float(best["val_dice"]), abs=0.01)
    where = "csv://pairs.csv?masks=binary&split=by=prefix&fold=2/3"
    assert f"--calib '{where}&part=train' --eval '{where}&part=val'" in done.stdout
    kept = (tmp_path / "run" / "training.toml").read_text()
    assert 'augment = "street"' in kept and f'"csv://{tmp_path}/pairs.csv?masks=binary"' in kept
    line = refused(
        "train", "all", *words[:-4], "--val", "all", "--augment", "stret", "--out", "new", cwd=tmp_path, code=2
    )
    assert "--augment is one of none, basic, strong, street" in line
    line = refused("train", "all", *words, "--val", "all", cwd=tmp_path, code=2)
    assert "--split takes validation images from the data, so leave --val out" in line


def test_augmented_crops_are_drawn(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 3, 1)
    words = ("data", "augment", "train", "--classes", "ground,disc", "--size", "64x64", "--crop", 32, "--tiles", 8)
    done = edgeseg(*words, "--augment", "industrial", "--sheet", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "contact sheet: sheet.png\n", done.stderr
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 2 * 240 and sheet.shape[1] > 4 * 480, "two rows of four crops, each beside its labels"
    (tmp_path / "notes.txt").write_text("mine")
    picture = min((tmp_path / "train").rglob("*.png"))
    before = picture.read_bytes()
    for path in ("notes.txt", picture):
        assert "exists and is no contact sheet" in refused(*words, "--sheet", path, cwd=tmp_path, code=2)
    assert picture.read_bytes() == before


def test_eval_reads_other_layouts(tmp_path: Path) -> None:
    """The shipped model on two rendered frames, as a folder and as a table of coloured masks: the same numbers."""
    frames = StreetDataset("demo://street?frames=2&step=90&size=240x180")
    (tmp_path / "val").mkdir()
    (tmp_path / "valannot").mkdir()
    (tmp_path / "colours").mkdir()
    rows = ["image,mask"]
    for index in range(2):
        one = frames[index]
        assert one.label is not None
        write_png(tmp_path / "val" / f"{index}.png", one.frame)
        write_png(tmp_path / "valannot" / f"{index}.png", one.label)
        colours = np.array([*PALETTE, *[(1, 2, 3)] * (256 - len(PALETTE))], np.uint8)
        write_png(tmp_path / "colours" / f"{index}.png", colours[one.label][..., ::-1])
        rows.append(f"val/{index}.png,colours/{index}.png")
    (tmp_path / "val.csv").write_text("\n".join(rows))
    listed = "".join(f"{name} {red} {green} {blue}\n" for name, (red, green, blue) in zip(CLASSES, PALETTE))
    (tmp_path / "colours.txt").write_text(f"{listed}void 1 2 3\n")
    where = ("val", "csv://val.csv?masks=colours&colours=colours.txt&map=void:ignore")
    told = [json.loads(edgeseg("eval", "--data", one, "--json", cwd=tmp_path).stdout) for one in where]
    assert told[0]["iou"] == told[1]["iou"] and told[0]["miou"] > 0.2 and told[0]["images"] == 2
    for index in range(2):
        write_png(tmp_path / "valannot" / f"{index}.png", np.full((180, 240), 77 + index, np.uint8))
    line = refused("eval", "--data", "val", cwd=tmp_path)
    assert "2 of 2 images or their masks cannot be used: (1) " in line and "class id 77" in line and "id 78" in line


def test_eval_tells_dice_and_which_objects_were_found(tmp_path: Path) -> None:
    for folder, mask in (("labels", [[0, 1, 1, 0, 0, 1]]), ("found", [[0, 1, 0, 0, 0, 0]])):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "a.png", np.array(mask, np.uint8))
    words = ("eval", "--masks", "found", "--labels", "labels", "--by-size", "2")
    said = edgeseg(*words, cwd=tmp_path).stdout
    assert "Dice %" in said and "mean Dice 62.50," in said and "0-1 pixels" in said and "2 pixels and more" in said
    told = json.loads(edgeseg(*words, "--json", cwd=tmp_path).stdout)
    small, large = [one for one in told["objects"] if one["class"] == "building"]
    assert (small["labelled"], small["recall"], large["labelled"], large["recall"]) == (1, 0, 1, 1)
    assert large["covered"] == 0.5 and told["dice"]["building"] == 0.5
    assert "--by-size is areas in pixels that rise" in refused(*words[:-1], "4,2", cwd=tmp_path, code=2)


def test_devices_train_one_network_and_one_of_them_prints(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 3, 1)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    done = train(tmp_path, "--devices", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs_trained"] == 1 and not done.stderr
    from edgeseg.builder.run_folder import RUN_FILES

    names = {path.name for path in (tmp_path / "run").iterdir()} - {"tensorboard"}
    assert names == {"best.safetensors", "last.safetensors", "resume.safetensors", "training.toml", *RUN_FILES}
    left = [path.name for path in (tmp_path / "temporary").iterdir() if not path.name.startswith("torchinductor_")]
    assert left == [], "but for the cache that all programs with PyTorch share"


def test_processes_end_with_what_started_them(tmp_path: Path, one_thread: None) -> None:
    """They would write into the folder that the next run goes on in."""
    data_set(tmp_path, "train", 4, 1)
    data_set(tmp_path, "val", 3, 1)
    words = ("train", "train", "--val", "val", "--classes", "ground,disc", *SMALL, "--epochs", 10_000, "--out", "run")
    command = [sys.executable, "-m", "edgeseg", *map(str, words), "--devices", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        try:
            until(lambda: (tmp_path / "run" / "resume.safetensors").exists(), "nothing was trained")
            started = descendants(launcher.pid)
        finally:
            launcher.kill()
    assert len(started) >= 2
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in started), "a process trains on")


@pytest.mark.parametrize(("many", "words", "code"), [(2, "rnu", 2), (2, "--version", 0), (1, "rnu", 2)])
def test_one_of_several_processes_that_fails_waits_for_nothing(many: int, words: str, code: int) -> None:
    """At the interpreter's end PyTorch waits for the other processes, and they for this one, until they are killed."""
    program = "import atexit; atexit.register(print, 'late'); from edgeseg.cli.main import main; main()"
    here = {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "0",
        "WORLD_SIZE": str(many),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }
    command = [sys.executable, "-c", program, words]
    done = subprocess.run(command, env={**os.environ, **here}, capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, "late" in done.stdout) == (code, code == 0 or many == 1)
    assert ("No such command" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--devices", 99), "--batch is that of all processes, and 99 cannot share 2 images; pass 99"),
        (("--devices", 2, "--batch", 5), "2 cannot share 5 images; pass 4 or 6"),
        (("--devices", 2, "--trials", 2, "--search", "batch=2|4"), "--trials are for one process, not for 2"),
    ],
)
def test_processes_that_make_no_sense_are_not_started(tmp_path: Path, words: tuple[object, ...], said: str) -> None:
    data = ("train", "--val", "val", "--classes", "ground,disc", "--out", "run")
    assert said in refused("train", *data, *SMALL, *words, cwd=tmp_path, code=2)
