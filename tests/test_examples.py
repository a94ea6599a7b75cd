"""The examples run as they stand, and stay short."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edgeseg import read_bundle
from tests import HANG_S

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
pytestmark = pytest.mark.skipif(not EXAMPLES, reason="the examples are not beside tests/: only in a whole clone")


def run_example(name: str, folder: Path, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_is_listed_and_has_forty_lines_at_most() -> None:
    listed = (ROOT / "examples/README.md").read_text()
    for path in EXAMPLES:
        assert f"({path.name})" in listed and len(path.read_text().splitlines()) <= 40, path.name


def test_one_image(tmp_path: Path) -> None:
    said = run_example("segment_image.py", tmp_path, ROOT / "benchmarks/street-overlay.jpg")
    shares = [float(line.split()[-2]) for line in said.splitlines()[1:]]
    assert len(shares) == 11 and sum(shares) == pytest.approx(100, abs=1)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/segment_image.py"), "none.jpg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 1 and "none.jpg is no image that OpenCV reads" in done.stderr


def test_a_camera_loop_with_a_callback(tmp_path: Path) -> None:
    said = run_example("camera_callback.py", tmp_path, "demo://street?frames=5")
    assert said.splitlines()[-1] in [f"{number} frames" for number in range(1, 6)]  # a busy machine drops some


def test_a_source_of_ones_own(tmp_path: Path) -> None:
    said = run_example("own_source.py", tmp_path).splitlines()
    assert said == [*(f"{number:06d}" for number in range(20)), "20 frames"]


def test_a_sink_of_ones_own(tmp_path: Path) -> None:
    run_example("own_sink.py", tmp_path)
    with sqlite3.connect(tmp_path / "road.db") as table:
        rows = table.execute("SELECT frame, share FROM road").fetchall()
    assert 1 <= len(rows) <= 20  # a busy machine drops some
    assert all(0.05 < share < 0.9 for _, share in rows)


def test_a_module_of_smp(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    said = run_example("compile_module.py", tmp_path, "mine.edgeseg")
    assert "int8-tensorrt: " in said and "int8-cpu" in read_bundle(tmp_path / "mine.edgeseg").graphs
