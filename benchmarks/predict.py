"""Memory, seams and accuracy of ``edgeseg predict``: ``python benchmarks/predict.py [--camvid FOLDER]``.

The large picture is a mosaic of rendered streets, 12,000 x 9,000 unless ``--size`` says otherwise. Its memory is the
peak of a process of its own. Seams are looked for in one rendered street of nine times the network's pixels: the class
map is compared with the middle of windows that lie elsewhere, and class changes are counted at the borders of windows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeseg.app.data import dataset_from
from edgeseg.app.predict import open_predictor
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import read_bundle
from edgeseg.demo.street import StreetDataset
from edgeseg.images import write_png
from edgeseg.metrics import ConfusionMatrix
from edgeseg.prediction.predictor import PredictOptions
from edgeseg.prediction.tiles import window_starts

VIEWS = {
    "one view": PredictOptions(),
    "mirrored": PredictOptions(flip=True),
    "scales 0.75, 1, 1.33": PredictOptions(scales=(0.75, 1.0, 1.33)),
    "scales 0.75, 1, 1.33, mirrored": PredictOptions(scales=(0.75, 1.0, 1.33), flip=True),
}
# What the kernel says of a child's memory counts its parent's, too; the high-water mark of the process does not.
_PREDICT = """
import atexit
from pathlib import Path
from edgeseg.cli.main import main
lines = lambda: Path("/proc/self/status").read_text().splitlines()
atexit.register(lambda: print(*(line for line in lines() if "VmHWM" in line)))
main()
"""


def mosaic(width: int, height: int) -> np.ndarray:
    """Render streets beside and above each other: height x width x 3 uint8."""
    dataset = StreetDataset("demo://street?frames=24&step=40&size=960x720")
    streets = [dataset[index].frame for index in range(len(dataset))]
    row = np.concatenate(streets[: -(-width // 960)], axis=1)[:, :width]
    rows = [np.roll(row, 960 * index, axis=1) for index in range(-(-height // 720))]
    return np.ascontiguousarray(np.concatenate(rows)[:height])


def memory(width: int, height: int) -> None:
    """Predict a large picture in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        write_png(Path(name) / "large.png", mosaic(width, height))
        began = time.perf_counter()
        command = [sys.executable, "-c", _PREDICT, "predict", "large.png", "--tiles", "-o", "out"]
        done = subprocess.run(command, cwd=name, check=True, stdout=subprocess.PIPE, text=True)
        peak_gb = int(done.stdout.split()[-2]) / 1e6
        print(f"{width} x {height}: {time.perf_counter() - began:.0f} s, peak {peak_gb:.2f} GB")


def seams() -> None:
    """Print how many pixels differ from windows that meet elsewhere, and how visible the borders of windows are."""
    bundle = read_bundle(SHIPPED)
    tall, wide = bundle.spec.size_hw
    picture = StreetDataset("demo://street?frames=1&step=40&size=1440x1080")[0].frame
    middle = np.s_[3 * tall // 8 : -3 * tall // 8, 3 * wide // 8 : -3 * wide // 8]
    places = [
        np.s_[top : top + tall, left : left + wide]
        for top in range(tall // 4, picture.shape[0] - tall, tall // 2)
        for left in range(wide // 4, picture.shape[1] - wide, wide // 2)
    ]
    with open_predictor(bundle) as plain:
        alone = {str(place): plain.predict(picture[place]).classes for place in places}
    for overlap in (0.0, 0.25, 0.5, 0.75):
        with open_predictor(bundle, PredictOptions(tiles=True, overlap=overlap)) as predictor:
            classes = predictor.predict(picture).classes
        equal = np.mean([(alone[str(place)][middle] == classes[place][middle]).mean() for place in places])
        changes = (classes[:, 1:] != classes[:, :-1]).mean(axis=0)
        starts = window_starts(picture.shape[1], wide, overlap)
        borders = np.array([x - 1 for start in starts for x in (start, start + wide) if 0 < x < picture.shape[1]])
        visible = changes[borders].mean() / np.median(changes)
        print(
            f"overlap {overlap}: {100 * equal:.2f} % as in the middle of a window alone; class changes at the borders "
            f"of windows {visible:.2f} times those elsewhere"
        )


def accuracy(where: str) -> None:
    """Print mIoU per kind of view."""
    bundle = read_bundle(SHIPPED)
    dataset = dataset_from(where, spec=bundle.spec, need_labels=True)
    for name, options in VIEWS.items():
        confusion, began = ConfusionMatrix(len(bundle.spec.classes), bundle.spec.ignore_id), time.perf_counter()
        with open_predictor(bundle, options) as predictor:
            for sample in map(dataset.__getitem__, range(len(dataset))):
                assert sample.label is not None
                confusion.update(predictor.predict(sample.frame).classes, sample.label)
        each_ms = 1e3 * (time.perf_counter() - began) / len(dataset)
        print(f"{name}: mIoU {100 * confusion.miou():.2f}, {each_ms:.0f} ms a picture")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="12000x9000", help="of the large picture, WIDTHxHEIGHT")
    parser.add_argument("--camvid", help="folder of CamVid's val, for the accuracy of views")
    chosen = parser.parse_args()
    seams()
    memory(*map(int, chosen.size.split("x")))
    if chosen.camvid:
        accuracy(chosen.camvid)
