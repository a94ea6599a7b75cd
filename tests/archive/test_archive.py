"""An archive on this machine: what is written, what is counted, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgeseg.app.archive import archive, archive_state
from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.app.segment import load, open_engine, segment
from edgeseg.archive.places import place_at
from edgeseg.archive.plan import read_plan
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.images import read_image, write_png
from edgeseg.progress import Progress
from edgeseg.runtime.sinks.own import own_png
from tests import HANG_S
from tests.archive.conftest import FRAMES, PICTURES, SHARD, asked, done_in, require_same, results_in
from tests.cli.test_cli import edgeseg, refused


def test_masks_are_those_of_run(stored: Path, reference: Path, tmp_path: Path) -> None:
    masks = {name for name in results_in(reference) if name.startswith("masks/")}
    assert len(masks) == PICTURES + FRAMES
    with open_engine(load()) as engine:
        for name in ("0", "sub/1", "sub/deep/23"):
            classes = segment(engine, read_image(stored / f"{name}.png")).classes
            assert (reference / "masks" / f"{name}.png").read_bytes() == own_png(classes, Path(name))
    source = str(stored / "ride.mp4")
    done = edgeseg("run", "street", "--source", source, "--sink", "out", "--no-overwrite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for index in range(FRAMES):
        mine = reference / "masks" / "ride.mp4" / f"{index:06d}.png"
        assert mine.read_bytes() == (tmp_path / "out" / "masks" / f"{index:06d}.png").read_bytes()


def test_what_cannot_be_read_is_counted_with_its_reason(reference: Path) -> None:
    state = archive_state(str(reference))
    assert state.planned == state.segmented + state.failed + state.skipped == PICTURES + FRAMES + 2
    why = {name: why for name, _, why in state.failures}
    assert "truncated" in why["broken"] and "cannot be opened as a video" in why["bad.mp4/000000"]
    assert sum(worker.frames for worker in state.workers.values()) == state.planned
    assert all("int8-cpu" in worker.engine for worker in state.workers.values())


def test_what_is_done_is_not_done_again(stored: Path, reference: Path, form: str) -> None:
    before, lines = done_in(reference), []
    again = archive(ArchiveConfig(output=str(reference), workers=1), Progress(lines.append))
    assert done_in(reference) == before and again.state.is_done
    assert any(f"done before: {PICTURES + FRAMES + 2} frames" in line for line in lines)


def test_two_shares_make_the_whole(stored: Path, reference: Path, form: str, tmp_path: Path) -> None:
    first = archive(asked(stored, tmp_path / "out", form, shard="0/2", workers=1)).state
    assert not first.is_done and first.segmented
    second = archive(asked(stored, tmp_path / "out", form, shard="1/2", workers=1)).state
    assert second.is_done
    require_same(tmp_path / "out", reference)


def _driver(config: ArchiveConfig) -> subprocess.Popen[str]:
    words = [*config.sources, "-m", "street", "-o", config.output, "--format", config.format, "--json"]
    words += ["--shard-frames", config.shard_frames, "--workers", config.workers]
    command = [sys.executable, "-m", "edgeseg", "archive", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _children(parent: int) -> list[int]:
    """Workers of a driver."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (path / "stat").read_text(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in command:
            found.append(int(path.name))
    return found


def _wait_for_masks(output: Path, process: subprocess.Popen[str], least: int) -> None:
    """Wait until a shard is under way: masks are there that no done-file has yet."""
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        masks = len(list((output / "masks").rglob("*.png"))) if (output / "masks").is_dir() else 0
        shards = len(list((output / "done").iterdir())) if (output / "done").is_dir() else 0
        if masks >= least and masks % SHARD and shards:
            return
        time.sleep(0.005)
    raise AssertionError("no shard was under way")


