"""From a bundle to an engine: precision, cache, rebuilds, refusals; everything is said."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bench.tune import candidates
from edgeseg.bundle import GraphEntry
from edgeseg.engines.tensorrt.build import BuildRequest, OutOfMemory, built_plan
from edgeseg.engines.tensorrt.cache import EngineCache, read_engine
from edgeseg.engines.tensorrt.factory import TensorRtOptions
from edgeseg.errors import EngineError, GateRefused, UsageError
from edgeseg.ranges import Ranges
from edgeseg.recipes import Fp16, Fp32, StaticInt8
from tests.engines.tensorrt.rig import VERSIONS, Rig
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames, tiny_onnx
from tests.engines.tensorrt.variety import Network
from tests.fake_tensorrt import DLA_OPS


def _provided(rig: Rig, bundle: Any = None, **options: Any) -> Any:
    made = rig.factory.open(bundle or tiny_bundle(), "tiny", TensorRtOptions(**options))
    made.engine.close()
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_is_implicit_where_it_exists_and_says_why(version: str, tmp_path: Path) -> None:
    rig = Rig(version, tmp_path)
    made = _provided(rig)
    if version.startswith("11"):
        assert made.precision == "int8-qdq"
        assert rig.said[0] == f"precision: int8-qdq (TensorRT {version} has no implicit INT8)"
        assert "takes precision from the graph alone" in rig.said[1]
        with pytest.raises(EngineError, match="has no implicit INT8 .removed in 11.; use `int8_mode` qdq"):
            _provided(rig, precision="int8", int8_mode="implicit")
    else:
        assert made.precision == "int8-implicit"
        assert rig.said[0].endswith("places INT8 itself, from the frozen ranges)")
        assert _provided(rig, precision="int8", int8_mode="qdq").precision == "int8-qdq"
    assert made.cached.precisions.convolutions == {"INT8": 2}
    assert any(line == "precision of its layers: " + made.cached.precisions.describe() for line in rig.said)
    assert made.self_test.passed and made.cached.self_test["passed"]


def test_second_start_builds_nothing_and_tests_nothing(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    first = _provided(rig)
    executions = rig.module.fake.executions
    rig.said.clear()
    again = _provided(rig)
    assert rig.builds == 1 and again.cached.path == first.cached.path and again.self_test == first.self_test
    assert rig.module.fake.executions - executions <= 4, "two plain runs and two replays; no golden frames"
    assert rig.said == ["precision: int8-implicit (TensorRT 8.5.2.2 places INT8 itself, from the frozen ranges)"]
    rig.factory.open(tiny_bundle(), "tiny", TensorRtOptions(), test=True).engine.close()
    assert rig.said[-1].startswith("self-test: ")
    rig.factory.open(tiny_bundle(), "tiny", TensorRtOptions(), rebuild=True).engine.close()
    assert rig.builds == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.3.0.31"}, "was built for TensorRT 10.3.0.30 on Orin (8.7, 8 SMs), this is TensorRT 10.3.0.31"),
        (
            {"name": "Xavier"},
            "was built for TensorRT 10.3.0.30 on Orin (8.7, 8 SMs), this is TensorRT 10.3.0.30 on Xavier",
        ),
        ({"sm_count": 6}, "this is TensorRT 10.3.0.30 on Orin (8.7, 6 SMs)"),
        ({"compute_capability": (7, 2)}, "this is TensorRT 10.3.0.30 on Orin (7.2, 8 SMs)"),
    ],
)
def test_an_update_or_another_device_builds_again_and_says_why(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    _provided(Rig("10.3.0.30", tmp_path))
    other = Rig(change.pop("version", "10.3.0.30"), tmp_path)
    for name, value in change.items():
        setattr(other.fake, name, value)
    _provided(other)
    assert other.builds == 1
    (line,) = [line for line in other.said if line.startswith("building")]
    assert reason in line and "\n" not in line


def test_other_ranges_or_another_graph_are_another_engine(tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path)
    bundle = tiny_bundle()
    _provided(rig, bundle)
    assert bundle.ranges is not None
    ranges = Ranges({**bundle.ranges.tensors, "relu": (0.0, 11.5)})
    _provided(rig, replace(bundle, ranges=ranges))
    _provided(rig, precision="fp16")
    _provided(rig, precision="fp16", workspace_mib=64)
    assert rig.builds == 4 and len(list(tmp_path.glob("*.engine"))) == 4
    reasons = [line.rpartition(": ")[2] for line in rig.said if line.startswith("building")]
    assert [reason.partition(" was ")[2] or reason for reason in reasons] == [
        "it is not in the cache yet",
        "built from another graph, ranges or options",
        "it is not in the cache yet",
        "built from another graph, ranges or options",
    ]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "sidecar gone", "sidecar cut", "sidecar newer"])
def test_damaged_engines_are_never_loaded(damage: str, tmp_path: Path) -> None:
    rig = Rig("8.6.2.3", tmp_path)
    path = _provided(rig).cached.path
    sidecar = path.with_name(path.name + ".json")
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[:-100])
    elif damage == "flip":
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "sidecar gone":
        sidecar.unlink()
    elif damage == "sidecar cut":
        sidecar.write_text(sidecar.read_text()[:100])
    else:
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "schema": 99}))
    rig.fake.faults.reset()
    _provided(rig)
    assert rig.builds == 2
    (line,) = [line for line in rig.said[4:] if line.startswith("building")]
    words = {"sidecar gone": "has no sidecar", "sidecar cut": "is damaged", "sidecar newer": "has schema 99"}
    assert words.get(damage, "truncated or altered") in line
    assert rig.fake.faults.record().count("trt.Runtime.deserialize_cuda_engine") == 2, (
        "only the new one, built and loaded"
    )
    assert read_engine(path).plan()


def test_a_failed_self_test_is_refused_and_the_engine_is_not_trusted_later(tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path)
    bundle = tiny_bundle()
    wrong = replace(bundle, golden=replace(bundle.golden, classes=(bundle.golden.classes + 1) % 3))  # type: ignore[union-attr, type-var]
    for _ in range(2):
        with pytest.raises(GateRefused, match="self-test failed: the int8-implicit engine of TensorRT .*lost: .*tune"):
            _provided(rig, wrong)
    assert rig.builds == 1 and not rig.leaks()
    (entry,) = [entry for _, entry in EngineCache(tmp_path).entries()]
    assert not entry.self_test["passed"]  # type: ignore[union-attr, index]
    assert _provided(rig, bundle).self_test.passed, "the same engine, with frames that it agrees with"


def test_a_bundle_without_golden_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no golden frames"):
        _provided(Rig("10.3.0.30", tmp_path), tiny_bundle(golden=None))


def test_what_the_bundle_lacks_is_named(tmp_path: Path) -> None:
    old, new = Rig("8.5.2.2", tmp_path), Rig("11.4.1.1", tmp_path)
    with pytest.raises(EngineError, match="no graph 'fp16' for fp16 .it has fp32, int8-tensorrt.*--fp16"):
        _provided(new, precision="fp16")
    with pytest.raises(EngineError, match="has no ranges; 'edgeseg compile --int8 --calib FOLDER'"):
        _provided(old, tiny_bundle(ranges=None), precision="int8", int8_mode="implicit")
    assert _provided(old, tiny_bundle(ranges=None)).precision == "int8-qdq"
    bundle = tiny_bundle()
    only_fp32 = replace(bundle, graphs={"fp32": bundle.graphs["fp32"]}, ranges=None)
    with pytest.raises(EngineError, match="no graph 'int8-tensorrt'.*'edgeseg compile --int8'"):
        _provided(old, only_fp32)
    with pytest.raises(UsageError, match="no precision 'int4'; there are int8, int8-implicit"):
        TensorRtOptions(precision="int4")
    with pytest.raises(UsageError, match="`int8_mode` is auto, implicit, qdq, got 'x'"):
        TensorRtOptions(int8_mode="x")
    with pytest.raises(UsageError, match="`cuda_graph` is auto, on, off and `memory` auto, mapped, copy"):
        TensorRtOptions(cuda_graph="perhaps")
    with pytest.raises(UsageError, match="a DLA core runs FP16 and INT8, not fp32"):
        TensorRtOptions(precision="fp32", dla_core=0)


def test_ranges_of_another_graph_are_refused(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    with pytest.raises(EngineError, match="the ranges belong to another graph"):
        built_plan(rig.api, tiny_onnx(), BuildRequest("int8-implicit", amax={"elsewhere": 1.0}))
    with pytest.raises(EngineError, match="layer 'gone', which must stay in float, is not in TensorRT's network"):
        amax = {"x": 255.0, "conv": 1.0, "relu": 1.0, "logits": 1.0, "frame_float": 255.0}
        built_plan(rig.api, tiny_onnx(), BuildRequest("int8-implicit", amax=amax, float_layers=("gone",)))


def test_layers_that_the_gate_put_back_stay_in_float(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    bundle = tiny_bundle()
    kept = GraphEntry(bundle.graphs["int8-tensorrt"].onnx, StaticInt8("tensorrt", float_layers=("logits",)))
    made = _provided(rig, replace(bundle, graphs={**bundle.graphs, "int8-tensorrt": kept}))
    assert made.cached.precisions.convolutions == {"INT8": 1, "FP16": 1}


def test_an_engine_without_int8_is_refused(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    amax = {"x": 255.0, "frame_float": 255.0, "conv": 1.0, "relu": 1.0, "logits": 1.0}
    request = BuildRequest("int8-implicit", amax=amax, float_layers=("conv", "logits"), min_int8_share=0.0)
    with pytest.raises(EngineError, match="built no INT8 layer although INT8 was asked for .convolutions: FP16 2"):
        built_plan(rig.api, tiny_onnx(), request)
    heard: dict[str, str] = {}
    rig.api.heard = heard.__setitem__
    with pytest.raises(EngineError, match="built no INT8 layer"):
        built_plan(rig.api, tiny_onnx(), request)
    assert "Layers" in json.loads(heard["inspector.json"]), "the engine that is refused is the one to look at"
    partial = BuildRequest("int8-implicit", amax=amax, float_layers=("conv",), min_int8_share=0.75)
    with pytest.raises(EngineError, match="made only 50 % of the convolutions INT8 .*--allow-partial-int8' accepts"):
        built_plan(rig.api, tiny_onnx(), partial)
    assert built_plan(rig.api, tiny_onnx(), replace(partial, min_int8_share=0.0)).precisions.int8_share == 0.5


def test_float16_weights_become_constants_for_old_parsers(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path)
    bundle = tiny_bundle()
    small = GraphEntry(tiny_onnx(float16_weights=True), Fp32())
    made = rig.factory.open(
        replace(bundle, graphs={**bundle.graphs, "fp32": small}), "tiny", TensorRtOptions(precision="fp16")
    )
    with made.engine as engine:
        assert np.mean(engine.infer(tiny_frames(1)) == bundle.golden.classes[:1]) > 0.99  # type: ignore[union-attr]


def test_out_of_memory_is_said(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path, build_needs_mib=3000)
    rig.fake.free_mib = 500
    with pytest.raises(OutOfMemory, match="ran out of memory while building .*--workspace-mib"):
        _provided(rig)
    assert rig.said[1] == "note: only 500 MiB of memory are available; the build may be killed"
    assert ", workspace at most 125 MiB: " in rig.said[2]
    assert not rig.leaks()


def test_dla_says_its_split(tmp_path: Path) -> None:
    rig = Rig("8.5.2.2", tmp_path, dla_cores=2)
    assert rig.factory.dla_cores() == 2
    made = _provided(rig, precision="fp16", dla_core=1)
    (note,) = made.cached.notes
    assert "layers can run on DLA 1" in note and "transitions" in note
    with pytest.raises(EngineError, match="there is no DLA core 2: this device and TensorRT have 2"):
        _provided(rig, precision="fp16", dla_core=2)


@pytest.mark.parametrize("body", ["added", "scaled", "prelu", "residual"])
@pytest.mark.parametrize("version", ["8.5.2.2", "10.3.0.30"])
def test_the_split_of_a_dla_counts_no_constants(version: str, body: str, tmp_path: Path) -> None:
    """They become layers of the network, and what gives them more dimensions too; none of them is ever run."""
    network = Network(1, "mean", (body,), "conv")
    rig = Rig(version, tmp_path, dla_cores=2)
    made = rig.factory.open(network.bundle(), "model", TensorRtOptions(precision="fp16", dla_core=0), refuse=False)
    made.engine.close()
    able = [node.op_type in DLA_OPS for node in network.model.graph.node]
    transitions = sum(one != other for one, other in zip(able, able[1:]))
    (note,) = made.cached.notes
    assert note.startswith(f"{sum(able)}/{len(able)} layers can run on DLA 0, {transitions} transitions"), note


def test_dla_takes_its_precision_from_the_graph_where_that_has_it(tmp_path: Path) -> None:
    """TensorRT 11.4.1 on AGX Orin: strongly typed."""
    rig = Rig("11.4.1.1", tmp_path, dla_cores=2)
    half = GraphEntry(tiny_onnx(half=True), Fp16())
    bundle = tiny_bundle()
    bundle = replace(bundle, graphs={**bundle.graphs, "fp16": half})
    for precision, built in (("fp16", "fp16"), ("int8", "int8-qdq")):
        made = _provided(rig, bundle, precision=precision, dla_core=1)
        assert made.precision == built and made.self_test.passed
        assert any("layers can run on DLA 1" in note and not note.startswith("0/") for note in made.cached.notes)
        assert json.loads(made.cached.key.options)["dla"] == 1
    names = [(one.precision, one.dla_core) for one in candidates(rig.factory, rig.factory.dla_cores())]
    assert names == [("int8-qdq", None), ("fp16", None), ("int8-qdq", 0), ("fp16", 0)]


def test_dla_is_refused_where_it_would_not_be_used(tmp_path: Path) -> None:
    for version in ("8.5.2.2", "10.3.0.30"):
        with pytest.raises(EngineError, match="a DLA core runs FP16 and implicit INT8 with .*, not int8-qdq"):
            _provided(Rig(version, tmp_path, dla_cores=2), precision="int8", int8_mode="qdq", dla_core=0)
    for version in ("10.13.3.9", "11.3.0.1", "11.4.0.1"):
        half = GraphEntry(tiny_onnx(half=True), Fp32())
        bundle = replace(tiny_bundle(), graphs={"fp32": half, "fp16": half})
        with pytest.raises(EngineError, match="there is no DLA core 0: this device and TensorRT have 0"):
            _provided(Rig(version, tmp_path, dla_cores=2), bundle, precision="fp16", dla_core=0)
    typed = GraphEntry(tiny_onnx(), Fp32())
    bundle = replace(tiny_bundle(), graphs={"fp16": typed})
    with pytest.raises(EngineError, match=r"can run none of the \d+ layers on DLA 0, .*; leave `dla` out"):
        _provided(Rig("11.4.1.1", tmp_path, dla_cores=2), bundle, precision="fp16", dla_core=0)


@pytest.mark.parametrize("precision", ["fp16", "int8-implicit"])
@pytest.mark.parametrize("core", [0, 1])
def test_a_plan_for_dla_is_loaded_on_its_core(core: int, precision: str, tmp_path: Path) -> None:
    """Where it is built, inspected and run; and when it comes from the cache, alone or as tune's choice."""
    rig = Rig("8.5.2.2", tmp_path, dla_cores=2)
    _provided(rig, precision=precision, dla_core=core)
    assert rig.module.fake.dla_core_used == core
    rig.factory.choose(tiny_bundle(), "tune", TensorRtOptions(precision=precision, dla_core=core))
    again = Rig("8.5.2.2", tmp_path, dla_cores=2)
    _provided(again)
    assert again.builds == 0 and again.module.fake.dla_core_used == core
    _provided(again, precision=precision)
    assert again.module.fake.dla_core_used is None, "without DLA none is set"
    fewer = Rig("8.5.2.2", tmp_path, dla_cores=core)
    with pytest.raises(EngineError, match=f"there is no DLA core {core}: this device and TensorRT have {core}"):
        _provided(fewer)
    assert not fewer.leaks()


