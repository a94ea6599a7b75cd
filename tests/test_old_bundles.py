"""A bundle that edgeseg 0.2 wrote (commit 596032d) opens: every recipe and every part of the report."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.compiler.report.summary import cells, graph_rows
from edgeseg.engines.golden import run_self_test
from edgeseg.engines.select import engine_from_bundle
from edgeseg.errors import BundleError
from edgeseg.recipes import FP32, RECIPES, Fp32, StaticInt8, recipe_from_json, recipe_json
from edgeseg.report_data import Report
from tests.test_hostile_bundles import packed

STORED = Path(__file__).parent / "bundles" / "0.2.edgeseg"


@pytest.fixture(scope="module")
def old() -> Bundle:
    return read_bundle(STORED)


@pytest.fixture(scope="module")
def entries() -> dict[str, bytes]:
    return _entries(STORED)


def _entries(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("path", [STORED, SHIPPED], ids=["0.2", "shipped"])
def test_writing_what_was_read_gives_the_same_content(path: Path, tmp_path: Path) -> None:
    """Byte for byte, but for the golden frames: another NumPy heads an array otherwise."""
    write_bundle(read_bundle(str(path)), str(tmp_path / "again.edgeseg"))
    before, after = _entries(path), _entries(tmp_path / "again.edgeseg")
    for archive in (before, after):
        golden = np.load(io.BytesIO(archive.pop("golden.npz")))
        archive["golden"] = {name: (golden[name].shape, golden[name].tobytes()) for name in golden.files}
        archive["manifest"] = json.loads(archive.pop("manifest.json"))
        assert archive["manifest"]["sha256"].pop("golden.npz")
    assert [name for name in before if before[name] != after[name]] == [] and set(before) == set(after)


def test_every_recipe_is_read(old: Bundle) -> None:
    assert set(old.graphs) == {FP32, *RECIPES}
    assert old.graphs[FP32].recipe == Fp32("float16")
    for name, recipe in RECIPES.items():
        found = old.graphs[name].recipe
        plain = replace(found, float_layers=()) if isinstance(found, StaticInt8) else found
        assert plain == recipe and old.graphs[name].target == recipe.target
        assert recipe_from_json(recipe_json(found)) == found


def test_every_part_of_the_report_is_read(old: Bundle) -> None:
    report = old.report
    empty = [part.name for part in fields(Report) if part.name != "_stored" and not getattr(report, part.name)]
    assert set(empty) <= {"gate", "network_is_poor"}
    assert report.gate is False and report.evaluation_data == "20 frames of a test"
    assert report.calibration is not None and report.calibration.examples["duplicates"] == ("07.png",)
    assert report.graphs["int8-cpu"].int8_convolutions == (4, 4) and len(report.graphs["int8-cpu"].tried) > 1
    assert 0 < report.graphs[FP32].accuracy.miou <= 1 and report.kernel_plans["int8-tensorrt"]["SM86"].kernels > 0
    assert old.ranges is not None and old.ranges.calibrator == "percentile" and old.ranges.images == 20


def test_what_is_read_is_all_that_there_is(old: Bundle, entries: dict[str, bytes]) -> None:
    """The typed report, written anew without the stored document, is the stored document."""
    document = json.loads(entries["report.json"])
    assert json.loads(json.dumps(replace(old.report).to_json())) == document
    assert old.ranges is not None and old.ranges.to_json() == json.loads(entries["ranges.json"])


def test_it_runs(old: Bundle) -> None:
    for name in (FP32, "int8-cpu"):
        with engine_from_bundle(old, name) as engine:
            assert run_self_test(engine, old, name).agreement > 0.5


def test_what_a_newer_edgeseg_says_besides_is_kept(tmp_path: Path, entries: dict[str, bytes]) -> None:
    document = {**json.loads(entries["report.json"]), "weather": "fine"}
    newer = packed(tmp_path / "x.edgeseg", {**entries, "report.json": json.dumps(document).encode()})
    write_bundle(read_bundle(newer), tmp_path / "again.edgeseg")
    with zipfile.ZipFile(tmp_path / "again.edgeseg") as archive:
        assert json.loads(archive.read("report.json")) == document


@pytest.mark.parametrize(
    ("entry", "change", "says"),
    [
        ("report.json", {"schema": 3}, "its schema is 3, this edgeseg reads up to 2"),
        ("report.json", {"gate": "yes"}, "gate of the report is 'yes' and no true or false"),
        ("report.json", {"limits": {"min_agreement": math.inf}}, "min_agreement .* no finite number"),
        ("report.json", {"graphs": {"fp32": {"int8_convolutions": [1]}}}, "not two whole numbers"),
        ("ranges.json", {"schema": 2}, "ranges have schema 2, this edgeseg reads up to 1"),
        ("ranges.json", {"tensors": {"x": [2.0, 1.0]}}, "ends before it begins"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, entries: dict[str, bytes], entry: str, change: dict[str, Any], says: str
) -> None:
    changed = json.dumps({**json.loads(entries[entry]), **change}).encode()
    with pytest.raises(BundleError, match=says) as refused:
        read_bundle(packed(tmp_path / "x.edgeseg", {**entries, entry: changed}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"name": "Int4"}, "'Int4'; this edgeseg knows Fp32"),
        ({"name": "Fp32", "colour": 1}, "the knob 'colour', which this edgeseg does not know"),
        ({"name": "StaticInt8", "target": "any"}, "target is 'any'; there are cpu, tensorrt"),
        ({"name": "StaticInt8", "target": "cpu"}, "is for 'tensorrt', but its recipe is for cpu"),
        ({"name": "StaticInt8", "target": "tensorrt", "float_layers": [1]}, "no list of names"),
    ],
)
def test_a_recipe_that_is_not_known_is_one_line(
    tmp_path: Path, entries: dict[str, bytes], recipe: dict[str, Any], says: str
) -> None:
    path = packed(
        tmp_path / "x.edgeseg", entries, lambda manifest: manifest["graphs"]["int8-tensorrt"].update(recipe=recipe)
    )
    with pytest.raises(BundleError, match=says):
        read_bundle(path)


def test_a_graph_that_loses_nothing_has_no_sign(old: Bundle) -> None:
    assert cells(graph_rows(old), ("graph", "drop", "in bundle"))[0] == ["fp32", "0.00", "yes"]
