"""Judge recipes on drives that they have not seen: CamVid train without one of its three drives, which is the test.

    python benchmarks/drives.py run --camvid FOLDER --recipe street --fold 1 --seed 0 [--int8]
    python benchmarks/drives.py table

A run trains by ``edgeseg train`` (``calibration/street_recipes.py`` has the options), takes the last averaged weights,
and adds rows to ``drives.csv``: the images of the drive as they are, and changed as ``CONDITIONS`` say. Nothing of the
drive decides anything: it is validated on at the end, and no epoch is chosen. ``table`` writes ``drives.md``.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "calibration"))
from street_recipes import RECIPES, arguments_of  # noqa: E402

from edgeseg import ConfusionMatrix, ModelSpec, open_predictor, read_bundle  # noqa: E402
from edgeseg.app.data import dataset_from, spec_from  # noqa: E402
from edgeseg.prediction.predictor import PredictOptions  # noqa: E402

TABLE = HERE / "drives.csv"
FOLDS = 3
_HEAD = """# Recipes on drives that they have not seen

CamVid's 367 training images come from three drives. A run trains on two of them and is judged on the third, at 480x360.
The last averaged weights are judged. No epoch, rate or weight is chosen on the drive.
[drives.csv](drives.csv) has every number. The recipes are in [street_recipes.py](../calibration/street_recipes.py).

```
python benchmarks/drives.py run --camvid FOLDER --recipe street --fold 1 --seed 0 --int8
python benchmarks/drives.py table
```
"""
_FACTS = ("recipe", "drive", "seed", "epochs", "graph", "condition", "images", "minutes", "date", "machine", "miou")

_RUN = ("recipe", "drive", "seed", "graph", "condition")
"""What tells rows apart."""


def _gamma(image: np.ndarray) -> np.ndarray:
    return np.rint(255 * (image / 255.0) ** 1.6).astype(np.uint8)


def _gains(*blue_green_red: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.clip(np.rint(image * np.array(blue_green_red)), 0, 255).astype(np.uint8)


def _blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2))


def _jpeg(image: np.ndarray) -> np.ndarray:
    written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR))


CONDITIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "gamma 1.6": _gamma,
    "warm": _gains(0.85, 1.0, 1.15),
    "cold": _gains(1.15, 1.0, 0.85),
    "blur 1.2 px": _blurred,
    "JPEG 30": _jpeg,
}
"""What is done to the images of the drive, HxWx3 uint8 BGR."""


def edgeseg(*arguments: object) -> None:
    """Run one command of the package and stop if it fails."""
    print("$ edgeseg", shlex.join(map(str, arguments)), flush=True)
    subprocess.run([sys.executable, "-m", "edgeseg", *map(str, arguments)], check=True)


def sides(camvid: Path, fold: int) -> tuple[str, str]:
    """The data of a fold to train on, and the drive that is left out."""
    split = f"data://{camvid / 'train'}?split=prefix&fold={fold}/{FOLDS}&part="
    return f"{split}train", f"{split}val"


def scores(checkpoint: Path, drive: str, spec: ModelSpec) -> Iterator[tuple[str, np.ndarray, int]]:
    """The IoU per class of a checkpoint on a drive under every condition."""
    data = dataset_from(drive, spec=spec, need_labels=True)
    with open_predictor(checkpoint, PredictOptions(scales=(1.0,), flip=False)) as predictor:
        for condition, change in CONDITIONS.items():
            counts = ConfusionMatrix(len(spec.classes), spec.ignore_id)
            for index in range(len(data)):
                _, frame, label = data[index]
                assert label is not None
                counts.update(predictor.predict(change(frame)).classes, label)
            yield condition, counts.iou(), len(data)


def add_rows(rows: Sequence[Mapping[str, object]], classes: Sequence[str]) -> None:
    """Add rows to the table."""
    is_new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_FACTS, *classes], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def run(options: argparse.Namespace) -> None:
    """Train without a drive, and add what comes of it to the table."""
    train_on, drive = sides(options.camvid, options.fold)
    name = f"{options.recipe}-{options.fold}-{options.seed}"
    folder = options.runs / name
    changes = {"epochs": options.epochs} if options.epochs else {}
    common = ("--classes", "camvid", "--seed", options.seed, "--workers", 1, "--val-every", 1_000_000)
    resume = ("--resume",) if (folder / "resume.safetensors").exists() else ()
    started = time.monotonic()
    edgeseg(
        "train", train_on, "--val", drive, *arguments_of(options.recipe, **changes), *common, "--out", folder, *resume
    )
    minutes = (time.monotonic() - started) / 60
    spec = spec_from("camvid", "480x360", None)
    left_out = Path(dataset_from(drive, spec=spec)[0][0]).stem.split("_")[0]
    facts = {
        "recipe": options.recipe,
        "drive": left_out,
        "seed": options.seed,
        "epochs": changes.get("epochs", RECIPES[options.recipe]["--epochs"]),
        "minutes": f"{minutes:.0f}" if not resume else "",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
    }

    def row(graph: str, condition: str, iou: Mapping[str, float], images: int) -> dict[str, object]:
        values = {one: f"{value:.4f}" for one, value in iou.items()}
        mean = f"{np.nanmean(list(iou.values())):.4f}"
        return {**facts, "graph": graph, "condition": condition, "images": images, "miou": mean, **values}

    rows = [
        row("checkpoint", condition, dict(zip(spec.classes, iou)), images)
        for condition, iou, images in scores(folder / "last.safetensors", drive, spec)
    ]
    if options.int8:
        bundle = options.runs / f"{name}.edgeseg"
        edgeseg("compile", folder / "last.safetensors", "--int8", "--calib", train_on, "--eval", drive, "-o", bundle)
        rows += [
            row(graph.name, "as it is", graph.accuracy.iou, graph.accuracy.images)
            for graph in read_bundle(bundle).report.graphs.values()
        ]
    add_rows(rows, spec.classes)
    for one in rows:
        print(f"{one['graph']:20} {one['condition']:12} {one['miou']}")


def table() -> None:
    """Write the page of what was measured."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        # A run that was finished again has its rows twice; the later ones count.
        rows = list({tuple(row[name] for name in _RUN): row for row in csv.DictReader(file)}.values())
    classes = [name for name in rows[0] if name not in _FACTS]
    recipes = sorted({row["recipe"] for row in rows}, key=list(RECIPES).index)
    text = [_HEAD]
    text += ["## Mean IoU on the drive that is left out, in percent\n", *_drives(rows, recipes)]
    text += ["## Per class, mean of the drives\n", *_classes(rows, recipes, classes)]
    text += ["## Change of mIoU where the light or the camera is another, in points\n", *_conditions(rows, recipes)]
    int8 = _int8(rows, recipes, classes)
    if int8:
        text += ["## INT8 against FP32 on the left-out drive, in points\n", *int8]
    (HERE / "drives.md").write_text("\n".join(text) + "\n", encoding="utf-8")


