"""Memory and time of calibration over the number of images, and that its ranges never change.

    python benchmarks/calibration_cost.py --images FOLDER [MODEL.edgeseg | MODEL.safetensors] [--calibrator entropy]

Every count runs in a process of its own; peak memory is the process's maximum resident set, Python and ONNX Runtime
included. The largest count runs a second time with another number of threads: its ranges must be the same bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import read_bundle
from edgeseg.compiler.calibration.collect import ranges_from_frames
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle, float_graph_from_module
from edgeseg.images import FolderDataset
from edgeseg.preprocess import NetworkFrames

COUNTS = (75, 150, 300)


class First:
    """The first images of a data set, read when they are asked for."""

    def __init__(self, data: FolderDataset, count: int) -> None:
        self._data, self._count = data, count
        self.description = f"first {count} of {data.description}"

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> object:
        return self._data[index]


def measure(model: Path, images: Path, count: int, calibrator: str) -> None:
    """Print one JSON line for one count."""
    if model.suffix == ".edgeseg":
        bundle = read_bundle(model)
        graph, spec = float_graph_from_bundle(bundle), bundle.spec
    else:
        from edgeseg.builder.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(model)
        graph, spec = float_graph_from_module(checkpoint.network, checkpoint.spec), checkpoint.spec
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    frames = NetworkFrames(First(FolderDataset(images), count), spec)  # type: ignore[arg-type]
    ranges = ranges_from_frames(graph, frames, calibrator=calibrator)
    seconds = time.perf_counter() - began
    digest = hashlib.sha256(json.dumps([ranges.to_json()["tensors"], ranges.to_json()["means"]]).encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_mb": peak / 1024, "before_mb": before / 1024, "s": seconds, "ranges": digest[:16]}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--calibrator", default="entropy")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        measure(options.model, options.images, options.count, options.calibrator)
        return
    print(f"{options.model.name}, {options.calibrator}, {os.cpu_count()} cores\n")
    print("| images | CPUs | peak MB | seconds | seconds per image | ranges |")
    print("|---|---|---|---|---|---|")
    for count, cpus in [*((count, os.cpu_count() or 1) for count in COUNTS), (COUNTS[-1], 1)]:
        command = [sys.executable, __file__, str(options.model), "--images", str(options.images)]
        command += ["--calibrator", options.calibrator, "--count", str(count)]
        pinned = ["taskset", "-c", f"0-{cpus - 1}", *command]
        got = json.loads(subprocess.run(pinned, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {count} | {cpus} | {got['peak_mb']:.0f} | {got['s']:.1f} | {got['s'] / count:.3f} | {got['ranges']} |"
        )


if __name__ == "__main__":
    main()
