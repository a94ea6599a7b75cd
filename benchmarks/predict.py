"""Memory, seams and accuracy of ``edgeseg predict``: ``python benchmarks/predict.py [--camvid FOLDER]``.

The large picture is a mosaic of rendered streets, 12,000 x 9,000 unless ``--size`` says otherwise. Its memory is the
peak of a process of its own. Seams: the class map is compared with that of windows which meet elsewhere, where both are
in the middle half of their windows.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeseg.app.data import dataset_from
from edgeseg.app.models import SHIPPED
from edgeseg.app.predict import open_predictor
from edgeseg.bundle import read_bundle
from edgeseg.demo.street import StreetDataset
from edgeseg.images import read_mask, write_png
from edgeseg.metrics import ConfusionMatrix
from edgeseg.prediction.predictor import PredictOptions

VIEWS = {
    "one view": PredictOptions(),
    "mirrored": PredictOptions(flip=True),
    "scales 0.75, 1, 1.33": PredictOptions(scales=(0.75, 1.0, 1.33)),
    "scales 0.75, 1, 1.33, mirrored": PredictOptions(scales=(0.75, 1.0, 1.33), flip=True),
}


def mosaic(width: int, height: int) -> np.ndarray:
    """Render streets beside and above each other: height x width x 3 uint8."""
    dataset = StreetDataset("demo://street?frames=24&step=40&size=960x720")
    streets = [dataset[index].frame for index in range(len(dataset))]
    row = np.concatenate(streets[: -(-width // 960)], axis=1)[:, :width]
    rows = [np.roll(row, 960 * index, axis=1) for index in range(-(-height // 720))]
    return np.ascontiguousarray(np.concatenate(rows)[:height])


def memory_and_seams(width: int, height: int) -> None:
    """Predict a large picture in a process of its own, and with windows that meet elsewhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = mosaic(width, height)
        write_png(folder / "large.png", picture)
        began = time.perf_counter()
        command = [sys.executable, "-m", "edgeseg", "predict", "large.png", "--tiles", "-o", "out"]
        subprocess.run(command, cwd=folder, check=True)
        peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{width} x {height}: {time.perf_counter() - began:.0f} s, peak {peak_gb:.2f} GB")
        classes = read_mask(folder / "out" / "masks" / "large.png")
    bundle = read_bundle(SHIPPED)
    tall, wide = bundle.spec.size_hw
    compared = equal = 0
    with open_predictor(bundle) as plain:
        for top in range(tall // 4, height - tall, tall):
            for left in range(wide // 4, width - wide, wide):
                alone = plain.predict(picture[top : top + tall, left : left + wide]).classes
                inner = np.s_[tall // 4 : -tall // 4, wide // 4 : -wide // 4]
                joined = classes[top : top + tall, left : left + wide]
                compared += alone[inner].size
                equal += int((alone[inner] == joined[inner]).sum())
    print(f"agreement with windows alone, in their middle half: {100 * equal / compared:.2f} %")


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
    memory_and_seams(*map(int, chosen.size.split("x")))
    if chosen.camvid:
        accuracy(chosen.camvid)
