"""``edgeseg train --qat``: what it refuses, and that its checkpoint compiles with the ranges that it brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.app.train import train
from edgeseg.bundle import read_bundle
from edgeseg.errors import UsageError
from edgeseg.recipes import StaticInt8
from tests.app.test_train import small
from tests.cli.test_cli import edgeseg, refused
from tests.cli.test_train import data_set


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="training needs torch, which the light suites leave out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_only_a_trained_network_is_fine_tuned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`weights` 'none' is no file; train without `qat` first"):
        train(small(tmp_path, qat=True))
    with pytest.raises(UsageError, match="`per_tensor` is for `qat`; add it"):
        train(small(tmp_path, per_tensor=True))
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(UsageError, match="fine-tunes a whole network; leave `keep` body out"):
        train(small(tmp_path, qat=True, weights=str(tmp_path / "x.safetensors"), keep="body"))
    with pytest.raises(UsageError, match="leave `compiled` out"):
        train(small(tmp_path, qat=True, weights=str(tmp_path / "x.safetensors"), compiled=True))


def test_one_scale_per_layer_is_for_int8(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="compiling needs onnx, which the light suites leave out")
    line = refused("compile", "--per-tensor", "--eval", "x", "-o", "x.edgeseg", cwd=tmp_path, code=2)
    assert "--per-tensor" in line and "are for --int8; add it" in line


def test_the_checkpoint_brings_its_ranges_to_the_bundle(tmp_path: Path, one_thread: None) -> None:
    data_set(tmp_path, "train", 16, 1)
    data_set(tmp_path, "val", 2, 1)
    train(small(tmp_path, batch=8))
    first = str(tmp_path / "run" / "best.safetensors")
    made = train(small(tmp_path, batch=8, weights=first, qat=True, per_tensor=True, out=tmp_path / "int8"))
    assert made.ranges is not None and made.ranges.images == 16
    assert made.training["initial_weights"].endswith(", fine-tuned for INT8")
    common = ("--emit", "int8-tensorrt", "--eval", "val", "--no-gate", "-o", "made.edgeseg")
    done = edgeseg("compile", "int8/best.safetensors", "--int8", "--per-tensor", *common, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(tmp_path / "made.edgeseg")
    recipe = bundle.graphs["int8-tensorrt"].recipe
    assert isinstance(recipe, StaticInt8) and not recipe.per_channel
    assert bundle.ranges is not None and bundle.ranges.tensors == made.ranges.tensors
    missing = refused("compile", "run/best.safetensors", "--int8", *common, cwd=tmp_path, code=2)
    assert "INT8 needs calibration images" in missing
