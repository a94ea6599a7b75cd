from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from edgeseg.app.bench import BenchReport, bench, compare
from edgeseg.app.bench_beside import Beside
from edgeseg.app.bench_config import BenchConfig
from edgeseg.app.bench_files import bench_csv, bench_html, refuse_taken, write_files
from edgeseg.app.bench_opening import named_models
from edgeseg.app.shipped import SHIPPED
from edgeseg.bench.compare import ratio_in_words
from edgeseg.bench.contenders import torch_contender
from edgeseg.bench.layers import layer_times
from edgeseg.bench.memory import peak_memory_mib
from edgeseg.bundle import read_bundle, write_bundle
from edgeseg.device.telemetry import Sample
from edgeseg.errors import EngineError, InputError, UsageError
from edgeseg.images import write_png
from edgeseg.progress import Progress
from edgeseg.timing import Stopwatch
from tests.engines.tensorrt.rig import Rig
from tests.engines.tensorrt.tiny import tiny_bundle

QUICK = BenchConfig(calls=4, warmup=0.0, torch=False, engine="onnxruntime", memory=False)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BenchReport:
    """Everything at once, of a bundle and of the same one again, by two numbers of threads."""
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "small.edgeseg"
    write_bundle(tiny_bundle(), path)
    for kind, value in (("images", (20, 30, 3)), ("masks", (20, 30))):
        (folder / "data" / kind).mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 3, value, np.uint8)
        write_png(folder / "data" / kind / "a.png", picture * (80 if kind == "images" else 1))
    config = replace(
        QUICK,
        models=(path, path),
        threads=(1, 2),
        data=str(folder / "data"),
        camera_fps=50.0,
        seconds=0.1,
        memory=True,
        layers=True,
    )
    return bench(config)


def test_models_and_threads_are_contenders_of_one_run(report: BenchReport) -> None:
    of_one = ["fp32, 1 threads", "fp32, 2 threads"]
    names = [m.name for m in report.measured]
    assert names == [f"{model}: {one}" for model in ("small", "small (2)") for one in of_one]
    document = report.to_json()
    json.dumps(document)
    first = document["contenders"][0]
    assert first["frames_per_second"] > 0 and first["ms_per_frame"]["count"] == 4 and first["batch"] == 1
    assert (first["model"], first["graph"], first["engine"], first["threads"]) == (
        "small",
        "fp32",
        "onnxruntime",
        1,
    )
    assert first["trtexec_ms"]["Latency"] == first["stages_ms"]["infer"]
    assert 0 < first["miou"] < 1 and first["worst_class"][1] <= first["miou"]
    assert first["camera"]["shown"] >= 1 and first["camera"]["age_ms"]["min_ms"] > 0
    assert 30 < first["peak_memory_mib"] < 2000 and first["graph_mib"] > 0
    assert len(first["layers"]) > 3 and first["layers"][0]["ms"] >= first["layers"][-1]["ms"] > 0


def test_the_page_and_the_table_say_what_was_measured(report: BenchReport, tmp_path: Path) -> None:
    page = bench_html(report)
    assert "<script" not in page and not re.search(r"https?://|src=", page)
    for m in report.measured:
        assert m.name in page and f"{m.frame.p50_ms:.2f} ms, p99 {m.frame.p99_ms:.2f} ms" in page
    assert report.of(report.measured[0]).layers[0].name in page and "Behind a camera" in page and "Soak" not in page
    rows = list(csv.DictReader(bench_csv(report).splitlines()))
    assert len(rows) == 4 * 4 and {row["stage"] for row in rows} == {"frame", "preprocess", "infer", "postprocess"}
    assert float(rows[0]["p50_ms"]) == pytest.approx(report.measured[0].frame.p50_ms, abs=1e-3)
    assert rows[0]["cpu"] == report.device.cpu and rows[0]["width"] == "48"


def test_the_page_and_the_table_say_what_is_missing(report: BenchReport) -> None:
    odd = replace(report, is_interrupted=True, left_out=["x is left out: why"], failed=["y: why"], missing=["torch"])
    page = bench_html(odd)
    for said in ("Interrupted", "x is left out: why", "Not measured: y: why", "torch is not installed"):
        assert said in page and said not in bench_html(report)
    assert odd.to_json()["missing"] == ["torch"]
    assert {row["interrupted"] for row in csv.DictReader(bench_csv(odd).splitlines())} == {"True"}


