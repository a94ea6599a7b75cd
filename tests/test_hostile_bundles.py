"""Bundles that are well sealed and do not hold together, or are made to harm: one line, and little memory."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgeseg.bundle import Bundle, GraphEntry, _sealed_zip, read_bundle, write_bundle
from edgeseg.cli.console import printable
from edgeseg.cli.main import app
from edgeseg.compiler.calibration.drift_probe import drift_probe
from edgeseg.engines.golden import run_self_test
from edgeseg.engines.select import engine_from_bundle
from edgeseg.engines.tensorrt.api import TensorRt
from edgeseg.engines.tensorrt.factory import TensorRtOptions, request_from_bundle
from edgeseg.errors import BundleError, EdgesegError, EngineError, SpecError
from edgeseg.ranges import Ranges
from edgeseg.recipes import DynamicInt8, Fp32, StaticInt8
from edgeseg.report_data import (
    Accuracy,
    CalibrationReport,
    Finding,
    FloatRoundTrip,
    GraphResult,
    KernelPlanSummary,
    LayerSensitivity,
    Limits,
    MixedPoint,
    PreparationStep,
    Report,
)
from edgeseg.runtime.monitoring.drift import DriftGraph, DriftWatch
from tests import HANG_S
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import fake_tensorrt

ROOT = Path(__file__).resolve().parents[1]


def packed(path: Path, entries: dict[str, bytes], edit: Callable[[Any], object] = lambda manifest: None) -> Path:
    """A well sealed bundle of these entries, with an edited manifest."""
    manifest = json.loads(entries["manifest.json"])
    others = {name: data for name, data in entries.items() if name != "manifest.json"}
    manifest["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in others.items()}
    edit(manifest)
    path.write_bytes(_sealed_zip({"manifest.json": json.dumps(manifest).encode(), **others}))
    return path


def npz(**arrays: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def edgeseg(*words: str, memory: int = 0) -> subprocess.CompletedProcess[str]:
    def bound() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))

    return subprocess.run(
        [sys.executable, "-m", "edgeseg", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=bound,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    which=st.sampled_from(["frames", "labels", "classes"]),
    shape=st.lists(st.sampled_from([0, 1, 2, 8, 1024, 10**6, 10**15]), max_size=5).map(tuple),
    dtype=st.sampled_from(["|u1", "<f4", "|O", "<U1", "|b1"]),
)
def test_golden_arrays_that_are_not_of_the_spec_are_refused_by_their_headers(
    tmp_path: Path, entries: dict[str, bytes], which: str, shape: tuple[int, ...], dtype: str
) -> None:
    with zipfile.ZipFile(io.BytesIO(entries["golden.npz"])) as archive:
        arrays = {name: archive.read(f"{name}.npy") for name in ("frames", "labels", "classes")}
    arrays[which] = header(shape, dtype)
    with pytest.raises(BundleError) as refused:
        read_bundle(packed(tmp_path / "x.edgeseg", {**entries, "golden.npz": npz(**arrays)}))
    assert "\n" not in str(refused.value) and which in str(refused.value)


def test_what_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path, entries: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    quick = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with quick as archive, archive.open("frames.npy", "w") as member:
        member.write(header((1024, 1024, 1024, 1)))
        for _ in range(64):
            member.write(bytes(1 << 24))
    path = packed(tmp_path / "bomb.edgeseg", {**entries, "golden.npz": buffer.getvalue()})
    done = edgeseg("inspect", str(path), memory=900 << 20)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr


def test_entries_that_share_bytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    size, names = 4_000_000, [str(n) for n in range(200)]
    body, members = bytes(size), []
    for name in reversed(names):
        members.append((name, zlib.crc32(body), len(body)))
        head = struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(body), len(body), len(body), len(name), 0
        )
        body = head + name.encode() + body
    at, listed = 0, b""
    for name, crc, length in reversed(members):
        sizes = (crc, length, length, len(name), 0, 0, 0, 0, 0, at)
        listed += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, *sizes) + name.encode()
        at += 30 + len(name)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(names), len(names), len(listed), len(body), 64)
    whole = body + listed + end
    path = tmp_path / "shared.edgeseg"
    path.write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())
    with pytest.raises(BundleError, match="has entries that overlap; it was not written by edgeseg"):
        read_bundle(path)
    assert "entries that overlap" in edgeseg("inspect", str(path), memory=600 << 20).stderr  # 800 MB in all


@pytest.mark.parametrize("entry", ["manifest.json", "report.json", "ranges.json"])
def test_json_that_is_nested_without_end_is_one_line(tmp_path: Path, entries: dict[str, bytes], entry: str) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    path = tmp_path / "deep.edgeseg"
    if entry == "manifest.json":
        path.write_bytes(_sealed_zip({**entries, entry: deep}))
    else:
        packed(path, {**entries, entry: deep})
    with pytest.raises(BundleError, match="deeply|not a bundle"):
        read_bundle(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    sign=st.sampled_from("\x00\x07\x08\x1b\x7f\x9b\r\n\u202e\u2066\u2028") | st.characters(categories=["Cc", "Cs"]),
    where=st.integers(0, 3),
)
def test_a_class_name_commands_no_terminal(tmp_path: Path, entries: dict[str, bytes], sign: str, where: int) -> None:
    name = "sky"[:where] + sign + "sky"[where:]
    path = packed(tmp_path / "x.edgeseg", entries, lambda manifest: manifest["spec"]["classes"].__setitem__(0, name))
    with pytest.raises(BundleError, match="control character") as refused:
        read_bundle(path)
    assert str(refused.value).isprintable()


@given(st.text(st.characters(), max_size=20))
def test_what_is_printed_commands_no_terminal(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert all(letter in "\n\t" or letter >= " " and not "\x7f" <= letter <= "\x9f" for letter in shown)


def test_provenance_commands_no_terminal(tmp_path: Path, entries: dict[str, bytes]) -> None:
    path = packed(tmp_path / "x.edgeseg", entries, lambda manifest: manifest["provenance"].update(note="\x1b[2J\ud800"))
    done = edgeseg("inspect", str(path))
    assert done.returncode == 0 and "\x1b" not in done.stdout and "x1b[2J" in done.stdout, done.stderr


def test_the_page_that_came_with_a_bundle_is_not_what_inspect_writes(tmp_path: Path, entries: dict[str, bytes]) -> None:
    hostile = b"<script>document.title='PWNED'</script>"
    path = packed(tmp_path / "x.edgeseg", {**entries, "report.html": hostile})
    done = edgeseg("inspect", str(path), "--html", str(tmp_path / "x.html"))
    page = (tmp_path / "x.html").read_text()
    assert done.returncode == 0 and "PWNED" not in page and "<h2>" in page, done.stderr


JSON_ENTRIES = ("manifest.json", "report.json", "ranges.json")
HUGE = (10**400, 1.7e308, math.nan, math.inf, -math.inf)
OTHER_JSON = (*HUGE, None, True, 0, -1, 1.5, "", "x", [], [1], [[]], {}, {"x": 1}, {"x": [1, 2]})


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a JSON document."""
    yield place
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*place, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*place, index))