def test_a_worker_that_is_killed_in_a_shard_costs_nothing(
    stored: Path, reference: Path, form: str, tmp_path: Path
) -> None:
    with _driver(asked(stored, tmp_path / "out", form)) as driver:
        _wait_for_masks(tmp_path / "out", driver, SHARD + 1)
        for worker in _children(driver.pid):
            os.kill(worker, signal.SIGKILL)
        said, errors = driver.communicate(timeout=HANG_S)
    assert driver.returncode == 0, errors
    found = json.loads(said)
    assert found["planned"] == found["segmented"] + found["failed"] == PICTURES + FRAMES + 2
    require_same(tmp_path / "out", reference)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_killed_goes_on_where_it_was(
    stored: Path, reference: Path, form: str, tmp_path: Path, number: signal.Signals
) -> None:
    with _driver(asked(stored, tmp_path / "out", form)) as driver:
        _wait_for_masks(tmp_path / "out", driver, SHARD + 1)
        workers = _children(driver.pid)
        driver.send_signal(number)
        _, errors = driver.communicate(timeout=HANG_S)
    if number == signal.SIGINT:
        assert driver.returncode == 130 and errors.splitlines()[-1] == "edgeseg: interrupted"
        assert not list((tmp_path / "out").rglob(".*")), "a file that is half written stays"
    kept = done_in(tmp_path / "out")
    assert kept and not archive_state(str(tmp_path / "out")).is_done
    deadline = time.monotonic() + HANG_S
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.05)
    assert archive(asked(stored, tmp_path / "out", form)).state.is_done
    require_same(tmp_path / "out", reference)
    assert {name: done_in(tmp_path / "out")[name] for name in kept} == kept


def test_two_drivers_on_one_place_do_not_harm_each_other(
    stored: Path, reference: Path, form: str, tmp_path: Path
) -> None:
    config = asked(stored, tmp_path / "out", form, workers=1)
    drivers = [_driver(config), _driver(config)]
    for driver in drivers:
        _, errors = driver.communicate(timeout=HANG_S)
        assert driver.returncode == 0, errors
    require_same(tmp_path / "out", reference)
    state = archive_state(str(tmp_path / "out"))
    assert state.is_done and state.segmented == PICTURES + FRAMES


