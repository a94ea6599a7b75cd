"""``edgeseg compile`` on real models."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgeseg.app.compile import compile_bundle
from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import read_bundle
from edgeseg.compiler.quantize.emit import EMITTERS
from edgeseg.compiler.quantize.qdq import cpu_qdq_onnx
from edgeseg.images import write_png
from edgeseg.recipes import RECIPES
from tests import HANG_S
from tests.cli.test_cli import edgeseg, refused


def test_bare_compile_int8_takes_the_shipped_model_and_its_ranges(tmp_path: Path) -> None:
    done = edgeseg("compile", "--int8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the shipped model" in done.stdout and "ranges: frozen" in done.stdout
    assert "the shipped model again" in done.stdout
    made, shipped = read_bundle(tmp_path / "street.edgeseg"), read_bundle(SHIPPED)
    assert made.ranges == shipped.ranges and made.drift == shipped.drift
    for name in ("int8-cpu", "int8-tensorrt"):
        assert made.graphs[name].onnx == shipped.graphs[name].onnx, "the shipped graphs are what this compiler emits"
    assert made.report.self_test["int8-cpu"] == made.report.limits.min_agreement, "far below what it achieves"
    report = made.report.graphs
    assert report["int8-cpu"].int8_convolutions == report["int8-tensorrt"].int8_convolutions
    assert report["fp32"].accuracy.miou - report["int8-tensorrt"].accuracy.miou < 0.01


@dataclass(frozen=True)
class Own:
    """A technique that this package does not have, and that is emitted from ranges."""

    target: ClassVar[str] = "cpu"
    is_int8: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = True


def test_a_technique_of_ones_own_gets_ranges_and_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/contributing.md says of a new one: a class, a name, an emitter, and nothing else."""
    monkeypatch.setitem(RECIPES, "int8-own", Own())  # type: ignore[arg-type]
    monkeypatch.setitem(EMITTERS, Own, lambda graph, ranges, recipe: cpu_qdq_onnx(graph, ranges))  # type: ignore[arg-type]
    frames = "demo://street?frames=16&size=480x360&step=20"
    for calibration in ((), (frames,)):  # the frozen ranges of the shipped model, and new ones
        config = CompileConfig(emit=("int8-own",), calibration=calibration, out=tmp_path / "own.edgeseg")
        done = compile_bundle(config).compilation
        (result,) = [one for one in done.results if one.name == "int8-own"]
        assert result.int8_convolutions[0] > 50 and not result.refused
        assert done.bundle.ranges is not None and "int8-own" in done.bundle.graphs


def test_black_calibration_images_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "black").mkdir()
    for index in range(16):
        write_png(tmp_path / "black" / f"{index}.png", np.zeros((90, 120, 3), np.uint8))
    line = refused("compile", "--int8", "--calib", "black", cwd=tmp_path, code=3)
    assert "the accuracy gate refused INT8" in line and "near-black" in line and "mIoU fell by" in line
    assert [path.name for path in tmp_path.iterdir()] == ["black"], "a refused model is not written"


def test_a_strict_gate_refuses_a_good_graph(tmp_path: Path) -> None:
    line = refused("compile", "--int8", "--min-agreement", 100, cwd=tmp_path, code=3)
    assert "100.00 % are needed" in line


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.safetensors").write_bytes(b"x" * 100)
    assert "holds no images" in refused("compile", "--int8", "--calib", "empty", cwd=tmp_path)
    assert "cannot be read as a checkpoint" in refused("compile", "cut.safetensors", cwd=tmp_path)
    assert "needs calibration images" in refused("compile", "cut.safetensors", "--int8", cwd=tmp_path, code=2)
    assert "empty is no file; pass a checkpoint" in refused("compile", "empty", cwd=tmp_path, code=2)
    assert "does not exist" in refused("compile", "none.safetensors", cwd=tmp_path, code=2)
    assert "existing folder" in refused("compile", "--int8", "-o", "none/x.edgeseg", cwd=tmp_path, code=2)
    assert "need a checkpoint" in refused("compile", "--int8", "--size", "64x64", cwd=tmp_path, code=2)