_Rows = Sequence[Mapping[str, str]]


def _of(rows: _Rows, **facts: str) -> list[Mapping[str, str]]:
    return [row for row in rows if all(row[name] == value for name, value in facts.items())]


def _mean(values: Sequence[float]) -> str:
    return f"{100 * float(np.nanmean(values)):.1f}" if values else ""


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _by_drive(rows: _Rows, column: str) -> dict[str, float]:
    """Drive -> mean over the seeds."""
    drives = sorted({row["drive"] for row in rows})
    return {drive: float(np.nanmean([float(row[column]) for row in _of(rows, drive=drive)])) for drive in drives}


def _drives(rows: _Rows, recipes: Sequence[str]) -> list[str]:
    plain = _of(rows, graph="checkpoint", condition="as it is")
    drives = sorted({row["drive"] for row in plain})
    body = []
    for recipe in recipes:
        of_recipe = _of(plain, recipe=recipe)
        cells = []
        for drive in drives:
            found = [100 * float(row["miou"]) for row in _of(of_recipe, drive=drive)]
            cells.append(", ".join(f"{value:.1f}" for value in found))
        minutes = [float(row["minutes"]) for row in of_recipe if row["minutes"]]
        mean = _mean(list(_by_drive(of_recipe, "miou").values()))
        body.append([recipe, *cells, mean, f"{np.mean(minutes):.0f}" if minutes else ""])
    return _markdown(["recipe", *(f"without {drive} (by seed)" for drive in drives), "mean", "minutes a run"], body)


def _classes(rows: _Rows, recipes: Sequence[str], classes: Sequence[str]) -> list[str]:
    body = []
    for recipe in recipes:
        found = _of(rows, graph="checkpoint", condition="as it is", recipe=recipe)
        body.append([recipe, *(_mean(list(_by_drive(found, name).values())) for name in classes)])
    return _markdown(["recipe", *classes], body)


def _conditions(rows: _Rows, recipes: Sequence[str]) -> list[str]:
    changed = [name for name in CONDITIONS if name != "as it is"]
    body = []
    for recipe in recipes:
        found = _of(rows, graph="checkpoint", recipe=recipe)
        plain = np.mean([float(row["miou"]) for row in _of(found, condition="as it is")])
        means = [np.mean([float(row["miou"]) for row in _of(found, condition=name)]) for name in changed]
        body.append([recipe, *(f"{100 * (mean - plain):+.1f}" for mean in means)])
    return _markdown(["recipe", *changed], body)


def _int8(rows: _Rows, recipes: Sequence[str], classes: Sequence[str]) -> list[str]:
    body = []
    for recipe in recipes:
        for graph in sorted({row["graph"] for row in rows} - {"checkpoint", "fp32"}):
            for one in _of(rows, recipe=recipe, graph=graph):
                same = {name: one[name] for name in ("recipe", "drive", "seed")}
                (before,) = _of(rows, graph="fp32", **same)
                change = {name: 100 * (float(one[name]) - float(before[name])) for name in classes}
                worst = min(change, key=lambda name: change[name])
                drop = 100 * (float(one["miou"]) - float(before["miou"]))
                body.append([*same.values(), graph, f"{drop:+.2f}", f"{worst} {change[worst]:+.2f}"])
    return _markdown(["recipe", "without", "seed", "graph", "mIoU", "worst class"], body) if body else []


def main() -> None:
    """Run or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("--camvid", type=Path, required=True, help="folder with train and trainannot")
    one.add_argument("--recipe", choices=list(RECIPES), required=True)
    one.add_argument("--fold", type=int, choices=range(1, FOLDS + 1), required=True, help="the drive that is left out")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--epochs", type=int, help="fewer or more than the recipe has")
    one.add_argument("--int8", action="store_true", help="compile too, and judge INT8 on the drive")
    one.add_argument("--runs", type=Path, default=HERE.parent / "runs", help="where checkpoints are kept")
    one.set_defaults(does=run)
    commands.add_parser("table").set_defaults(does=lambda options: table())
    options = parser.parse_args()
    options.does(options)


if __name__ == "__main__":
    main()