def value_at(value: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        value = value[name]
    return value


def replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    if not place:
        return by
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy


def with_probe(bundle: Bundle) -> Bundle:
    """The bundle, whose frames are measured at ``x``."""
    ranges = Ranges({"x": (0.0, 255.0), "conv": (-12.0, 12.0)}, {"x": (0.5, 1.0, 1.5)}, "minmax", 16, "g", "d", "test")
    return replace(bundle, drift=drift_probe(onnx.load_model_from_string(bundle.graphs["fp32"].onnx), ranges))


def whole_report() -> Report:
    """A report that holds every kind of thing once."""
    accuracy = Accuracy(4, 1.0, 1.0, 0.7, 0.9, {"soil": 0.7}, "soil", 0.3)
    point = MixedPoint(("conv",), accuracy, 0.01, ("no",), 10, 1.0, 2.0)
    plan = KernelPlanSummary("SM86", "1.7", 3, 2, 1, 0, (FloatRoundTrip("x", ("a",), ("b",)),), 1, 9, 9, 1.5, {"x": 1})
    return Report(
        limits=Limits(min_agreement=0.9),
        notes=("a note",),
        network_is_poor="it is",
        steps=(PreparationStep("folded", 3, 10, accuracy),),
        calibration=CalibrationReport("a set", "ab", 4, 1, 0, 0, 4, {"soil": 1.0}, {"duplicates": ("x",)}, ("few",)),
        sensitivity=(LayerSensitivity("conv", 0.1, 20.0),),
        lint={"int8-tensorrt": {"jetpack-5.1": (Finding("error", "opset", "graph", "it is", "export"),)}},
        kernel_plans={"int8-tensorrt": {"SM86": plan}},
        graphs={
            "fp32": GraphResult("fp32", 10, (0, 2), accuracy),
            "int8-tensorrt": GraphResult("int8-tensorrt", 10, (2, 2), accuracy, ("no",), ("conv",), (point, point)),
        },
        self_test={"fp32": 0.9, "int8": 0.9},
    )


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    made = tmp_path_factory.mktemp("tiny") / "tiny.edgeseg"
    bundle = with_probe(tiny_bundle(provenance={"note": "x", "network": {"encoder": "y"}}))
    recipe = StaticInt8("tensorrt", float_layers=("conv",))
    graphs = {**bundle.graphs, "int8-tensorrt": replace(bundle.graphs["int8-tensorrt"], recipe=recipe)}
    report = whole_report()
    assert bundle.ranges is not None
    ranges = replace(bundle.ranges, means={"x": (0.5, 1.0, 1.5)})
    write_bundle(replace(bundle, graphs=graphs, report=report, ranges=ranges), made)
    with zipfile.ZipFile(made) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def used_as_commands_do(path: Path) -> None:
    """What verify, a drift check, TensorRT's build, compile and inspect take from a bundle."""
    bundle = read_bundle(path)
    with engine_from_bundle(bundle, "fp32") as engine:
        run_self_test(engine, bundle, "fp32").describe()
        run_self_test(engine, bundle, "int8-qdq").describe()
    if bundle.ranges is not None and bundle.ranges.tensors:
        assert bundle.drift is not None
        DriftWatch(DriftGraph(bundle), tiny_frames(), lambda level, text: None)
    for precision in ("fp32", "int8-implicit"):
        request_from_bundle(TensorRt(fake_tensorrt("8.5.2.2", FakeCuda())), bundle, precision, TensorRtOptions())
    dict(bundle.provenance)
    write_bundle(bundle, path.with_name("again.edgeseg"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_any_value_of_another_type_is_refused_or_does_no_harm(
    tmp_path: Path, entries: dict[str, bytes], data: Any
) -> None:
    entry = data.draw(st.sampled_from(JSON_ENTRIES))
    document = json.loads(entries[entry])
    place = data.draw(st.sampled_from(list(places(document))))
    edited = json.dumps(replaced(document, place, data.draw(st.sampled_from(OTHER_JSON)))).encode()
    path = tmp_path / "x.edgeseg"
    if entry == "manifest.json":
        path.write_bytes(_sealed_zip({**entries, entry: edited}))
    else:
        packed(path, {**entries, entry: edited})
    try:
        used_as_commands_do(path)
    except EdgesegError as error:
        assert "\n" not in str(error)
    done = CliRunner().invoke(app, ["inspect", str(path), "--html", str(tmp_path / "x.html")])
    assert done.exception is None or isinstance(done.exception, EdgesegError), done.exception


NUMBERS = (math.inf, -math.inf, 1.7e308, -1e31, 1e30)


def test_a_number_of_any_size_in_any_place_is_refused_or_does_no_harm(
    tmp_path: Path, entries: dict[str, bytes]
) -> None:
    path, page = tmp_path / "x.edgeseg", tmp_path / "x.html"
    document = json.loads(entries["report.json"])
    with np.errstate(over="ignore"):
        for place in places(document):
            if type(value_at(document, place)) in (int, float):
                for number in NUMBERS:
                    packed(path, {**entries, "report.json": json.dumps(replaced(document, place, number)).encode()})
                    done = CliRunner().invoke(app, ["inspect", str(path), "--html", str(page)])
                    assert done.exception is None or isinstance(done.exception, EdgesegError), (place, number)


def test_classes_that_cover_nothing_have_bars_of_no_length(tmp_path: Path, entries: dict[str, bytes]) -> None:
    document = json.loads(entries["report.json"])
    document["calibration"]["class_shares"] = {"soil": 0.0, "plant": 0.0}
    path = packed(tmp_path / "x.edgeseg", {**entries, "report.json": json.dumps(document).encode()})
    done = CliRunner().invoke(app, ["inspect", str(path), "--html", str(tmp_path / "x.html")])
    assert done.exit_code == 0, done.output
    assert "plant 0.00 %; soil 0.00 %" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("schema", [math.nan, math.inf, True, 1.0, "1", None, 0, -3])
def test_a_schema_that_is_no_number_of_ours_is_refused(tmp_path: Path, entries: dict[str, bytes], schema: Any) -> None:
    path = packed(tmp_path / "x.edgeseg", entries, lambda manifest: manifest.update(schema=schema))
    with pytest.raises(BundleError):
        read_bundle(path)


@pytest.mark.parametrize("name", ["", " ", "\u3000"])
def test_a_class_has_a_name(tmp_path: Path, entries: dict[str, bytes], name: str) -> None:
    path = packed(tmp_path / "x.edgeseg", entries, lambda manifest: manifest["spec"]["classes"].__setitem__(0, name))
    with pytest.raises(BundleError, match="class names are 1 to 256"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("forgery", "says"),
    [
        ({"size_hw": [240, 320]}, "as the spec says"),
        ({"size_hw": [64, 64]}, "as the spec says"),
        (
            {"classes": ["soil", "crop"], "palette": [[0, 0, 0], [1, 1, 1]]},
            "golden frames hold class 2, the spec has 2",
        ),
    ],
    ids=["larger", "square", "fewer classes"],
)
def test_verify_and_run_say_on_one_line_what_is_forged(
    tmp_path: Path, entries: dict[str, bytes], forgery: dict[str, Any], says: str
) -> None:
    path = packed(tmp_path / "x.edgeseg", entries, lambda manifest: manifest["spec"].update(forgery))
    sink = f"jsonl://{tmp_path}/x.jsonl"
    for words in (["verify"], ["verify", "--json"], ["run", "--source", "demo://street?frames=1", "--sink", sink]):
        done = edgeseg(words[0], str(path), *words[1:])
        assert done.returncode == 1 and done.stdout == "", done.stdout
        assert says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "x.jsonl").exists()


# Graphs that differ from what their bundle says.


def _of_size(bundle: Bundle, height: int, width: int) -> Bundle:
    return replace(bundle, spec=replace(bundle.spec, size_hw=(height, width)), golden=None)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(st.sampled_from([32, 240, 359, 720]), st.sampled_from([32, 320, 481, 960])))
def test_a_spec_of_another_size_than_its_graph_is_refused(shipped: Bundle, size: tuple[int, int]) -> None:
    with pytest.raises(EngineError, match="the spec of its bundle says"):
        engine_from_bundle(_of_size(shipped, *size))


@pytest.mark.parametrize("count", [2, 3])
def test_a_spec_of_fewer_classes_than_its_graph_is_refused(shipped: Bundle, tmp_path: Path, count: int) -> None:
    spec = replace(shipped.spec, classes=shipped.spec.classes[:count], palette=shipped.spec.palette[:count])
    with pytest.raises(EngineError, match=f"gives class .* has {count}"):
        engine_from_bundle(replace(shipped, spec=spec))
    write_bundle(replace(shipped, spec=spec), tmp_path / "x.edgeseg")
    with pytest.raises(BundleError, match=f"golden frames hold class .* has {count}"):
        read_bundle(tmp_path / "x.edgeseg")


def _graph(nodes: list[Any], inits: list[Any], size_hw: tuple[int, int], batch: Any = 1) -> bytes:
    ports = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [batch, *size_hw, 3]),
        helper.make_tensor_value_info("y", TensorProto.UINT8, [batch, *size_hw]),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], inits)
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


