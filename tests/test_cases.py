"""The worked cases of ``benchmarks/cases`` run from end to end, tiny; their pictures are what their pages say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeseg.data.split import prefix_of
from edgeseg.images import read_image, read_mask
from tests import HANG_S

CASES = Path(__file__).resolve().parents[1] / "benchmarks" / "cases"
_SMALL = {"TRAIN": "--epochs 1 --size 64x64 --crop 64 --batch 4 --workers 0", "COMPILE": "--no-gate"}
TINY: dict[str, dict[str, str]] = {
    "street": {
        **_SMALL,
        "TRAINED": "demo://street?seed=1000&towns=2&frames=16&step=60&size=96x72",
        "SEEN": "demo://street?seed=2000&towns=2&frames=4&step=60&size=96x72",
        "UNSEEN": "demo://street?seed=9000&towns=2&frames=2&step=60&size=96x72",
        "CAMVID": "",
    },
    "rendered-lung-slices": {"RENDER": "--patients 12 --slices 2 --pixels 64", **_SMALL},
    "rendered-metal-surfaces": {"RENDER": "--coils 6 --pictures 3 --divide 8", **_SMALL},
}
"""Case -> what makes it small. Its accuracy means nothing; that every command runs does."""
RENDERED = {name: next(CASES.glob(f"{name}/render_*.py"), Path()) for name in TINY if name.startswith("rendered")}

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="benchmarks/ is not part of this source distribution")


def ran(folder: Path, *command: object, **more: str) -> str:
    """Run a command to whom ``edgeseg`` and ``python`` are those of this test, and return what it said."""
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    for name, what in (("python", '"$@"'), ("edgeseg", '-m edgeseg "$@"')):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what}\n')
        shim.chmod(0o755)
    at = {"PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command)], env={**os.environ, **at, **more}, capture_output=True, text=True, timeout=3 * HANG_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TINY)
def test_a_case_runs_from_data_to_predictions(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    said = ran(tmp_path, CASES / name / "run.sh", tmp_path / "out", **TINY[name])
    assert "best mIoU" in said and re.search(r"int8-tensorrt │ .* yes │", said)
    assert said.count("mean Dice") >= 2 and said.count("in vain") >= 2, "FP32 and INT8 were measured, by size too"
    assert (tmp_path / "out" / "sheet.png").is_file() and list(tmp_path.glob("out/found*/masks/*.png"))


@pytest.mark.parametrize("name", TINY)
def test_a_case_says_its_commands_and_what_they_measured(name: str) -> None:
    page = (CASES / name / "README.md").read_text(encoding="utf-8")
    assert "run.sh" in page and "INT8" in page and re.search(r"core|GPU", page), "commands, results, machine"
    assert f"({name}/README.md)" in (CASES / "README.md").read_text(encoding="utf-8")


def rendered(name: str, folder: Path, options: str) -> dict[str, list[Path]]:
    """Render pictures, and return those of each set."""
    ran(folder.parent, sys.executable, RENDERED[name], folder, *options.split())
    return {part.name: sorted(part.glob("images/*.png")) for part in folder.iterdir()}


@pytest.mark.parametrize("name", RENDERED)
def test_pictures_follow_from_the_arguments_alone(name: str, tmp_path: Path) -> None:
    options = "--patients 3 --slices 2 --pixels 48" if "lung" in name else "--coils 3 --pictures 2 --divide 6"
    for folder in ("a", "b"):
        rendered(name, tmp_path / folder, options)
    first, second = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in tmp_path.glob(f"{folder}/**/*.png")}
        for folder in ("a", "b")
    )
    assert len(first) >= 16 and first == second


def test_slices_are_of_patients_none_of_whom_is_in_both_sets(tmp_path: Path) -> None:
    found = rendered("rendered-lung-slices", tmp_path / "a", "--patients 6 --slices 3 --pixels 64")
    patients = {part: {prefix_of(path.stem) for path in paths} for part, paths in found.items()}
    assert (len(patients["patients"]), len(patients["test"])) == (6, 2)
    assert not patients["patients"] & patients["test"]
    masks = np.stack([read_mask(path.parents[1] / "masks" / path.name) for path in found["patients"]])
    shares = np.bincount(masks.ravel(), minlength=3) / masks.size
    assert len(shares) == 3 and 0.05 < shares[1] < 0.4 and 0 < shares[2] < 0.1, shares
    frame = read_image(found["patients"][0])
    assert (frame == frame[..., :1]).all() and (frame[0, 0] == 0).all(), "grey, and black outside the field of view"


def test_defects_are_rare_and_most_pictures_are_clean(tmp_path: Path) -> None:
    found = rendered("rendered-metal-surfaces", tmp_path / "a", "--coils 3 --pictures 6 --divide 2")
    masks = {
        part: [read_mask(path.parents[1] / "masks" / path.name) for path in paths] for part, paths in found.items()
    }
    assert {part: len(one) for part, one in masks.items()} == {"train": 18, "val": 6, "test": 6}
    assert masks["test"][0].size > masks["train"][0].size
    every = np.concatenate([mask.ravel() for mask in masks["train"]])
    assert set(np.unique(every)) == {0, 1, 2, 3} and np.count_nonzero(every) / every.size < 0.005
    assert np.mean([mask.any() for mask in masks["train"]]) < 0.6
