"""The block that ``edgeseg doctor`` prints for recorded roots, byte for byte, and a record of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import HANG_S

HERE = Path(__file__).parent
NAMES = sorted(path.name for path in (HERE / "roots").iterdir() if path.is_dir())


def doctor(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeseg", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)


@pytest.mark.parametrize("name", NAMES)
def test_golden_blocks(name: str) -> None:
    done = doctor("--root", HERE / "roots" / name)
    golden = HERE / "golden" / f"{name}.txt"
    if os.environ.get("EDGESEG_RENEW_GOLDENS"):
        golden.write_text(done.stdout)
    assert done.stderr == "" and done.stdout == golden.read_text()
    assert done.returncode == (0 if done.stdout.splitlines()[-1].startswith("0 problems") else 1)


def test_every_root_has_a_golden_block() -> None:
    assert len(NAMES) >= 7
    assert {path.stem for path in (HERE / "golden").iterdir()} == set(NAMES)


def test_a_root_for_machines() -> None:
    report = json.loads(doctor("--root", HERE / "roots/xavier-nx-jp5.1.2", "--json").stdout)
    assert report["device"]["jetpack"] == "5.1.2" and report["facts"]["board"].startswith("NVIDIA Jetson Xavier NX")
    assert [item["name"] for item in report["findings"]][:2] == ["pycuda-missing", "cv2-shadowed"]
    assert len(report["problems"]) == 1 and "install pycuda" in report["problems"][0]
    assert "lacks GstRtspServer, x264enc" in report["facts"]["gstreamer"]


def test_a_record_of_this_machine_reads_back_as_the_same_block(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    live = doctor("--record", folder)
    assert live.returncode in (0, 1) and "recorded" in live.stderr, live.stdout + live.stderr
    assert (folder / "edgeseg-probe.json").is_file()
    again = doctor("--root", folder).stdout.splitlines()
    # Free memory, power and clocks move between the two looks; the shipped model is checked on the living machine only.
    moving = ("  memory:", "  shipped model:", "  hottest:", "  power:", "  gpu:")
    wanted = [line for line in live.stdout.splitlines() if not line.startswith(moving)]
    assert [line for line in again if not line.startswith(moving)] == wanted
    everything = "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    assert not re.search(r"\bserial\b", everything, re.IGNORECASE) and os.path.expanduser("~") + "/" not in everything
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


def test_refusals(tmp_path: Path) -> None:
    both = doctor("--root", tmp_path, "--record", tmp_path / "new")
    assert both.returncode == 2 and both.stderr.startswith("edgeseg: --root reads")
    nowhere = doctor("--root", tmp_path / "none")
    assert nowhere.returncode == 1 and "is not a folder" in nowhere.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep me")
    full = doctor("--record", tmp_path / "full")
    assert full.returncode == 1 and "already holds something" in full.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "edgeseg-probe.json").write_text("[1]")
    junk = doctor("--root", tmp_path)
    assert junk.returncode == 1 and "is not what 'edgeseg doctor --record' writes" in junk.stderr


def test_a_bare_tree_says_that_no_python_was_asked(tmp_path: Path) -> None:
    empty = doctor("--root", tmp_path)
    assert empty.returncode == 1 and "holds no record of a machine" in empty.stderr
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("model name : a CPU\n")
    done = doctor("--root", tmp_path)
    assert done.returncode == 0 and "python:        not recorded" in done.stdout
