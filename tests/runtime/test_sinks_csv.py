from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.errors import SinkError
from edgeseg.runtime.sinks.csv_file import CsvSink
from edgeseg.spec import ModelSpec
from tests.runtime.results import segmentation

IDS = np.repeat(np.array([0, 0, 1, 2], np.uint8), 64 * 24).reshape(64, 96)


def test_rows_under_one_header(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for index in range(2):  # the second run appends
        with CsvSink(path, spec) as sink:
            sink.write(segmentation(IDS, index, 'the "door", left'))
            sink.write(segmentation(IDS, index, confidence=np.array([0.5, 0.25, 1], np.float32)))
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[0] == {
        "source": 'the "door", left',
        "frame": "0",
        "name": "000000",
        "time_s": "",
        "preprocess_ms": "",
        "infer_ms": "12.346",
        "postprocess_ms": "",
        "frame_ms": "15.000",
        "area road": "0.50000",
        "area car": "0.25000",
        "area sky": "0.25000",
        "confidence road": "",
        "confidence car": "",
        "confidence sky": "",
    }
    assert [rows[3][f"confidence {name}"] for name in spec.classes] == ["0.5000", "0.2500", "1.0000"]


def test_a_file_of_other_classes_is_refused_and_kept(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    CsvSink(path, spec).close()
    before = path.read_bytes()
    with pytest.raises(SinkError, match="another header.*name a new file"):
        CsvSink(path, replace(spec, classes=("road", "bus", "sky")))
    assert path.read_bytes() == before


def test_a_name_with_a_line_end_stays_one_row(spec: ModelSpec, tmp_path: Path) -> None:
    with CsvSink(tmp_path / "a.csv", spec) as sink:
        sink.write(segmentation(IDS, source="a\nb"))
    assert len((tmp_path / "a.csv").read_bytes().splitlines()) == 2