def test_a_graph_without_fixed_sizes_is_one_line(shipped: Bundle) -> None:
    zero = numpy_helper.from_array(np.array(0, np.int64), "zero")
    graph = _graph([helper.make_node("Gather", ["x", "zero"], ["y"], axis=3)], [zero], shipped.spec.size_hw, "N")
    with pytest.raises(EngineError, match="sizes that are fixed"):
        engine_from_bundle(replace(shipped, graphs={"fp32": GraphEntry(graph, Fp32())}))


def test_a_graph_that_never_ends_ends_on_sigterm(shipped: Bundle, tmp_path: Path) -> None:
    size_hw = shipped.spec.size_hw
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["was"], ["is"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("was", TensorProto.UINT8, [1, *size_hw]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("is", TensorProto.UINT8, [1, *size_hw]),
        ],
    )
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["y0"], axis=3),
        helper.make_node("Loop", ["", "yes", "y0"], ["y"], body=inner),
    ]
    graph = _graph(nodes, constants, size_hw)
    onnx.checker.check_model(graph)
    path = tmp_path / "endless.edgeseg"
    write_bundle(replace(shipped, graphs={"int8-cpu": GraphEntry(graph, DynamicInt8())}, page=None), path)
    running = subprocess.Popen(
        [sys.executable, "-m", "edgeseg", "run", str(path), "--source", "demo://street?frames=2", "--sink", "null://"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        while not _catches(running.pid, signal.SIGTERM):
            assert running.poll() is None
            time.sleep(0.05)
        until = _cpu_s(running.pid) + 2  # what comes before the graph takes a fraction of a second
        while _cpu_s(running.pid) < until:
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=HANG_S)  # it has two seconds; the machine may be busy
    finally:
        running.kill()
    assert running.returncode == 1 and b"Traceback" not in told and b"interrupted" in told


def _catches(process: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    handled = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return handled is not None and bool(int(handled[1], 16) >> (number - 1) & 1)


def _cpu_s(process: int) -> float:
    """CPU seconds that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_spec_is_not_made_of_names_that_command_a_terminal(shipped: Bundle) -> None:
    with pytest.raises(SpecError, match="control character"):
        replace(shipped.spec, classes=("\x1b[2J", *shipped.spec.classes[1:]))


def failing_graph(*nodes: onnx.NodeProto, **constants: Any) -> bytes:
    """uint8 frames of the shipped model's size to class maps, through nodes that fail while they run."""
    shape = (1, 360, 480)
    graph = helper.make_graph(
        list(nodes),
        "failing",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [*shape, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, list(shape))],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    "graph",
    [
        failing_graph(helper.make_node("Gather", ["x", "far"], ["y"], axis=3), far=-99999999),
        failing_graph(
            helper.make_node("ConstantOfShape", ["huge"], ["many"]),
            helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["add"], to=TensorProto.UINT8),
            helper.make_node("ArgMax", ["x"], ["first"], axis=3, keepdims=0),
            helper.make_node("Cast", ["first"], ["class"], to=TensorProto.UINT8),
            helper.make_node("Max", ["class", "add"], ["y"]),
            huge=[10**13],
        ),
    ],
    ids=["an index out of range", "40 terabytes"],
)
def test_a_graph_that_fails_while_it_runs_is_one_line(shipped: Bundle, tmp_path: Path, graph: bytes) -> None:
    path = tmp_path / "failing.edgeseg"
    write_bundle(replace(shipped, graphs={"int8-cpu": GraphEntry(graph, DynamicInt8())}, page=None), path)
    done = edgeseg(
        "run", str(path), "--engine", "onnxruntime", "--source", "demo://street?frames=2", "--sink", "null://"
    )
    assert done.returncode == 1 and done.stderr.startswith("edgeseg: ") and done.stderr.count("\n") == 1, done.stderr
