"""An archive with what archives have: pictures in folders, a video, and files that cannot be read."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import cv2
import pytest

from edgeseg.app.archive import archive
from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.demo.street import StreetDataset
from edgeseg.images import write_png

PICTURES, FRAMES, SHARD = 24, 10, 4
UNREADABLE = ("broken.png", "bad.mp4")


@pytest.fixture(scope="session")
def form() -> str:
    """Masks, and the table where it can be written."""
    return "both" if importlib.util.find_spec("pyarrow") else "png"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, one that is cut, a video of 10 frames, and one that is none."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "sub" / "deep").mkdir(parents=True)
    frames = [
        sample.frame for sample in map(StreetDataset("demo://street?frames=12&size=96x72").__getitem__, range(12))
    ]
    for index in range(PICTURES):
        where = (folder, folder / "sub", folder / "sub" / "deep")[index % 3]
        write_png(where / f"{index}.png", frames[index % 12])
    writer = cv2.VideoWriter(str(folder / "ride.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 72))  # type: ignore[attr-defined, unused-ignore]
    for frame in frames[:FRAMES]:
        writer.write(frame)
    writer.release()
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    (folder / "bad.mp4").write_bytes(b"no video" * 99)
    (folder / "notes.txt").write_text("left out")
    return folder


def asked(stored: Path | str, output: Path | str, form: str, **more: Any) -> ArchiveConfig:
    """The configuration of a small archive on two processes."""
    values = {"workers": 2, "shard_frames": SHARD, **more}
    return ArchiveConfig((str(stored),), model=Path("street"), output=str(output), format=form, **values)


@pytest.fixture(scope="session")
def reference(stored: Path, form: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, segmented by two processes of this machine."""
    output = tmp_path_factory.mktemp("reference") / "out"
    state = archive(asked(stored, output, form)).state
    assert state.is_done and (state.segmented, state.failed, state.skipped) == (PICTURES + FRAMES, 2, 0), state.failures
    return output


def results_in(folder: Path) -> dict[str, bytes]:
    """Every result below a folder: path -> bytes."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name).relative_to(folder)
            # What a process was writing when it was killed has a hidden name.
            if path.parts[0] in ("masks", "frames") and not name.startswith("."):
                found[path.as_posix()] = (folder / path).read_bytes()
    return found


def done_in(folder: Path) -> dict[str, bytes]:
    """Done-files by name; what a kill left of one that was being written has a dot before its name."""
    return {path.name: path.read_bytes() for path in (folder / "done").iterdir() if not path.name.startswith(".")}


def require_same(folder: Path, reference: Path) -> None:
    """No frame is lost, twice, or another one."""
    assert results_in(folder) == results_in(reference)
    assert set(done_in(folder)) == set(done_in(reference))
