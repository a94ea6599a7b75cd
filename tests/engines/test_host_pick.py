from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import helper, load_model_from_string

from edgeseg.app.config import EngineOptions
from edgeseg.app.engines import opened_engine
from edgeseg.bundle import Bundle
from edgeseg.device.detect import Device, detected_device
from edgeseg.engines.host_choice import HostChoice
from edgeseg.engines.host_pick import FASTEST, USUAL, host_pick
from edgeseg.engines.select import CPU_ENGINES, installed_engines
from edgeseg.errors import EngineError, GateRefused
from edgeseg.recipes import RECIPES
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx

BOTH = ["onnxruntime", "openvino"]
needs_openvino = pytest.mark.skipif(
    "openvino" not in installed_engines(), reason="openvino is not installed: pip install 'edgeseg[openvino]'"
)


def cpu(*instructions: str, architecture: str = "x86_64") -> Device:
    return replace(detected_device(), int8_instructions=instructions, architecture=architecture)


VNNI = cpu("AVX2", "AVX512-VNNI")


def with_int8(bundle: Bundle) -> Bundle:
    """The float graph under the name of the INT8 one: tests of picking open nothing."""
    entry = replace(bundle.graphs["fp32"], recipe=RECIPES["int8-cpu"])
    return replace(bundle, graphs={**bundle.graphs, "int8-cpu": entry})


def test_a_row_names_engines_and_instructions_that_exist() -> None:
    for row in FASTEST:
        assert set(row.times) <= set(CPU_ENGINES) - {USUAL} and all(share > 0 for share in row.times.values())
        assert row.instructions in ("AMX-INT8", "AVX512-VNNI", "AVX-VNNI", "AVX2")
    keys = [(row.instructions, row.is_int8) for row in FASTEST]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("device", [VNNI, cpu("AVX2", "AVX-VNNI"), cpu("AVX2")], ids=["server", "PC", "old PC"])
def test_int8_on_a_cpu_where_it_was_measured_goes_to_the_fastest(device: Device) -> None:
    pick = host_pick(with_int8(tiny_bundle()), device, installed=BOTH)
    assert pick.choice == HostChoice("openvino", "int8-cpu", 0) and not pick.is_judged
    assert pick.describe().startswith("auto takes int8-cpu in openvino, all threads: measured at 0.")
    assert pick.describe().endswith("; 'edgeseg tune' measures here")


@pytest.mark.parametrize(
    ("device", "installed", "graph", "said"),
    [
        (
            cpu("ARM dot product", architecture="aarch64"),
            BOTH,
            None,
            "no engine's speed is known for such a CPU (aarch64)",
        ),
        (cpu(), BOTH, None, "no engine's speed is known for such a CPU (x86_64)"),
        (VNNI, ["onnxruntime"], None, "is not installed (pip install 'edgeseg[openvino]')"),
        (VNNI, BOTH, "fp32", "of onnxruntime's time for float on CPUs with AVX512-VNNI; 'edgeseg"),
        (cpu("AVX2"), BOTH, "fp32", "of onnxruntime's time for float on CPUs with AVX2; 'edgeseg"),
    ],
    ids=["ARM", "an old PC", "not installed", "float", "float with AVX2"],
)
def test_elsewhere_onnx_runtime_stays_and_the_line_says_why(
    device: Device, installed: list[str], graph: str | None, said: str
) -> None:
    pick = host_pick(with_int8(tiny_bundle()), device, graph=graph, installed=installed)
    assert pick.choice == HostChoice(USUAL, graph or "int8-cpu", 0) and pick.is_judged
    assert said in pick.describe() and pick.describe().endswith("'edgeseg tune' measures here")


def test_without_golden_frames_nothing_is_taken_that_nobody_checked() -> None:
    pick = host_pick(replace(with_int8(tiny_bundle()), golden=None), VNNI, installed=BOTH)
    assert pick.choice.engine == USUAL and "no golden frames to check it with" in pick.why


def test_what_was_asked_for_goes_before_what_is_remembered() -> None:
    bundle, kept = with_int8(tiny_bundle()), HostChoice("openvino", "fp32", 2)
    for graph, threads in ((None, 0), ("fp32", 0), (None, 2), ("fp32", 2)):
        pick = host_pick(bundle, VNNI, graph=graph, threads=threads, remembered=kept)
        assert pick.choice == kept and pick.is_judged
    assert host_pick(bundle, VNNI, graph="int8-cpu", remembered=kept, installed=BOTH).choice.graph == "int8-cpu"
    assert host_pick(bundle, VNNI, threads=1, remembered=kept, installed=BOTH).choice.threads == 1
    with pytest.raises(EngineError, match="the bundle has no graph 'int4'"):
        host_pick(bundle, VNNI, graph="int4", remembered=kept)


def opened_on(
    bundle: Bundle, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any
) -> tuple[str, list[str]]:
    """What ran the bundle on a CPU with nothing remembered, and what was said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("edgeseg.device.detect.detected_device", lambda: device)
    said: list[str] = []
    with opened_engine(bundle, "tiny.edgeseg", EngineOptions(**options), tell=said.append) as engine:
        return engine.description, said


def with_sample_op(onnx: bytes) -> bytes:
    """The same graph with an operator that only ONNX Runtime has, and that does nothing."""
    model = load_model_from_string(onnx)
    (cast,) = (node for node in model.graph.node if node.name == "frame_float")
    cast.output[0] = "sampled"
    node = helper.make_node("SampleOp", ["sampled"], ["frame_float"], "sample", domain="com.microsoft")
    model.graph.node.insert(1, node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(model.SerializeToString())


@needs_openvino
def test_what_is_taken_passes_the_golden_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    description, said = opened_on(with_int8(tiny_bundle()), VNNI, monkeypatch, tmp_path)
    assert description.startswith("OpenVINO") and "graph int8-cpu" in description
    assert len(said) == 1 and said[0].startswith("auto takes int8-cpu in openvino, all threads: ")


@needs_openvino
@pytest.mark.parametrize("how", ["wrong", "not opened"])
def test_another_engine_runs_only_where_fallback_allows_it(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = with_int8(tiny_bundle())
    onnx = tiny_onnx(wrong=True) if how == "wrong" else with_sample_op(tiny_onnx())
    spoiled = replace(bundle, graphs={**bundle.graphs, "int8-cpu": replace(bundle.graphs["int8-cpu"], onnx=onnx)})
    kind, reason = (
        (GateRefused, r"self-test failed: int8-cpu in openvino, all threads has .* golden frames")
        if how == "wrong"
        else (EngineError, "openvino .* cannot load int8-cpu: ")
    )
    with pytest.raises(kind, match=f"{reason}.*; `engine` onnxruntime runs it without openvino$"):
        opened_on(spoiled, VNNI, monkeypatch, tmp_path)
    description, said = opened_on(spoiled, VNNI, monkeypatch, tmp_path, fallback=True)
    assert description.startswith("ONNX Runtime") and "graph int8-cpu" in description
    assert [line.split(":")[0] for line in said] == [
        "auto takes int8-cpu in openvino, all threads",
        "openvino is not used",
        "running in onnxruntime instead, as `fallback` allows",
    ]


def test_a_graph_without_golden_frames_still_opens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = replace(with_int8(tiny_bundle()), golden=None)
    description, said = opened_on(bare, VNNI, monkeypatch, tmp_path)
    assert description.startswith("ONNX Runtime") and len(said) == 1
