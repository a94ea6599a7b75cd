"""The commands of a board in processes of their own, with the fakes under the names of TensorRT and pycuda."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeseg.bundle import write_bundle
from edgeseg.engines.tensorrt.layers import precisions_from_inspector
from edgeseg.ranges import Ranges
from tests import HANG_S
from tests.engines.tensorrt.tiny import tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("8.5.2.2", "11.4.1.1")
DEMO = "demo://street?frames=1"


class Board:
    """A working folder with a bundle, and a shell on a board."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'tests' / 'shims'}{os.pathsep}{ROOT}",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "EDGESEG_FAKE_TENSORRT": version,
        }
        write_bundle(tiny_bundle(), folder / "tiny.edgeseg")

    def start(self, *words: str, **environment: str) -> Any:
        return subprocess.Popen(
            [sys.executable, "-m", "edgeseg", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=HANG_S)
        assert process.returncode == code, f"{out}\n{err}"
        assert "Traceback" not in err
        return str(out if code == 0 else out + err)

    def engines(self) -> list[Path]:
        return sorted((self.folder / "cache" / "edgeseg" / "engines").glob("*.engine"))


@pytest.fixture(params=VERSIONS)
def board(request: Any, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


@pytest.fixture
def orin(tmp_path: Path) -> Board:
    return Board(tmp_path, "10.3.0.30")


def test_from_the_bundle_to_masks(board: Board) -> None:
    said = board.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    assert "INT8 2" in said and "self-test: " in said and "ready: " in said
    frames = "demo://street?frames=3"
    said = board.run("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", frames, "--sink", "out")
    assert "as 'edgeseg compile' chose them" in said and "building" not in said
    assert f"engine: TensorRT {board.environment['EDGESEG_FAKE_TENSORRT']} on Orin, int8-" in said
    assert len(list((board.folder / "out" / "masks").iterdir())) >= 1
    said = board.run("verify", "tiny.edgeseg", "--engine", "tensorrt", "--json")
    (result,) = json.loads(said)["results"]
    assert result["passed"] and result["limit"] == 0.9
    (engine,) = json.loads(board.run("engines", "list", "--json"))["engines"]
    assert engine["precisions"]["convolutions"] == {"INT8": 2} and engine["self_test"]["passed"]


def test_what_tensorrt_said_is_kept_whatever_comes_of_the_build(orin: Board) -> None:
    log = orin.folder / "log"
    words = ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", "--build-log")
    assert "is a folder that exists" in orin.run(*words, "log", code=2)
    log.mkdir()
    orin.run(*words, "log")
    assert "[INFO] " in (log / "tensorrt.log").read_text()
    listing = (log / "inspector.json").read_text()
    assert precisions_from_inspector(listing).convolutions == {"INT8": 2}
    for kept in log.iterdir():
        kept.unlink()
    orin.run(*words, "log", "--dla", "7", "--rebuild", code=1)
    assert "[INFO] " in (log / "tensorrt.log").read_text()
    assert "concern a TensorRT engine" in orin.run("compile", "tiny.edgeseg", "--int8", "--build-log", "log", code=2)


def test_tune_keeps_the_fastest_that_is_right(orin: Board) -> None:
    document = json.loads(
        orin.run("tune", "tiny.edgeseg", "--flavour", "tensorrt", "--seconds", "0.2", "--warmup", "0", "--json")
    )
    names = [candidate["name"] for candidate in document["candidates"]]
    assert names == ["int8-implicit", "int8-qdq", "fp16", "int8-implicit on DLA 0", "fp16 on DLA 0"]
    medians = {c["name"]: c["measured"]["ms_per_frame"]["p50_ms"] for c in document["candidates"] if c["measured"]}
    assert document["best"] == min(medians, key=medians.__getitem__)
    said = orin.run("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1")
    assert "as 'edgeseg tune' chose them" in said and "building" not in said


def test_tune_leaves_out_what_fails_its_golden_frames(orin: Board) -> None:
    bundle = tiny_bundle()
    narrow = dict.fromkeys(bundle.ranges.tensors, (-0.001, 0.001))  # type: ignore[union-attr]
    write_bundle(replace(bundle, ranges=Ranges(narrow)), orin.folder / "tiny.edgeseg")
    said = orin.run("tune", "tiny.edgeseg", "--flavour", "tensorrt", "--seconds", "0.1", "--warmup", "0")
    assert "int8-implicit is out: self-test failed" in said and "is taken: " in said


def test_bench_times_the_engines_of_the_board(orin: Board) -> None:
    words = (
        "bench",
        "tiny.edgeseg",
        "--engine",
        "tensorrt",
        "--seconds",
        "0.1",
        "--warmup",
        "0",
        "--no-torch",
        "--json",
    )
    document = json.loads(orin.run(*words))
    names = [contender["name"] for contender in document["contenders"]]
    assert names[0] == "int8-implicit in TensorRT" and "fp16 in TensorRT" in names
    assert {"h2d", "compute", "d2h"} <= set(document["contenders"][0]["stages_ms"])


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("killed", "was killed, most likely for lack of memory; close other programs, add swap"),
        ("abort", "broke down (signal 6); its last words: terminate called"),
        ("silent", "ended without an answer"),
    ],
)
def test_a_builder_that_dies_is_one_line(orin: Board, trouble: str, words: str) -> None:
    said = orin.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", code=1, EDGESEG_FAKE_BUILDER=trouble)
    assert words in said.splitlines()[-1] and not orin.engines()


