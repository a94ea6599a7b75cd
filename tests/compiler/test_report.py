"""The report's page: whole, self-contained, escaped, small, and with the numbers of the report in it."""

from __future__ import annotations

import base64
import itertools
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeseg.bundle import Bundle, Golden, GraphEntry, read_bundle, write_bundle
from edgeseg.compiler.report.charts import Dot, Level, scatter_chart
from edgeseg.compiler.report.page import report_html
from edgeseg.compiler.report.pictures import PICTURE_BYTES, golden_pictures
from edgeseg.recipes import Fp32
from edgeseg.report_data import Report
from edgeseg.spec import ModelSpec
from tests.cli.test_cli import edgeseg, refused
from tests.test_hostile_bundles import packed

_VOID = {"meta", "br"}
LAYERS = [f"/network/encoder/blocks.{i}/conv/Conv_output_0" for i in range(30)]


class Page(HTMLParser):
    """A page taken apart; raises where a tag is not closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, dict[str, list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("caption", "th", "td"):
            self._cell = ""

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> where it does not belong"
        if tag == "caption":
            self._caption = self._cell
        elif tag in ("th", "td"):
            self._rows[-1].append(" ".join(self._cell.split()))
        elif tag == "table":
            self.tables[self._caption] = {row[0]: row[1:] for row in self._rows}

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        self._cell = getattr(self, "_cell", "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, caption: str) -> dict[str, list[str]]:
        return next(table for title, table in self.tables.items() if caption in title)


def _measured(
    spec: ModelSpec, *, loss: float = 0.0, of_cars: float = 0.0, refused: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What a report holds for a graph that loses so much IoU in every class, and more of cars."""
    iou = {name: 0.5 + 0.03 * i - loss - of_cars * (name == "car") for i, name in enumerate(spec.classes)}
    return {
        "images": 101, "agreement": 1 - abs(loss), "boundary_agreement": 1 - 4 * abs(loss),
        "miou": sum(iou.values()) / len(iou), "pixel_accuracy": 0.9 - loss, "iou": iou, "refused": list(refused),
        "size_bytes": 3_557_205, "int8_convolutions": [61, 61], "float_layers": [], "tried": [],
    }  # fmt: skip