def test_choices_are_kept_for_a_model_in_a_place(tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path)
    rig.factory.choose(tiny_bundle(), "tune", TensorRtOptions(precision="fp16"))
    assert _provided(rig).precision == "fp16"
    assert rig.said[0] == "options as 'edgeseg tune' chose them for this model here: precision=fp16"
    assert _provided(rig, precision="int8").precision == "int8-implicit", "what is asked for goes first"
    other = Rig("10.16.2.10", tmp_path)
    assert _provided(other).precision == "int8-implicit", "another TensorRT, another place"
    assert other.said[0].startswith("note: 'edgeseg tune' chose for TensorRT 10.3.0.30 on Orin (8.7, 8 SMs)")
    (choice,) = tmp_path.glob("choice-*.json")
    choice.write_text(choice.read_text().replace('"int8_mode"', '"another_word"'))
    rig.said.clear()
    assert _provided(rig).precision == "int8-implicit"
    assert rig.said[0] == "note: what 'edgeseg tune' chose is of another edgeseg and not used; run it again"
    choice.write_text("{")
    assert _provided(rig).precision == "int8-implicit"


def test_the_timing_cache_is_used_again_and_bound_to_its_place(tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path)
    _provided(rig)
    timed = rig.module.fake.timings
    rig.factory.open(tiny_bundle(), "tiny", TensorRtOptions(), rebuild=True).engine.close()
    assert rig.module.fake.timings == timed, "the second build times no kernel"
    _provided(Rig("10.16.2.10", tmp_path))
    assert len(list(tmp_path.glob("timing-*.cache"))) == 2
    (first, *_) = sorted(tmp_path.glob("timing-*.cache"))
    first.write_bytes(b"junk")
    for version in ("10.3.0.30", "10.16.2.10"):
        Rig(version, tmp_path).factory.open(tiny_bundle(), "tiny", TensorRtOptions(), rebuild=True).engine.close()
    assert first.read_bytes() != b"junk"