@pytest.fixture
def few(stored: Path, tmp_path: Path) -> Path:
    """Three pictures and one that is cut."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("0.png", "3.png", "6.png", "broken.png"):
        shutil.copy(stored / name, folder / name)
    return folder


def test_a_file_that_changed_since_the_plan_is_skipped(few: Path, tmp_path: Path) -> None:
    config = asked(few, tmp_path / "out", "png", shard="1/2", shard_frames=2, workers=1)
    archive(config)
    write_png(few / "0.png", read_image(few / "6.png"))
    (few / "3.png").unlink()
    state = archive(ArchiveConfig(output=str(tmp_path / "out"), workers=1)).state
    assert (state.segmented, state.failed, state.skipped, state.planned) == (1, 1, 2, 4)
    assert {why.split(";")[0] for _, _, why in state.failures if "truncated" not in why} == {
        "it has changed since the plan was made",
        "it is not there any more",
    }


def test_pages_of_a_picture_are_frames(stored: Path, tmp_path: Path) -> None:
    pages = [read_image(stored / f"{index}.png") for index in (0, 3, 6)]
    (tmp_path / "in").mkdir()
    cv2.imwritemulti(str(tmp_path / "in" / "scan.tif"), pages)
    shutil.copy(stored / "9.png", tmp_path / "in" / "scan.png")
    state = archive(asked(tmp_path / "in", tmp_path / "out", "png", workers=1, verify="100%")).state
    assert (state.planned, state.segmented) == (4, 4)
    assert set(results_in(tmp_path / "out")) == {
        "masks/scan.png.png",
        *(f"masks/scan.tif/{n:04d}.png" for n in (1, 2, 3)),
    }


def test_too_many_failures_end_it(few: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EdgesegError,
        match="1 frames failed, and `max_failures` allows 0; .* the first frame without a result is broken",
    ):
        archive(asked(few, tmp_path / "out", "png", max_failures=0))
    assert archive(asked(few, tmp_path / "out", "png", max_failures=1)).state.is_done


def test_a_share_is_segmented_again_and_compared(few: Path, tmp_path: Path, form: str) -> None:
    words = ("archive", few, "-m", "street", "-o", "out", "--workers", 1, "--format", form)
    done = edgeseg(*words, "--verify", "100%", cwd=tmp_path)
    assert done.returncode == 0 and "compared: 3 frames segmented again, 0 differ" in done.stdout, done.stderr
    shutil.copy(tmp_path / "out" / "masks" / "0.png", tmp_path / "out" / "masks" / "6.png")
    again = edgeseg("archive", "-o", "out", "--workers", 1, "--verify", "50%", cwd=tmp_path)
    assert again.returncode == 3 and "1 of 2 frames give another result than is stored, the first is 6" in again.stderr


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("few",), "say where results go: --output", 2),
        (("few", "-o", "few"), "holds 0.png and no archive", 2),
        (("-o", "new"), "say what to segment", 2),
        (("none", "-o", "new"), "none is no file, folder or glob", 1),
        (("empty", "-o", "new"), "no pictures and no videos", 1),
        (("rtsp://me:secret@host/a", "-o", "new"), "is no stored file", 2),
        (("few", "-o", "s3://me:secret@bucket/a"), "***@bucket/a holds a password", 2),
        (("few", "-o", "s3://"), "s3:// names no bucket and no host; is it a variable that is not set?", 2),
        (("s3:///", "-o", "new"), "s3:// names no bucket and no host", 2),
        (("few", "-o", "new", "--shard", "2/2"), "--shard is i/n", 2),
        (("few", "-o", "new", "--shard", f"0/{'9' * 5000}"), "--shard is i/n", 2),
        (("few", "-o", "new", "--verify", "0"), "--verify is a share", 2),
        (("few", "-o", "new", "--on", "spark"), "--on is one of local, dask://HOST:8786", 2),
        (("few", "-o", "new", "-m", "none.edgeseg"), "none.edgeseg", 1),
        (("few", "-o", "new", "--graph", "none"), "has no graph 'none'; it has fp32", 1),
        (("--status", "empty"), "holds no archive: plan.json is missing", 2),
        (("query", "empty", "SELECT 1"), "holds no archive: plan.json is missing", 2),
    ],
)
def test_what_makes_no_sense_is_one_line(few: Path, words: tuple[str, ...], said: str, code: int) -> None:
    (few.parent / "empty").mkdir()
    line = refused("archive", *words, cwd=few.parent, code=code)
    assert said in line and "secret" not in line
    assert {path.name for path in few.parent.iterdir()} <= {"few", "empty"}, "nothing is written"


def test_another_model_or_format_does_not_go_on(few: Path, tmp_path: Path) -> None:
    archive(asked(few, tmp_path / "out", "png", workers=1))
    other = tmp_path / "other.edgeseg"
    other.write_bytes(place_at(str(tmp_path / "out")).read(_model(tmp_path / "out")) + b"\0")
    for changed, said in (
        ({"format": "parquet"}, "another `format` (png)"),
        ({"shard_frames": 9}, "another `shard_frames` (4)"),
        ({"graph": "fp32"}, "another `graph`"),
        ({"model": other}, "another `model` (street.edgeseg)"),
        ({"sources": ("few/0.png",)}, "another `sources`"),
    ):
        values: dict[str, Any] = {"output": str(tmp_path / "out"), **changed}
        if "sources" in values:
            values["sources"] = (str(few / "0.png"),)
        with pytest.raises(UsageError, match="and goes on with that only") as caught:
            archive(ArchiveConfig(**values))
        assert said in str(caught.value)


def _model(output: Path) -> str:
    plan = read_plan(place_at(str(output)))
    assert plan is not None
    return plan.model_name


def test_status_says_what_waits(stored: Path, tmp_path: Path) -> None:
    archive(asked(stored, tmp_path / "out", "png", shard="0/9", workers=1))
    done = edgeseg("archive", "--status", "out", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["planned"] == found["segmented"] + found["failed"] + found["skipped"] + found["pending_pictures"]
    assert 0 < found["pending_pictures"] < PICTURES + 1 and found["pending_videos"]
    assert "waiting, and" in edgeseg("archive", "--status", "out", cwd=tmp_path).stdout


def test_a_full_disk_ends_it_in_one_line(few: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    archive(asked(few, tmp_path / "out", "png", shard="1/2", shard_frames=2, workers=1))
    shutil.rmtree(tmp_path / "out" / "masks")
    (tmp_path / "out" / "masks").symlink_to("/dev/full")
    line = refused("archive", "-o", "out", cwd=tmp_path)
    assert "cannot be written" in line
    assert archive_state(str(tmp_path / "out")).pictures == 2
