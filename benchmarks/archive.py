"""What an archive costs: the plan of many pictures, and frames per second with more processes.

    python benchmarks/archive.py plan --pictures 10000000
    python benchmarks/archive.py work --pictures 2000 --videos 3

``plan`` lists folders of a thousand pictures each that are not on a disk, so that what it measures is ours: listing,
tasks and the file of them. ``--on-disk FOLDER`` makes empty files there first, and lists these.
``work`` renders pictures and videos of the street and segments them with one process and with two, as two shares, with
Dask and with Ray, two workers each. It says how fast each was, and whether all gave the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator

from edgeseg.app.archive import archive, archive_state
from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.app.shipped import SHIPPED
from edgeseg.archive.listing import Found, Origin
from edgeseg.archive.places import LocalPlace, Stored
from edgeseg.archive.plan import Wish, make_plan
from edgeseg.archive.state import State
from edgeseg.demo.street import StreetDataset
from edgeseg.errors import MissingDependencyError, require
from edgeseg.images import write_png

_FOLDER = 1000
VIDEO_FRAMES = 60
"""Frames of each video of ``work``."""
_WISH = Wish("0" * 64, "street.edgeseg", "", "png", 1000)


class Rendered(Origin):
    """Folders of pictures that are on no disk, sorted out as those of a disk are."""

    pictures = 0

    def found(self) -> Iterator[Found]:
        """Yield the pictures, folder by folder."""
        for folder in range(self.pictures // _FOLDER):
            where = f"camera/{folder:06d}"
            files = [Stored(f"{where}/{one:06d}.jpg", 100_000 + one, 10**18 + one) for one in range(_FOLDER)]
            yield from self._sorted_out(files)


def plan(pictures: int, on_disk: Path | None) -> None:
    """Make a plan and print what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        origin = Rendered("rendered", folder)
        origin.pictures = pictures
        if on_disk is not None:
            _make_files(on_disk, pictures)
            origin = Origin(str(on_disk), str(on_disk))  # type: ignore[assignment]
        place = LocalPlace(str(Path(folder, "out")))
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, cpu = time.perf_counter(), time.process_time()
        made = make_plan(place, [origin], _WISH, SHIPPED, print)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        began = time.perf_counter()
        tasks = sum(1 for _ in made.all_tasks(place))
        read_s = time.perf_counter() - began
        size = Path(place.url(made.lines)).stat().st_size
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    print(
        f"{made.pictures} pictures, {tasks} tasks, {size / 2**20:.0f} MiB: planned in {wall_s:.1f} s ({cpu_s:.1f} s of "
        f"CPU), read again in {read_s:.1f} s; the process grew by {grown:.0f} MiB"
    )


def _make_files(folder: Path, pictures: int) -> None:
    for number in range(pictures // _FOLDER):
        inner = folder / f"{number:06d}"
        inner.mkdir(parents=True, exist_ok=True)
        for one in range(_FOLDER):
            (inner / f"{one:06d}.jpg").touch()


def work(pictures: int, videos: int, size: str, on: list[str]) -> bool:
    """Segment the same archive in each way, print the rates, and return whether all gave the same bytes."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = _rendered(Path(folder, "in"), pictures, videos, size)
        ways: dict[str, Callable[[Path], State]] = {
            "1 process": lambda output: _segmented(source, output, workers=1),
            "2 processes": lambda output: _segmented(source, output, workers=2),
            "shares 0/2 and 1/2": lambda output: _shares(source, output),
            "dask": lambda output: _on_dask(source, output),
            "ray": lambda output: _segmented(source, output, workers=2, on="ray"),
        }
        print(f"{pictures} pictures and {videos} videos of {VIDEO_FRAMES} frames, {size}, on {os.cpu_count()} cores")
        for name, way in ways.items():
            if on and name not in on:
                continue
            output = Path(folder, name.replace("/", "-"))
            began = time.perf_counter()
            try:
                state = way(output)
            except MissingDependencyError as error:
                print(f"{name:20} not run: {error}")
                continue
            wall_s = time.perf_counter() - began
            assert state.is_done and not state.failed and not state.skipped, state.to_json()
            assert state.segmented == pictures + videos * VIDEO_FRAMES
            found[name] = _digest(output)
            print(
                f"{name:20} {state.segmented} frames in {wall_s:6.1f} s, {state.segmented / wall_s:6.1f} per second, "
                f"results {found[name]}",
                flush=True,
            )
    same = len(set(found.values())) == 1
    print(f"{len(found)} ways: {'the same bytes' if same else 'OTHER BYTES'}")
    return same


def _rendered(source: Path, pictures: int, videos: int, size: str) -> Path:
    import cv2

    street = StreetDataset(f"demo://street?frames=50&size={size}&step=5")
    frames = [street[index].frame for index in range(50)]
    source.mkdir()
    for index in range(pictures):
        write_png(source / f"{index:06d}.png", frames[index % len(frames)])
    height, width = frames[0].shape[:2]
    for number in range(videos):
        fourcc = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined, unused-ignore]
        writer = cv2.VideoWriter(str(source / f"{number}.mp4"), fourcc, 25, (width, height))
        for index in range(VIDEO_FRAMES):
            writer.write(frames[(number + index) % len(frames)])
        writer.release()
    return source


def _segmented(source: Path, output: Path, **how: Any) -> State:
    config = ArchiveConfig((str(source),), model=Path("street"), output=str(output), shard_frames=100, **how)
    return archive(config).state


def _shares(source: Path, output: Path) -> State:
    """Let two drivers of one process each work side by side, as two jobs of an array do."""
    program = (
        "import sys; from pathlib import Path; from benchmarks.archive import _segmented;"
        "_segmented(Path(sys.argv[1]), Path(sys.argv[2]), workers=1, shard=sys.argv[3])"
    )
    here = str(Path(__file__).resolve().parents[1])
    jobs = [
        subprocess.Popen([sys.executable, "-c", program, str(source), str(output), shard], cwd=here)
        for shard in ("0/2", "1/2")
    ]
    assert [job.wait() for job in jobs] == [0, 0]
    return archive_state(str(output))


def _on_dask(source: Path, output: Path) -> State:
    distributed = require("distributed", "dask")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.partition("://")[2]
        return _segmented(source, output, on=f"dask://{address}")


def _digest(output: Path) -> str:
    """Return a digest of the names and bytes of all results, and of the names of the shards that are done."""
    digest = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        if path.is_file() and name.parts[0] in ("masks", "frames", "done"):
            digest.update(os.fsencode(name) + b"\0" + (b"" if name.parts[0] == "done" else path.read_bytes()))
    return digest.hexdigest()[:16]


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    planned, worked = kinds.add_parser("plan"), kinds.add_parser("work")
    planned.add_argument("--pictures", type=int, default=10_000_000)
    planned.add_argument("--on-disk", type=Path)
    worked.add_argument("--pictures", type=int, default=2000)
    worked.add_argument("--videos", type=int, default=3)
    worked.add_argument("--size", default="96x72", help="of pictures and videos")
    worked.add_argument("--on", nargs="+", default=[], help="only these ways")
    asked = parser.parse_args()
    if asked.kind == "plan":
        plan(asked.pictures, asked.on_disk)
    elif not work(asked.pictures, asked.videos, asked.size, asked.on):
        sys.exit(1)


if __name__ == "__main__":
    main()