def test_a_builder_whose_tensorrt_does_not_start_is_one_line(board: Board) -> None:
    """pycuda is content with a driver that is older than TensorRT's CUDA."""
    words = ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    last = board.run(*words, code=1, EDGESEG_FAKE_RUNTIME_ERROR="35").splitlines()[-1]
    assert "failed: CUDA does not start; it said: CUDA initialization failure with error: 35" in last
    assert "the NVIDIA driver is missing or older than this CUDA" in last and not board.engines()


def test_ctrl_c_ends_the_builder_too(orin: Board) -> None:
    process = orin.start("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", EDGESEG_FAKE_BUILDER="sleep")
    assert process.stdout is not None
    while "building" not in process.stdout.readline():
        pass
    time.sleep(1)
    children = _children(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err.strip() == "edgeseg: interrupted"
    assert not [child for child in children if Path(f"/proc/{child}").exists()] and not orin.engines()


def test_kill_9_takes_the_builder_along(orin: Board) -> None:
    orin.environment["EDGESEG_FAKE_BUILDER"] = "sleep"
    process = orin.start("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    assert process.stdout is not None
    while "building" not in process.stdout.readline():
        pass
    time.sleep(2)
    children = _children(process.pid)
    assert children
    process.kill()
    process.communicate()
    for _ in range(50):
        if not any(_runs(child) for child in children):
            return
        time.sleep(0.1)
    raise AssertionError("the builder goes on")


def test_kill_9_while_building_leaves_nothing_that_is_half(orin: Board) -> None:
    orin.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    (before,) = orin.engines()
    for delay in (0.3, 0.6, 0.9, 1.2):
        process = orin.start("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", "--rebuild")
        time.sleep(delay)
        process.kill()
        process.communicate()
        said = orin.run("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1")
        assert "3 frames" in said or "1 frames" in said
        assert orin.engines() == [before]


def test_what_cannot_be_had_is_refused_unless_fallback(orin: Board) -> None:
    gone = {"PYTHONPATH": str(ROOT)}
    words = ("run", "tiny.edgeseg", "--engine", "tensorrt", "--source", "demo://street?frames=1")
    write_bundle(replace(tiny_bundle(), graphs={"fp32": tiny_bundle().graphs["fp32"]}), orin.folder / "tiny.edgeseg")
    said = orin.run(*words, code=1, **gone)
    assert "edgeseg doctor" in said.splitlines()[-1] or "pip install" in said.splitlines()[-1]
    said = orin.run(*words, "--fallback", **gone)
    assert "TensorRT is not used: " in said and "running on the CPU instead, as --fallback allows" in said


def test_prune_takes_what_is_broken_old_or_asked_for(orin: Board) -> None:
    orin.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    orin.run("compile", "tiny.edgeseg", "--fp16", "--flavour", "tensorrt")
    first, second = orin.engines()
    first.write_bytes(b"cut")
    assert "would delete" in orin.run("engines", "prune", "--dry-run") and first.exists()
    assert "truncated or altered" in orin.run("engines", "list", "--json")
    assert "1 engines" in orin.run("engines", "prune") and orin.engines() == [second]
    assert "0 engines" in orin.run("engines", "prune", "--older-than", "1")
    assert "no engines" in (orin.run("engines", "prune", "--all") and orin.run("engines", "list"))


def test_prune_keeps_what_edgeseg_did_not_write(orin: Board) -> None:
    orin.run("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt")
    folder = orin.engines()[0].parent
    kept = [
        folder / name for name in ("mine.engine", "mine.engine.json", "notes.txt", "mine-1234.engine", "timing.cache")
    ]
    for path in kept:
        path.write_text("of the user")
    (folder / "photos").mkdir()
    (folder / "photos/a-0123456789abcdef.engine").write_text("of the user")
    for words in ((), ("--older-than", "0.000001"), ("--all",)):
        said = orin.run("engines", "prune", *words)
        assert all(path.read_text() == "of the user" for path in kept)
    assert sorted(folder.iterdir()) == sorted([*kept, folder / "photos"]) and list((folder / "photos").iterdir())
    assert all(f"kept {path}: edgeseg did not write it" in said for path in [*kept, folder / "photos"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compile", "tiny.edgeseg", "--int8", "--dla", "0"), "--dla concern a TensorRT engine; add --flavour"),
        (("compile", "tiny.edgeseg", "--flavour", "trt"), "--flavour is tensorrt or rtx, got 'trt'"),
        (("compile", "tiny.edgeseg", "--int8", "--fp16", "--flavour", "tensorrt"), "in one precision"),
        (("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", "-o", "x.edgeseg"), "do not pass --out"),
        (("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", "--int8-mode", "x"), "--int8-mode is auto"),
        (("compile", "t.onnx", "--int8", "--flavour", "tensorrt"), "an engine is built of a bundle alone"),
        (
            ("compile", "tiny.edgeseg", "--int8", "--flavour", "tensorrt", "--scores"),
            "--scores do nothing where an engine",
        ),
        (("verify", "tiny.edgeseg", "--engine", "torch-tensorrt"), "a program is verified each time it is opened"),
        (("run", "tiny.edgeseg", "--engine", "torch-tensorrt", "--source", DEMO), "--program FILE.pt2 go together"),
        (
            ("run", "tiny.edgeseg", "--engine", "tensorrt", "--graph", "int4", "--fallback", "--source", DEMO),
            "no precision",
        ),
        (("engines", "add", "nothing.engine"), "nothing.engine does not exist"),
        (("tune", "tiny.edgeseg", "--flavour", "x"), "--flavour is auto or cpu or tensorrt or rtx"),
    ],
)
def test_bad_words_are_one_line(orin: Board, words: tuple[str, ...], said: str) -> None:
    answer = orin.run(*words, code=2)
    assert said in answer.strip().splitlines()[-1]


def _runs(pid: int) -> bool:
    """Neither gone nor a zombie that nobody waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in tasks]