def test_engines_can_be_listed_removed_and_added(tmp_path: Path) -> None:
    rig = Rig("10.3.0.30", tmp_path / "one")
    made = _provided(rig)
    other = EngineCache(tmp_path / "two")
    added = other.add(made.cached.path)
    assert added.plan() == made.cached.plan() and added.path.parent == tmp_path / "two"
    assert other.find(made.cached.key)[0] is not None
    assert other.remove(added.path) > 0 and not list((tmp_path / "two").iterdir())
    (tmp_path / "foreign.engine").write_bytes(b"plan of trtexec")
    with pytest.raises(EngineError, match="has no sidecar foreign.engine.json, so edgeseg did not build it"):
        other.add(tmp_path / "foreign.engine")


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_an_engine_that_cannot_be_kept_runs_all_the_same(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    if trouble == "read-only":
        folder.write_text("a file where the folder should be")
    rig = Rig("10.3.0.30", folder)
    if trouble == "full":

        def full(engine: Any, plan: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(rig.cache, "store", full)
    for _ in range(2):
        made = _provided(rig)
        assert made.self_test.passed
    assert rig.builds == 2
    (note, _) = [line for line in rig.said if "cannot keep it" in line]
    assert note.endswith("); it is built again next time")
    assert trouble != "full" or not list(folder.glob("*.engine*"))


def test_two_processes_do_not_build_at_once(tmp_path: Path) -> None:
    """Who waited for the other's build finds its engine."""
    first, second = Rig("10.3.0.30", tmp_path), Rig("10.3.0.30", tmp_path)
    started, made = threading.Event(), []

    def other() -> None:
        started.set()
        made.append(_provided(second).cached.path)

    with first.cache.building():
        thread = threading.Thread(target=other)
        thread.start()
        started.wait()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "it waits"
        elsewhere = Rig("10.3.0.30", tmp_path / "elsewhere")
        first.cache.add(_provided(elsewhere).cached.path)
    thread.join(timeout=30)
    assert made and second.builds == 0