def _report(spec: ModelSpec) -> dict[str, Any]:
    """A report that holds every part that there is."""
    graphs = {
        "fp32": {**_measured(spec), "int8_convolutions": [0, 61]},
        "int8-tensorrt": _measured(spec, loss=0.002, of_cars=0.009),
        "int8-cpu": _measured(spec, loss=-0.0012, of_cars=0.0187),
        "int8-dynamic": _measured(spec, loss=0.1, of_cars=0.2, refused=("mIoU fell",)),
    }
    points = [
        {**graphs["int8-tensorrt"], "float_layers": LAYERS[:count], "miou": miou, "refused": refused,
         "worst_drop": 0.021, "measured_ms": None, "roofline_ms": 0.5 + count / 100}
        for count, miou, refused in ((0, 0.69, ["mIoU fell"]), (1, 0.705, []), (2, 0.704, []), (4, 0.709, []))
    ]  # fmt: skip
    graphs["int8-tensorrt"] = {**graphs["int8-tensorrt"], "float_layers": LAYERS[:1], "tried": points}
    step = {**graphs["fp32"], "miou": 0.7112, "nodes": 128, "size_bytes": 12_260_842}
    finding = {"rule": "opset", "where": "graph", "what": "opset 19 is above 17", "fix": "export again"}
    plan = {
        "kernels": 123, "convolutions": 61, "int8_convolutions": 60, "activation_bytes": 387_118_080,
        "plan_bytes": 41_361_916, "build_s": 10.75, "tensorrt_rtx": "1.7.1",
        "float_round_trips": [{"tensor": "1x24x96x120 Half", "written_by": ["a"], "read_by": ["b"]}],
    }  # fmt: skip
    return {
        "schema": 2,
        "evaluation_data": "101 images in camvid/val",
        "gate": True,
        "limits": {"max_drop": 0.01, "max_class_drop": 0.03, "min_agreement": 0.95, "min_boundary_agreement": 0.8},
        "graphs": graphs,
        "steps": [{**step, "step": "folded FP32 graph"}, {**step, "step": "cross-layer equalisation", "miou": 0.72}],
        "calibration": {
            "data": "300 images in my/frames", "sha256": "ab" * 32, "images": 300, "duplicates": 7, "near_black": 2,
            "near_white": 1, "labelled": 300, "class_shares": {"sky": 0.4, "road": 0.59995, "pole": 0.00005},
            "warnings": ["7 of 300 calibration images repeat an earlier one"],
        },
        "sensitivity": [{"layer": layer, "error": 0.1, "sqnr_db": 20.0 + i} for i, layer in enumerate(LAYERS)],
        "lint": {
            "int8-cpu": {"jetpack-5.1": []},
            "int8-tensorrt": {"jetpack-5.1": [{**finding, "severity": "error"}], "jetpack-6.1": []},
        },
        "kernel_plans": {"int8-tensorrt": {"SM75": plan, "SM86": plan}},
        "notes": ["a note of the compiler", "7 of 300 calibration images repeat an earlier one"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def bundle(shipped: Bundle) -> Bundle:
    recipe = {"epochs": 8, "average_decay": 0.99}
    training = {"epoch": 7, "recipe": recipe, "val_miou": 0.7112, "validation_data": "101 images in camvid/val"}
    provenance = {"network": {"architecture": "edge_unet", "encoder": "mobilenet_v2"}, "training": training}
    return replace(shipped, report=Report.from_json(_report(shipped.spec)), provenance=provenance, page=None)


@pytest.fixture(scope="module")
def html(bundle: Bundle) -> str:
    return report_html(bundle)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def plain(spec: ModelSpec) -> Bundle:
    """Only the FP32 graph, nothing measured."""
    return Bundle(spec, {"fp32": GraphEntry(b"onnx", Fp32())})


def test_a_page_loads_nothing_and_leads_nowhere_else(html: str, page: Page) -> None:
    links = [a[key] for _, a in page.tags for key in ("src", "href", "action", "data", "xlink:href") if key in a]
    assert links and all(link.startswith(("#", "data:image/")) for link in links)
    assert not page.all("script") and not page.all("link") and "@import" not in html and "url(" not in html
    assert "default-src 'none'" in html
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids) and {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_a_page_is_for_everybody(html: str, page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1
    assert "width=device-width" in html and "prefers-color-scheme: dark" in html and "@media print" in html
    assert len(page.all("caption")) == len(page.all("table")) > 5
    for drawing in page.all("svg"):
        assert drawing.get("aria-label") or drawing.get("aria-hidden") or "overflow" in drawing
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))


def test_every_part_has_its_section(page: Page) -> None:
    assert [section["id"] for section in page.all("section")] == [
        "graphs", "classes", "pictures", "about", "steps", "calibration", "layers", "mixes", "lint", "kernels", "notes",
    ]  # fmt: skip


def test_the_numbers_are_those_of_the_report(bundle: Bundle, page: Page) -> None:
    report = bundle.report.to_json()
    measured = report["graphs"]
    fp32, int8 = measured["fp32"], measured["int8-cpu"]
    graphs = page.table("Judged on 101 images in camvid/val")
    row = graphs["int8-cpu"]
    assert row[:2] == ["yes", "cpu"] and row[2:5] == [f"{int8['size_bytes'] / 1e6:.1f}", "61 / 61", "0"]
    assert row[5:7] == [f"{100 * int8['miou']:.2f}", _signed(int8["miou"] - fp32["miou"])]
    drops = {name: fp32["iou"][name] - int8["iou"][name] for name in fp32["iou"]}
    worst = max(drops, key=lambda name: drops[name])
    assert row[7] == f"{worst} {_signed(-drops[worst])}"
    assert row[8:] == [f"{100 * int8['agreement']:.2f}", f"{100 * int8['boundary_agreement']:.2f}"]
    assert graphs["int8-tensorrt"][4] == "1" and graphs["int8-dynamic"][0] == "no, refused"
    classes = page.table("IoU in % on 101 images")
    order = list(classes["class"])
    assert order == ["fp32", "int8-tensorrt", "int8-cpu", "int8-dynamic"]
    for name in bundle.spec.classes:
        for graph, cell in zip(order[1:], classes[name][1:]):
            change = measured[graph]["iou"][name] - fp32["iou"][name]
            assert cell.replace("✗ ", "") == f"{100 * measured[graph]['iou'][name]:.2f} {_signed(change)}"
            assert ("✗" in cell) == (change < -report["limits"]["max_class_drop"])


def _signed(change: float) -> str:
    said = f"{100 * change:+.2f}".replace("-", "−")
    return "0.00" if said[1:] == "0.00" else said


def test_the_other_tables_tell_what_was_found(page: Page) -> None:
    step = page.table("FP32 graph after each step")["cross-layer equalisation"]
    assert step[:4] == ["128", "12.3", "72.00", "+0.88"]
    mixes = page.table("int8-tensorrt: every mix")
    assert mixes["0"][-2:] == ["refused", ""] and mixes["1"][-2:] == ["passes", "chosen"]
    assert mixes["2"][-1] == "" and mixes["4"][-1] == "Pareto front" and mixes["4"][-3] == "0.540"
    assert "CPU ms" not in mixes["float layers"], "nobody measured it"
    plan = page.table("Accepted by TensorRT-RTX 1.7.1")["int8-tensorrt, SM86"]
    assert plan == ["123", "60 of 61", "1", "387", "41.4", "10.8"]
    assert page.table("Findings per target")["jetpack-5.1"] == ["1 error", "nothing"]
    layers = page.table("As 'edgeseg compile --float-layer' takes them")
    assert list(layers)[1:] == LAYERS and layers[LAYERS[0]] == ["20.0 dB", "int8-tensorrt"]
    for said in ("opset 19 is above 17", "Fix: export again", "under 0.01 %", "300 images in my/frames"):
        assert said in page.text
    assert page.text.count("7 of 300 calibration images repeat") == 1, "a warning is not a note as well"
    assert "weights after 8 of 8 epochs" in page.text and "mIoU 71.12 on 101 images in camvid/val" in page.text


def test_the_verdict_stands_first(bundle: Bundle, plain: Bundle) -> None:
    graphs = {name: GraphEntry(b"onnx", entry.recipe) for name, entry in bundle.graphs.items()}
    light = replace(plain, spec=bundle.spec, graphs=graphs)

    def told(**changes: Any) -> str:
        return Page(report_html(replace(light, report=Report.from_json({**bundle.report.to_json(), **changes})))).text

    text = told()
    assert "gate passed int8-tensorrt and int8-cpu (car loses most, 1.75 points in int8-cpu);" in text
    assert "it refused int8-dynamic, which is not in the bundle." in text
    assert "int8-tensorrt is not for jetpack-5.1." in text
    assert "NO GATE" not in text and "Smoke test" not in text
    assert "NO GATE" in told(gate=False) and "would have passed" in told(gate=False)
    assert "Smoke test, no accuracy: judged on 4 golden frames" in told(evaluation_data="4 golden frames of the bundle")
    bare = {name: {"agreement": 0.987, "miou": None} for name in ("fp32", "int8-cpu")}
    unlabelled = told(graphs=bare)
    assert "No labels:" in unlabelled and "at least 98.70 % of pixels agree with FP32" in unlabelled


def test_what_users_write_is_text(plain: Bundle) -> None:
    evil = "<script>alert(1)</script>"
    image = '"><img src=x onerror=alert(1)>'
    spec = replace(plain.spec, classes=(evil, image, "a & b"))
    accuracy = {"miou": 0.5, "pixel_accuracy": 0.5, "agreement": 1.0, "iou": dict.fromkeys(spec.classes, 0.5)}
    report = {
        "evaluation_data": evil,
        "graphs": {"fp32": accuracy, image: {**accuracy, "refused": [evil]}},
        "notes": [evil],
        "sensitivity": [{"layer": image, "error": 1.0, "sqnr_db": 3.0}],
        "lint": {image: {evil: [{"severity": "error", "what": evil, "where": image, "fix": evil, "rule": evil}]}},
        "calibration": {"data": evil, "images": 1, "labelled": 0, "duplicates": 0, "near_black": 0, "near_white": 0,
                        "class_shares": {evil: 1.0}, "warnings": [evil]},
    }  # fmt: skip
    provenance = {"network": evil, "note": image, "x_sha256": evil, "training": {"recipe": {evil: image}}}
    frames = np.zeros((1, 64, 96, 3), np.uint8)
    golden = Golden(frames, frames[..., 0], frames[..., 0])
    page = Page(
        report_html(replace(plain, spec=spec, report=Report.from_json(report), provenance=provenance, golden=golden))
    )
    assert not page.all("script") and not page.all("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(evil) > 8 and image in page.text and "a & b" in page.text


def test_pictures_are_pictures(bundle: Bundle, page: Page) -> None:
    assert bundle.golden is not None
    images = [_decoded(attributes["href"]) for attributes in page.all("image")]
    of_one_frame = 1 + 1 + 2 * 2  # itself, FP32, and for each INT8 graph its classes and the difference
    assert len(images) == 4 * of_one_frame and all(image.shape[:2] == (360, 480) for image in images)
    palette = np.asarray(bundle.spec.palette)[:, ::-1]
    for number in range(4):
        frame, fp32, *_ = images[number * of_one_frame :]
        assert np.abs(frame.astype(int) - bundle.golden.frames[number]).mean() < 8
        assert np.array_equal(fp32, palette[bundle.golden.classes[number]])


def test_single_pixels_that_differ_are_seen_and_say_who_is_right(spec: ModelSpec) -> None:
    expected, label = np.zeros((1, 64, 96), np.uint8), np.zeros((1, 64, 96), np.uint8)
    found = expected.copy()
    found[0, 10, 20], found[0, 30, 40], found[0, 50, 60] = 1, 1, 1
    label[0, 30, 40], label[0, 50, 60] = 1, spec.ignore_id
    golden = Golden(np.zeros((1, 64, 96, 3), np.uint8), label, expected)
    page = Page(golden_pictures(golden, {"int8": found}, spec))
    spots = _decoded(page.all("image")[-1]["href"])
    orange, blue, white = spots[10, 20], spots[30, 40], spots[50, 60]
    assert orange[2] > orange[0] and blue[0] > blue[2] and white[0] == white[2] == 255
    assert np.count_nonzero(spots[..., 3]) == 3 * 9
    assert "FP32 is right in 1, INT8 in 1, neither in 1" in page.text and "road → car" in page.text


def test_pictures_that_are_too_large_are_made_smaller(spec: ModelSpec) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 360, 480, 3), dtype=np.uint8)
    maps = np.zeros((6, 360, 480), np.uint8)
    pictures = golden_pictures(Golden(frames, maps, maps), {"int8": maps}, spec)
    images = [_decoded(attributes["href"]) for attributes in Page(pictures).all("image")]
    assert len(pictures) <= PICTURE_BYTES and len(images) == 4 * 4
    assert {image.shape[:2] for image in images} == {(270, 360)}, "three quarters of the size"


