"""What the tests of a fleet share: boards, and two models that are as small as can be."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import pytest

from tests.fleet.rig import SSHD, Fleet

PRIVILEGE_SEPARATION = Path("/run/sshd")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    if SSHD is None:
        pytest.skip("sshd is not installed; sudo make setup-system")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    made = Fleet(tmp_path / "fleet")
    yield made
    made.stop()


def _model(path: Path, note: str) -> Path:
    pytest.importorskip("onnx")
    from edgeseg.bundle import GraphEntry, write_bundle
    from edgeseg.recipes import StaticInt8
    from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx

    bundle = tiny_bundle(provenance={"note": note})
    # A graph that boards run whose arithmetic is wrong: its classes are others than FP32's.
    wrong = GraphEntry(tiny_onnx(wrong=True), StaticInt8("cpu"))
    write_bundle(replace(bundle, graphs={"fp32": bundle.graphs["fp32"], "int8-cpu": wrong}), path)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return _model(tmp_path / "old.edgeseg", "old")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return _model(tmp_path / "new one's.edgeseg", "new")
