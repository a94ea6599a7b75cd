"""What an archive costs: the plan of many pictures, and frames per second with more processes.

    python benchmarks/archive.py plan --pictures 10000000
    python benchmarks/archive.py work --pictures 2000 --workers 1 2

``plan`` lists folders of a thousand pictures each that are not on a disk, so that what it measures is ours: listing,
tasks and the file of them. ``--on-disk FOLDER`` makes empty files there first, and lists these.
``work`` renders pictures of the street, segments them, and repeats that with each number of processes.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Iterator

from edgeseg.app.archive import archive
from edgeseg.app.archive_config import ArchiveConfig
from edgeseg.app.shipped import SHIPPED
from edgeseg.archive.listing import Found, Origin
from edgeseg.archive.places import LocalPlace, Stored, place_at
from edgeseg.archive.plan import Wish, make_plan
from edgeseg.demo.street import StreetDataset
from edgeseg.images import write_png

_FOLDER = 1000
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


def work(pictures: int, workers: list[int]) -> None:
    """Segment pictures with each number of processes and print the rates."""
    with tempfile.TemporaryDirectory() as folder:
        street = StreetDataset("demo://street?frames=50&size=480x360&step=5")
        frames = [street[index].frame for index in range(50)]
        (source := Path(folder, "in")).mkdir()
        for index in range(pictures):
            write_png(source / f"{index:06d}.png", frames[index % len(frames)])
        for count in workers:
            output = str(place_at(str(Path(folder, f"out{count}"))).place)
            began = time.perf_counter()
            config = ArchiveConfig((str(source),), model=Path("street"), output=output, workers=count, shard_frames=100)
            state = archive(config).state
            wall_s = time.perf_counter() - began
            print(f"{count} processes: {state.segmented} frames in {wall_s:.1f} s, {state.segmented / wall_s:.1f} fps")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    planned, worked = kinds.add_parser("plan"), kinds.add_parser("work")
    planned.add_argument("--pictures", type=int, default=10_000_000)
    planned.add_argument("--on-disk", type=Path)
    worked.add_argument("--pictures", type=int, default=2000)
    worked.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    if asked.kind == "plan":
        plan(asked.pictures, asked.on_disk)
    else:
        work(asked.pictures, asked.workers)


if __name__ == "__main__":
    main()