def test_train_compile_run_eval_in_one_go(tmp_path: Path) -> None:
    """The whole path on rendered frames, small: nothing is faked."""
    data, val = "demo://street?frames=32&step=20&size=128x96", "demo://street?frames=8&step=20&size=128x96&seed=9"
    trained = edgeseg(
        "train", data, "--val", val, "--classes", "camvid", "--size", "128x96", "--crop", 96, "--epochs", 6,
        "--batch", 4, "--workers", 0, "--out", "run", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["val_miou"] > 0.05
    again = refused("train", data, "--val", val, "--classes", "camvid", "--out", "run", cwd=tmp_path, code=2)
    assert "pass --resume" in again
    compiled = edgeseg(
        "compile", "run/best.safetensors", "--int8", "--calib", data, "--eval", val, "-o", "m.edgeseg",
        "--max-drop", 5, "--max-class-drop", 20, "--min-agreement", 80, "--json", cwd=tmp_path,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr
    graphs = json.loads(compiled.stdout)["graphs"]
    assert {"fp32", "int8-tensorrt", "int8-cpu", "int8-dynamic"} == set(graphs)
    assert graphs["int8-cpu"]["int8_convolutions"][0] == graphs["int8-cpu"]["int8_convolutions"][1] > 50
    ran = edgeseg("run", "m.edgeseg", "--source", val, "--policy", "every", "--sink", "null://", "--json", cwd=tmp_path)
    evaluated = edgeseg("eval", "m.edgeseg", "--data", val, "--json", cwd=tmp_path)
    assert json.loads(ran.stdout)["miou"] == pytest.approx(json.loads(evaluated.stdout)["miou"], abs=1e-9)
    judged = edgeseg("eval", "m.edgeseg", "--data", val, "--engine", "onnxruntime", "--json", cwd=tmp_path)
    assert json.loads(judged.stdout)["miou"] == pytest.approx(graphs["int8-cpu"]["miou"], abs=1e-6), "as the gate"


def test_a_model_whose_class_map_is_taken_before_the_last_enlargement_runs(tmp_path: Path) -> None:
    data = "demo://street?frames=16&size=480x360"
    compiled = edgeseg(
        "compile", SHIPPED, "--int8", "--argmax-first", "--calib", data, "--min-agreement", 80, "--max-drop", 20,
        "--max-class-drop", 50, "-o", "m.edgeseg", cwd=tmp_path,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr
    ran = edgeseg("run", "m.edgeseg", "--source", "demo://street?frames=2", "--sink", "masks", "--json", cwd=tmp_path)
    evaluated = edgeseg("eval", "m.edgeseg", "--data", "demo://street?frames=2", "--json", cwd=tmp_path)
    assert json.loads(ran.stdout)["miou"] == pytest.approx(json.loads(evaluated.stdout)["miou"], abs=1e-9)
    verified = edgeseg("verify", "m.edgeseg", cwd=tmp_path)
    assert verified.returncode == 0 and verified.stdout.count("passed: ") == 2, verified.stdout + verified.stderr


def test_ctrl_c_half_way_leaves_no_half_bundle(tmp_path: Path) -> None:
    old = SHIPPED.read_bytes()
    (tmp_path / "street.edgeseg").write_bytes(old)
    command = [sys.executable, "-m", "edgeseg", "compile", str(SHIPPED), "--int8", "--no-cache", "-o", "street.edgeseg"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130 and err.strip().splitlines()[-1] == "edgeseg: interrupted"
    assert (tmp_path / "street.edgeseg").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["street.edgeseg"]


def test_camvid_numbers_of_the_shipped_model(camvid: Path, tmp_path: Path) -> None:
    """The README's numbers, on the real validation set."""
    result = {}
    for graph in ("fp32", "int8-cpu"):
        done = edgeseg("eval", SHIPPED, "--data", camvid / "val", "--graph", graph, "--json", cwd=tmp_path)
        result[graph] = json.loads(done.stdout)["miou"]
    assert result["fp32"] > 0.69 and result["fp32"] - result["int8-cpu"] < 0.01