@pytest.mark.parametrize("size", ["0x0", "wide", "64x64"])
def test_a_size_of_pytorch_is_looked_at_before_anything_is_timed(size: str) -> None:
    with pytest.raises(UsageError, match="`torch_size` is of PyTorch|a size is WIDTHxHEIGHT"):
        bench(replace(QUICK, torch_size=size, models=(Path("none.edgeseg"),)))


def test_nobodys_file_is_overwritten(report: BenchReport, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    config = replace(report.config, html=mine)
    with pytest.raises(InputError, match="is there already"):
        refuse_taken(config)
    with pytest.raises(InputError, match="cannot be written: File exists"):
        list(write_files(replace(report, config=config)))
    with pytest.raises(InputError, match="is no folder"):
        refuse_taken(replace(config, html=None, csv=tmp_path / "none" / "a.csv"))
    assert mine.read_text() == "mine"
    assert list(write_files(replace(report, config=replace(config, overwrite=True)))) == [mine]
    assert "</html>" in mine.read_text()


@pytest.mark.parametrize("field", ["result", "html", "csv"])
@pytest.mark.parametrize("read", ["m.edgeseg", "link.edgeseg", "public.pem", "pairs.csv"])
def test_no_result_replaces_what_it_is_made_from(tmp_path: Path, field: str, read: str) -> None:
    for name in ("m.edgeseg", "public.pem", "pairs.csv"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link.edgeseg").symlink_to("m.edgeseg")
    config = BenchConfig(
        models=(tmp_path / "m.edgeseg",), data=f"csv://{tmp_path}/pairs.csv?masks=binary",
        require_signature=tmp_path / "public.pem", overwrite=True,
    )  # fmt: skip
    with pytest.raises(UsageError, match="would be overwritten"):
        refuse_taken(replace(config, **{field: tmp_path / read}))
    refuse_taken(replace(config, **{field: tmp_path / "new"}))


def test_one_result_beside_another(report: BenchReport, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        list(write_files(replace(report, config=replace(report.config, result=tmp_path / name))))
    found = compare(BenchConfig(models=(tmp_path / "a.json", tmp_path / "b.json"), compare=True))
    assert [change.verdict for change in found.changes] == ["no change seen"] * 4
    assert all(change.times_slower == 1 for change in found.changes)
    with pytest.raises(UsageError, match="takes two files of `result`, got 1"):
        compare(BenchConfig(models=(tmp_path / "a.json",), compare=True))


def test_two_files_have_two_names_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    one = tmp_path / "one"
    for config in (
        BenchConfig(result=one, html=one, overwrite=True),
        BenchConfig(result=one, csv=tmp_path / "folder" / ".." / "one"),
        BenchConfig(html=one, calibrate=one),
    ):
        with pytest.raises(InputError, match="is named for two files"):
            refuse_taken(config)
    with pytest.raises(InputError, match="is a folder; name a file"):
        refuse_taken(BenchConfig(result=tmp_path / "folder", overwrite=True))
    (tmp_path / "rows.json").touch()
    refuse_taken(BenchConfig(result=one, calibrate=tmp_path / "rows.json"))


def test_a_file_that_cannot_be_written_keeps_no_other_from_it(report: BenchReport, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine")
    config = replace(report.config, result=tmp_path / "a.json", html=tmp_path / "a.html", csv=tmp_path / "a.csv")
    written = write_files(replace(report, config=config))
    assert [next(written).name, next(written).name] == ["a.json", "a.csv"]
    with pytest.raises(InputError, match=r"a\.html cannot be written: File exists"):
        next(written)


def test_names_that_are_no_text_are_written_all_the_same(report: BenchReport, tmp_path: Path) -> None:
    odd = "\udcff<b>&\"'\n\x1b[31m"
    measured = [replace(one, name=f"{odd} {one.name}", facts={"model": odd}) for one in report.measured]
    config = replace(report.config, result=tmp_path / "a.json", html=tmp_path / "a.html", csv=tmp_path / "a.csv")
    strange = replace(report, measured=measured, models=[odd], source=odd, throttled=[odd], config=config)
    assert len(list(write_files(strange))) == 3
    assert "<b>" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_bytes())["contenders"][0]["name"].startswith(odd)
    compared = compare(BenchConfig(models=(tmp_path / "a.json", tmp_path / "a.json"), compare=True))
    assert len(compared.changes) == len(measured)


@pytest.mark.parametrize("name", ["result", "html", "csv", "calibrate"])
def test_what_a_comparison_would_not_do_is_refused(tmp_path: Path, name: str) -> None:
    asked: dict[str, Any] = {name: tmp_path / "out"}
    with pytest.raises(UsageError, match=f"`compare` reads two files and measures nothing; leave `{name}` out"):
        compare(BenchConfig(compare=True, **asked))


@pytest.mark.parametrize(
    "asked", [{"calls": 3}, {"camera_fps": 1.0}, {"layers": True}, {"csv": Path("a")}, {"data": "a"}]
)
def test_what_a_soak_would_not_do_is_refused(asked: dict[str, Any]) -> None:
    (name,) = asked
    with pytest.raises(UsageError, match=f"`soak` runs one contender in place of a comparison; leave `{name}` out"):
        bench(BenchConfig(soak="1s", **asked))


def test_a_graph_that_an_engine_refuses_is_left_out_and_said(tmp_path: Path) -> None:
    bundle, said = tiny_bundle(), []  # type: ignore[var-annotated]
    broken = replace(bundle.graphs["fp32"], onnx=b"no graph")
    write_bundle(replace(bundle, graphs={**bundle.graphs, "int8-cpu": broken}), tmp_path / "half.edgeseg")
    config = replace(QUICK, engine="auto", models=(tmp_path / "half.edgeseg",))
    report = bench(config, Progress(said.append))
    assert {m.facts["graph"] for m in report.measured} == {"fp32"}
    assert {line.split(" is left out: ")[0].split()[0] for line in report.left_out} == {"int8-cpu"}
    assert set(report.left_out) <= set(said) and report.to_json()["left_out"] == report.left_out
    for asked in ({"engine": "onnxruntime"}, {"soak": "1s", "calls": 0}):
        with pytest.raises(EngineError, match="int8-cpu"):
            bench(replace(config, **asked))
    write_bundle(replace(bundle, graphs={"fp32": broken}), tmp_path / "none.edgeseg")
    with pytest.raises(EngineError, match="there is nothing to time: fp32.* is left out"):
        bench(replace(config, models=(tmp_path / "none.edgeseg",)))


def _interrupting(word: str, at: int = 0) -> Progress:
    """Interrupt when so much of what begins with a word is done, as Ctrl-C would."""

    def count(what: str, done: int, total: int) -> None:
        if what.startswith(word) and done >= at:
            raise KeyboardInterrupt

    return Progress(lambda line: count(line, at, at), count)


def test_what_was_measured_before_an_interrupt_is_reported(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    config = replace(QUICK, models=(tmp_path / "tiny.edgeseg",), calls=200, threads=(1, 2), layers=True)
    report = bench(config, _interrupting("timing, turns", 5))
    assert report.is_interrupted and [m.frame.count for m in report.measured] == [50, 50] and not report.beside
    assert report.to_json()["interrupted"] is True
    report = bench(config, _interrupting("layers of fp32, 2"))
    assert report.is_interrupted and [m.frame.count for m in report.measured] == [200, 200]
    assert [len(report.of(m).layers) > 0 for m in report.measured] == [True, False]
    with pytest.raises(KeyboardInterrupt):
        bench(config, _interrupting("warming up"))
    soak = bench(replace(config, soak="20m", calls=0, layers=False), _interrupting("soaking", 0))
    assert soak.is_interrupted and soak.soak is not None and soak.soak.windows


def test_what_cannot_be_measured_beside_the_times_does_not_cost_them(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    for kind, shape in (("images", (20, 30, 3)), ("masks", (20, 30))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for name in "ab":
            picture = np.random.default_rng(ord(name)).integers(0, 3, shape, np.uint8)
            write_png(tmp_path / "data" / kind / f"{name}.png", picture)

    def spoil(line: str) -> None:
        if line.startswith("timing"):
            (tmp_path / "data" / "images" / "b.png").write_bytes(b"\x89PNG")

    config = replace(QUICK, models=(tmp_path / "tiny.edgeseg",), data=str(tmp_path / "data"), layers=True)
    report = bench(config, Progress(spoil))
    assert report.measured[0].frame.count == 4 and report.of(report.measured[0]).layers
    assert report.of(report.measured[0]).miou is None and report.failed[0].startswith("mIoU of fp32: ")


def test_ctrl_c_prints_and_writes_what_was_measured(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    words = ["bench", "tiny.edgeseg", "--no-torch", "--no-memory", "--engine", "onnxruntime", "--soak", "60s"]
    command = [sys.executable, "-m", "edgeseg", *words, "--result", "out.json"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert any("soaking, seconds" in line for line in running.stdout), "it says so once a window is over"
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "interrupted" in err and "Traceback" not in err, err
    assert "INTERRUPTED: this was measured by then" in out and "wrote out.json" in out
    document = json.loads((tmp_path / "out.json").read_bytes())
    assert document["interrupted"] is True and document["soak"]["windows"]


def test_a_reader_that_leaves_ends_no_measurement(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    words = ["bench", "tiny.edgeseg", "--no-torch", "--no-memory", "--engine", "onnxruntime", "--calls", "2"]
    command = [sys.executable, "-m", "edgeseg", *words, "--warmup", "0", "--result", "out.json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out.json").read_bytes())["contenders"]


def test_pytorch_is_timed_with_each_number_of_threads() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")
    pytest.importorskip("segmentation_models_pytorch", reason="it is not installed: pip install 'edgeseg[train]'")
    before = torch.get_num_threads()
    contenders = [torch_contender((32, 32), 2, threads, f", {threads} threads") for threads in (1, 2)]
    seen = []
    try:
        for one in (*contenders, contenders[0]):
            one.segment(np.zeros((32, 32, 3), np.uint8), Stopwatch())
            seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2, 1] and [one.facts["threads"] for one in contenders] == [1, 2]


def test_a_soak_runs_one_contender(tmp_path: Path) -> None:
    report = bench(replace(QUICK, soak="1s", calls=0, threads=(1,)))
    assert not report.measured and report.soak is not None
    assert sum(window.frame.count for window in report.soak.windows) >= 1
    document, page = report.to_json(), bench_html(report)
    assert document["soak"]["name"] == "int8-cpu" and "p99 of the first tenth" in page
    assert document["seconds"] is None and document["soak"]["asked"] == "1s"
    assert "1s without a pause" in page and "alternating turns" not in page


@pytest.mark.parametrize("text", ["20", "m", "0s", "-1s", "1d", "1m30", "1 m", "infs", "1e3s", "٣s", "9" * 400 + "h"])
def test_a_time_that_is_none_is_refused_before_anything_is_opened(text: str) -> None:
    with pytest.raises(UsageError, match="`soak` is a time such as 90s, 20m or 1h"):
        bench(replace(QUICK, soak=text, models=(Path("none.edgeseg"),)))


def test_labels_of_other_classes_are_refused(tmp_path: Path) -> None:
    whole = read_bundle(SHIPPED)
    spec = replace(whole.spec, classes=(*whole.spec.classes[:-1], "other"))
    write_bundle(replace(whole, spec=spec, golden=None), tmp_path / "other.edgeseg")
    models = (SHIPPED, tmp_path / "other.edgeseg")
    with pytest.raises(UsageError, match="has other classes than"):
        bench(replace(QUICK, models=models, data="demo://street?frames=1"))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        ((1.67, 1.5, 1.8), "1.67x as fast (1.50-1.80)"),
        ((0.5, 0.4, 0.8), "takes 2.00x as long (1.25-2.50)"),
        ((1.1, 0.9, 1.3), "1.10x as fast (0.90-1.30): no difference seen"),
    ],
)
def test_the_last_column_says_which_way_it_reads(ratio: tuple[float, float, float], words: str) -> None:
    assert ratio_in_words(ratio, 20) == words and ratio_in_words(ratio, 1) == f"{words}, of 1 turn only"


def test_the_numbers_are_those_of_a_stopwatch_around_the_process() -> None:
    started = time.perf_counter()
    report = bench(replace(QUICK, calls=40, threads=(1,), models=(SHIPPED,)))
    took_ms = 1000 * (time.perf_counter() - started)
    said_ms = sum(m.frame.mean_ms * m.frame.count for m in report.measured)
    assert 0 < said_ms < took_ms, "what was timed lies within what passed"


def test_layers_of_tensorrt_are_those_of_the_engine(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    rig = Rig("10.3.0.30", tmp_path / "cache")
    config = replace(QUICK, models=(tmp_path / "tiny.edgeseg",), engine="tensorrt", layers=True)
    report = bench(config, factory_from=lambda flavour, tell: nullcontext(rig.factory))
    layers = [report.of(m).layers for m in report.measured]
    assert layers and all(len(of_one) > 1 for of_one in layers)
    for of_one in layers:
        assert [layer.ms for layer in of_one] == sorted((layer.ms for layer in of_one), reverse=True)
    assert all(layer.kind for layer in layers[0]) and layers[0][0].name in bench_html(report)


def test_memory_and_layers_of_a_broken_graph_are_one_line() -> None:
    with pytest.raises(EngineError, match="broken in onnxruntime failed in a process of its own: .*cannot load broken"):
        peak_memory_mib("onnxruntime", "broken", b"no graph", 1)
    with pytest.raises(EngineError, match="onnxruntime failed: "):
        layer_times("onnxruntime", b"no graph", np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(EngineError, match="tensorrt is not asked for its layers here"):
        layer_times("tensorrt", b"", np.zeros((1, 2, 2, 3), np.uint8))


def test_peak_memory_is_not_that_of_the_parent() -> None:
    onnx = read_bundle(SHIPPED).graphs["int8-cpu"].onnx
    held = np.ones(400 * 2**20, np.uint8)  # this process is larger than the child ever is
    peak = peak_memory_mib("onnxruntime", "int8-cpu", onnx, 1)
    assert sys.platform != "linux" or (peak is not None and 30 < peak < 350)
    assert held[0] == 1


@pytest.mark.parametrize("foreign", ["edgeseg/__init__.py", "json.py", "numpy.py"])
def test_peak_memory_is_that_of_this_edgeseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("raise SystemExit('another one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *(one for one in sys.path if one)])
    assert peak_memory_mib("onnxruntime", "fp32", tiny_bundle().graphs["fp32"].onnx, 1) != 0


@pytest.mark.parametrize("field", ["result", "html", "csv", "calibrate"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("what", ["dangling", "loop", "pipe", "device", "link"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, field: str, overwrite: bool, what: str) -> None:
    path = tmp_path / what
    (tmp_path / "real").write_text("")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path = Path("/dev/null")
    else:
        path.symlink_to({"dangling": "nowhere", "loop": "loop", "link": "real"}[what])
    with pytest.raises(InputError, match="is not replaced|is there already|cannot be written to"):
        refuse_taken(BenchConfig(overwrite=overwrite, **{field: path}))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [("x", "x", "x (2)"), ("x (2)", "x", "x"), ("x", "x (2)", "x"), ("x", "x", "x")])
def test_every_contender_has_a_name_of_its_own(tmp_path: Path, order: Sequence[str]) -> None:
    for stem in set(order):
        write_bundle(tiny_bundle(), tmp_path / f"{stem}.edgeseg")
    models = named_models(BenchConfig(models=[tmp_path / f"{stem}.edgeseg" for stem in order]))
    assert len({model.prefix for model in models}) == len(order)


def test_what_no_sensor_says_is_absent(report: BenchReport) -> None:
    measured = replace(report.measured[0], samples=[Sample()])
    assert measured.power_w is None and measured.to_json()["energy_j_per_frame"] is None
    assert Beside().to_json()["camera"] is None