def test_the_page_of_the_shipped_model_is_small(html: str) -> None:
    assert len(html.encode()) < 500_000


def test_what_a_bundle_lacks_is_left_out(plain: Bundle) -> None:
    page = Page(report_html(plain))
    assert [section["id"] for section in page.all("section")] == ["graphs", "about"]
    assert "Nothing was measured." in page.text
    assert page.table("What is in the bundle")["fp32"][:3] == ["yes", "any", "0.0"]
    only = {"graphs": {"fp32": {"miou": 0.7, "iou": {"road": 0.7, "car": None}, "agreement": 1.0}}}
    assert "nothing for the gate to judge" in Page(report_html(replace(plain, report=Report.from_json(only)))).text


def test_a_page_does_not_change_on_the_way_through_a_file(bundle: Bundle, tmp_path: Path) -> None:
    """Files sort the keys of what they hold."""
    other = replace(
        bundle,
        report=Report.from_json(_backwards(bundle.report.to_json())),
        provenance=_backwards(bundle.provenance),
        golden=None,
    )
    write_bundle(other, tmp_path / "m.edgeseg")
    assert report_html(read_bundle(tmp_path / "m.edgeseg")) == report_html(other)


def _backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _backwards(value[key]) for key in reversed(list(value))}
    return [_backwards(item) for item in value] if isinstance(value, list) else value


