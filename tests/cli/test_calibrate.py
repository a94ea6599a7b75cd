"""``edgeseg calibrate`` as people type it, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES
from edgeseg.demo.street import StreetDataset
from edgeseg.images import FolderDataset, image_files, read_image, write_png
from tests import HANG_S
from tests.cli.test_cli import edgeseg, refused

SCRIPT = Path(__file__).resolve().parents[2] / "calibration" / "select_frames.py"


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Thirty unlike frames, two black ones and two copies in a folder ``drive``."""
    folder = tmp_path / "drive"
    folder.mkdir()
    for seed in range(3):
        street = StreetDataset(f"demo://street?seed={seed}&frames=10&step=400&size=160x120")
        for index in range(10):
            write_png(folder / f"{seed}-{index}.png", street[index].frame)
    for index in range(2):
        write_png(folder / f"9-black{index}.png", np.zeros((120, 160, 3), np.uint8))
        (folder / f"9-copy{index}.png").write_bytes((folder / f"{index}-3.png").read_bytes())
    return folder


def test_help_has_examples(tmp_path: Path) -> None:
    for words in (["calibrate", "--help"], ["calibrate", "select", "--help"]):
        page = edgeseg(*words, cwd=tmp_path)
        assert page.returncode == 0 and "Example: edgeseg calibrate select" in page.stdout


def test_a_selection_is_what_compile_takes(tmp_path: Path, drive: Path) -> None:
    done = edgeseg("calibrate", "select", "--source", "drive", "-o", "frames", "--count", 20, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("34 images in drive", "dark", "duplicate", "spread 0.", "--int8 --calib frames"):
        assert text in done.stdout
    dataset = FolderDataset(tmp_path / "frames")
    assert len(dataset) == 20 >= MINIMUM_FRAMES and dataset[0].frame.shape == (120, 160, 3)


def test_for_machines(tmp_path: Path, drive: Path) -> None:
    done = edgeseg("calibrate", "select", "--source", "drive", "-o", "new/frames", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["folder"], report["seen"], len(report["chosen"])) == ("new/frames", 34, 30)
    assert report["rejected"] == {"dark": 2, "bright": 0, "blurred": 0, "duplicate": 2, "redundant": 0}
    stored = json.loads((tmp_path / "new/frames/selection.json").read_text())
    assert stored == {key: value for key, value in report.items() if key != "folder"}


def test_refusals_are_one_line(tmp_path: Path, drive: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = set(tmp_path.iterdir())

    def select(*arguments: object, code: int = 1) -> str:
        return refused("calibrate", "select", *arguments, cwd=tmp_path, code=code)

    assert "no file, folder or glob" in select("--source", "nowhere", "-o", "out")
    assert "holds no images" in select("--source", "empty", "-o", "out")
    assert "no camera /dev/video97" in select("--camera", 97, "-o", "out")
    assert "is not empty" in select("--source", "drive", "-o", "drive", code=2)
    assert "must be 1 to 2048, got 0" in select("--source", "drive", "-o", "out", "--count", 0, code=2)
    assert "got 16 with --count 5" in select("--source", "drive", "-o", "out", "--count", 5, code=2)
    assert "is not live" in select("--source", "drive", "-o", "out", "--seconds", 5, code=2)
    assert "--policy is latest or every" in select("--source", "drive", "-o", "out", "--policy", "all", code=2)
    assert "say where frames come from" in select("-o", "out", code=2)
    assert "say where the frames go" in select("--source", "drive", code=2)
    few = select("--source", "drive", "-o", "out", "--frames", 10)
    assert "10 usable frames among 10 seen (none rejected; frame limit), at least 16 are needed" in few
    assert set(tmp_path.iterdir()) == before


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A watch of the endless street that has told of its first frame."""
    live = ["--source", "demo://street?size=160x120&step=120", "-o", "out", "--min-count", "1", "--count", "12"]
    command = [sys.executable, "-m", "edgeseg", "calibrate", "select", *live]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Ctrl-C, which keeps what was chosen" in process.stdout.readline()
        for _ in range(2):
            assert process.stdout.readline().startswith("frame ")
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_watch_and_keeps_the_chosen(
    watching: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    watching.send_signal(number)
    out, err = watching.communicate(timeout=HANG_S)
    assert watching.returncode == 0 and err == "", out + err
    assert "interrupted: the choice is of what was seen until then" in out
    report = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert report["ended"] == "interrupted" and report["started_at"]
    names = [frame["file"] for frame in report["chosen"]]
    assert 1 <= len(names) <= 12 and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *names,
        "selection.json",
    ]
    assert all(read_image(tmp_path / "out" / name).shape == (120, 160, 3) for name in names)


def test_kill_leaves_whole_frames_and_no_report(watching: subprocess.Popen[str], tmp_path: Path) -> None:
    watching.kill()
    watching.communicate()
    frames = image_files(tmp_path / "out")
    assert 1 <= len(frames) <= 13 and not (tmp_path / "out" / "selection.json").exists()
    assert all(read_image(path).shape == (120, 160, 3) for path in frames)


def test_the_script_needs_numpy_and_opencv_alone(tmp_path: Path, drive: Path) -> None:
    if not SCRIPT.is_file():
        pytest.skip(f"no clone around these tests: {SCRIPT} is not there")
    bare = (
        "import runpy, sys\n"
        "for name in ('typer', 'rich', 'onnxruntime', 'typing_extensions'): sys.modules[name] = None\n"
        "script = sys.argv[1]; del sys.argv[0]\n"
        "runpy.run_path(script, run_name='__main__')\n"
    )

    def script(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", bare, str(SCRIPT), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)

    done = script("drive", "frames", "--count", 20)
    assert done.returncode == 0, done.stderr
    assert "end of stream: 20 of 34 frames" in done.stdout and len(image_files(tmp_path / "frames")) == 20
    again = script("drive", "frames")
    assert again.returncode == 2 and again.stderr.startswith("select_frames: frames is not empty"), again.stderr
    assert len(again.stderr.splitlines()) == 1
