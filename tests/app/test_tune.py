from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeseg.app.bench_config import TuneConfig
from edgeseg.app.config import EngineOptions
from edgeseg.app.engines import cache_folder, host_choices, opened_engine
from edgeseg.app.tune import TuningReport, tune
from edgeseg.bench.measure import Effort
from edgeseg.bench.tune_host import host_candidates, tuned_on_host
from edgeseg.bundle import Bundle, write_bundle
from edgeseg.cli.tune import _print as show
from edgeseg.device.detect import detected_device
from edgeseg.engines.host_choice import HostChoice, HostChoices
from edgeseg.engines.host_pick import host_pick
from edgeseg.engines.select import installed_engines
from edgeseg.errors import EngineError, UsageError
from edgeseg.progress import Progress
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx

FRAMES = [np.zeros((32, 48, 3), np.uint8)]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_tune_chose_runs_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    bundle, told = tiny_bundle(), []  # type: ignore[var-annotated]
    write_bundle(bundle, tmp_path / "tiny.edgeseg")
    report = tune(TuneConfig(model=tmp_path / "tiny.edgeseg", seconds=0.1, warmup=0.0, flavour="cpu"))
    best = report.tuning.best
    assert {one.name for one in report.tuning.candidates} >= {
        f"fp32 in {engine}, all threads" for engine in installed_engines()
    }
    assert f"{best.name} is taken" in report.tuning.verdict() and not best.refused
    assert best.self_test is not None and best.self_test.agreement > 0.99 and not report.not_kept
    json.dumps(report.to_json())
    remembered = f"auto takes {best.name}: 'edgeseg tune' chose it for this model here"
    alike = EngineOptions(graph=best.way.graph, threads=best.way.threads)
    for options in (EngineOptions(), alike):
        with opened_engine(bundle, "tiny.edgeseg", options, tell=told.append):
            assert told.pop() == remembered and not told
    with opened_engine(bundle, "tiny.edgeseg", EngineOptions(threads=7), tell=told.append) as engine:
        assert "7 threads" in engine.description and told.pop() != remembered, "what is asked for goes first"
    with opened_engine(bundle, "tiny.edgeseg", EngineOptions(engine="onnxruntime"), tell=told.append) as engine:
        assert "ONNX Runtime" in engine.description and not told
    changed = replace(bundle, graphs={"fp32": replace(bundle.graphs["fp32"], onnx=tiny_onnx(scores=True))})
    with opened_engine(changed, "tiny.edgeseg", EngineOptions(), tell=told.append, tuned=bundle) as engine:
        assert told.pop() == remembered and engine.scores is not None


def test_a_graph_that_fails_its_golden_frames_is_out_however_fast() -> None:
    bundle = tiny_bundle()
    wrong = replace(bundle.graphs["fp32"], onnx=tiny_onnx(wrong=True))
    spoiled = replace(bundle, graphs={**bundle.graphs, "int8-cpu": wrong})
    said: list[str] = []
    tried = [HostChoice("onnxruntime", graph, 0) for graph in ("int8-cpu", "fp32")]
    tuning = tuned_on_host(spoiled, tried, FRAMES, Effort(0.1, 0), on_result=said.append)
    assert tuning.best.way.graph == "fp32" and "self-test failed" in tuning.candidates[0].refused
    assert len(said) == 1 and said[0].startswith("int8-cpu in onnxruntime, all threads is out: ")
    with pytest.raises(EngineError, match="no candidate can be taken; the first: self-test failed"):
        tuned_on_host(spoiled, tried[:1], FRAMES, Effort(0.1, 0))


@pytest.mark.parametrize(("cores", "threads"), [(1, [0]), (2, [0, 1]), (3, [0, 1]), (8, [0, 4, 1])])
def test_threads_are_all_half_and_one(cores: int, threads: list[int]) -> None:
    bundle, device = tiny_bundle(), replace(detected_device(), cores=cores)
    found = host_candidates(bundle, device)
    assert found[0] == host_pick(bundle, device).choice, "others are compared with what runs unasked"
    assert [one.threads for one in found if (one.engine, one.graph) == ("onnxruntime", "fp32")] == threads