def test_file_names_that_are_no_text_do_not_break_a_page(plain: Bundle) -> None:
    page = report_html(replace(plain, provenance={"note": "images in caf\udce9"}))
    assert "images in caf?" in page.encode().decode()


@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0 + 1e-15), (1e9, 1e9), (-3.0, 1e-7), (0.1, 7e6)])
def test_charts_hold_any_numbers(values: tuple[float, float]) -> None:
    kinds = itertools.cycle(("chosen", "front", "passes", "refused"))
    dots = [Dot(x, y, str(i), next(kinds), True) for i, (x, y) in enumerate(itertools.product(values, values))]
    page = Page(scatter_chart("chart", dots, [Level(values[0], "level")], "x", "y"))
    places = [value for _, a in page.tags for key in ("x", "x1", "x2") if (value := a.get(key, "")).endswith("%")]
    assert places and all(0 <= float(place[:-1]) <= 100 for place in places)
    assert 3 <= sum(attributes.get("class") == "grid" for attributes in page.all("line")) <= 20


def test_inspect_writes_the_page(bundle: Bundle, tmp_path: Path) -> None:
    made, stored = tmp_path / "made.edgeseg", tmp_path / "stored.edgeseg"
    write_bundle(replace(bundle, golden=None, report=replace(bundle.report, gate=False)), made)
    write_bundle(replace(bundle, page="<p>as it was compiled</p>"), stored)
    done = edgeseg("inspect", made, "--html", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>") and "wrote r.html" in done.stdout
    assert "NO GATE" in done.stdout and "weights after 8 of 8 epochs; average decay 0.99" in done.stdout
    pole = next(line for line in done.stdout.splitlines() if " pole " in line)
    measured = [bundle.report.graphs[name].accuracy.iou["pole"] for name in ("fp32", "int8-tensorrt", "int8-cpu")]
    assert re.findall(r"\d+\.\d+", pole) == [f"{100 * iou:.2f}" for iou in measured]
    assert edgeseg("inspect", stored, "--html", "r.html", "--json", cwd=tmp_path).returncode == 0
    made_anew = (tmp_path / "r.html").read_text()
    assert "as it was compiled" not in made_anew and made_anew.startswith("<!doctype html>")


def test_inspect_never_overwrites_a_bundle_and_names_a_report_it_cannot_read(bundle: Bundle, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.edgeseg", tmp_path / "m.edgeseg"
    write_bundle(bundle, whole)
    with zipfile.ZipFile(whole) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    whole.unlink()
    packed(path, {**entries, "report.json": b'{"graphs": {"fp32": 3}}'})
    assert "must be NAME.html" in refused("inspect", "--html", "m.edgeseg", cwd=tmp_path, code=2)
    assert "a report that this edgeseg cannot read" in refused("inspect", path, cwd=tmp_path)
    assert "a report that this edgeseg cannot read" in refused("inspect", path, "--html", "r.html", cwd=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.edgeseg"]


def _decoded(uri: str) -> np.ndarray:
    kind, data = uri.split(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image)