_SPOILED = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a choice that is none": b'{"PLACE": 3}',
    "no graph": b'{"PLACE": {"engine": "onnxruntime", "threads": 0}}',
    "a graph that is not there": b'{"PLACE": {"engine": "onnxruntime", "graph": "none", "threads": 0}}',
    "an engine that is not there": b'{"PLACE": {"engine": "none", "graph": "fp32", "threads": 0}}',
    "threads below none": b'{"PLACE": {"engine": "onnxruntime", "graph": "fp32", "threads": -1}}',
    "threads that are none": b'{"PLACE": {"engine": "onnxruntime", "graph": "fp32", "threads": "x"}}',
    "endless threads": b'{"PLACE": {"engine": "onnxruntime", "graph": "fp32", "threads": 1e999}}',
    "another machine": b'{"another": {"engine": "onnxruntime", "graph": "fp32", "threads": 0}}',
}


@pytest.mark.parametrize("spoiled", list(_SPOILED))
def test_a_choice_that_cannot_be_used_is_none(spoiled: str, tmp_path: Path) -> None:
    bundle, choices, choice = tiny_bundle(), HostChoices(tmp_path), HostChoice("onnxruntime", "fp32", 1)
    choices.keep(bundle, choice)
    assert choices.find(bundle) == choice
    (path,) = tmp_path.glob("*.json")
    (place,) = json.loads(path.read_bytes())
    path.write_bytes(_SPOILED[spoiled].replace(b"PLACE", place.encode()))
    assert choices.find(bundle) is None
    choices.keep(bundle, choice)
    assert choices.find(bundle) == choice


def test_a_graph_for_tensorrt_is_no_choice_for_a_cpu(tmp_path: Path) -> None:
    bundle, choices = tiny_bundle(), HostChoices(tmp_path)
    assert "int8-tensorrt" in bundle.graphs
    choices.keep(bundle, HostChoice("onnxruntime", "int8-tensorrt", 0))
    assert choices.find(bundle) is None


def test_a_choice_that_cannot_be_kept_does_not_cost_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    report = tune(TuneConfig(model=tmp_path / "tiny.edgeseg", seconds=0.1, warmup=0.0, flavour="cpu"))
    assert "was not kept, so later runs do not take it" in report.not_kept and report.tuning.best.measured
    assert str(tmp_path / "file") in report.not_kept


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_keeps_what_was_measured_and_no_choice(tmp_path: Path, at: int) -> None:
    def count(what: str, done: int, total: int) -> None:
        if what.startswith("timing") and done >= at:
            raise KeyboardInterrupt

    write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
    config = TuneConfig(model=tmp_path / "tiny.edgeseg", seconds=2, warmup=0.0, flavour="cpu")
    report = tune(config, Progress(lambda line: None, count))
    assert report.tuning.best.measured and "interrupted, and nothing is kept" in report.tuning.verdict()
    assert "interrupted" in report.not_kept and host_choices().find(tiny_bundle()) is None
    assert all(one.measured or "interrupted" in one.refused for one in report.tuning.candidates)


def test_a_choice_is_of_one_model() -> None:
    bundle = tiny_bundle()
    host_choices().keep(bundle, HostChoice("onnxruntime", "fp32", 1))
    other: Bundle = replace(bundle, graphs={"fp32": replace(bundle.graphs["fp32"], onnx=tiny_onnx(scores=True))})
    assert host_choices().find(other) is None and (cache_folder() / "choices").is_dir()


def test_there_is_no_other_flavour() -> None:
    with pytest.raises(UsageError, match="`flavour` is auto or cpu or tensorrt or rtx, got 'gpu'"):
        tune(TuneConfig(flavour="gpu"))


def test_the_verdict_compares_with_what_would_run_unasked() -> None:
    tried = [HostChoice("onnxruntime", "fp32", 0), HostChoice("onnxruntime", "fp32", 1)]
    tuning = tuned_on_host(tiny_bundle(), tried, FRAMES, Effort(0.1, 0))
    first, second = tuning.candidates
    if tuning.best is first:
        first, second = second, first
    assert "; beside" not in replace(tuning, rivals=[second]).verdict()
    assert f"; beside {first.name}: " in replace(tuning, rivals=[first]).verdict()


@pytest.mark.parametrize("drift", [-0.4, 0.0, 0.4])
def test_the_verdict_says_that_its_winner_was_unstable(drift: float, capsys: pytest.CaptureFixture[str]) -> None:
    tuning = tuned_on_host(tiny_bundle(), [HostChoice("onnxruntime", "fp32", 0)], FRAMES, Effort(0.1, 0))
    (one,) = tuning.candidates
    assert one.measured is not None
    one = replace(one, measured=replace(one.measured, drift=drift))
    tuning = replace(tuning, candidates=[one], rivals=[one])
    assert ("drifted by" in tuning.verdict()) == bool(drift)
    show(TuningReport("m", detected_device(), "frames", tuning))
    assert ("taken, unstable clocks" in capsys.readouterr().out) == bool(drift)
