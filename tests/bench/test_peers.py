"""benchmarks/peers: what the script itself does, with contenders that run, fail, crash and are not there."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg.bundle import write_bundle
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_frames

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
pytestmark = pytest.mark.skipif(not PEERS.is_dir(), reason="benchmarks/ is not part of this source distribution")


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))


def row(name: str, ms: list[float], *, ours: bool = False, reason: str = "", agreed: float | None = 1.0) -> Any:
    contenders, table = importlib.import_module("contenders"), importlib.import_module("table")
    laps = {mode: [[one, one, one] for one in ms] for mode in table.MODES}
    return table.Row(contenders.Entrant(name, "none", ours=ours), "words", laps, agreed, reason)


def test_every_row_has_a_program_and_an_environment_that_is_pinned() -> None:
    contenders, environments = importlib.import_module("contenders"), importlib.import_module("environments")
    names = [one.name for one in contenders.ENTRANTS]
    assert len(set(names)) == len(names) and {contenders.REFERENCE, contenders.EAGER} < set(names)
    for one in contenders.ENTRANTS:
        assert (PEERS / "programs" / f"run_{one.program}.py").is_file(), one
        pins = (PEERS / "requirements" / f"{one.environment}.txt").read_text() if one.environment else "none==1"
        assert all("==" in line for line in pins.splitlines()), one
    assert set(environments.BORROWS_TORCH) <= {one.environment for one in contenders.ENTRANTS}


def test_a_contender_that_cannot_run_stays_in_the_table() -> None:
    table = importlib.import_module("table")
    rows = [row("a", [20.0] * 8), row("gone", [], reason="no such | thing"), row("ours", [10.0] * 8, ours=True)]
    head, _, first, gone, ours = table.markdown(rows).splitlines()
    cells = head.count("|")
    assert [line.count("|") for line in (first, gone, ours)] == [cells] * 3
    assert "| 20.0 | 20.0 | 2.00x (2.00-2.00) |" in first and "100.00 %" in first
    assert gone.startswith("| gone | planes to scores | cannot run: no such / thing |")
    assert ours.startswith("| **ours** |") and "| 10.0 | 10.0 | 1 |" in ours


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        ([9.0, 9.1] * 4, "0.91x (0.90-0.91), the peer is faster"),
        ([12.0] * 8, "1.20x (1.20-1.20), ours is faster"),
        ([8.0, 12.0] * 4, "no difference is seen"),
    ],
)
def test_the_fastest_peer_is_named_and_judged_by_the_interval(ms: list[float], said: str) -> None:
    table = importlib.import_module("table")
    rows = [row("slow", [50.0] * 8), row("quick", ms), row("ours", [10.0] * 8, ours=True), row("x", [], reason="no")]
    graph, _ = table.verdicts("unet", rows)
    assert graph.startswith("unet, the graph alone: ours against the fastest peer, quick: ") and said in graph


def test_the_least_ratio_to_eager_is_that_of_one_turn() -> None:
    table = importlib.import_module("table")
    ours, eager = [row("ours", [10.0, 20.0, 10.0], ours=True)], [row("PyTorch eager", [200.0, 300.0, 200.0])]
    assert table.against_eager(ours, eager).endswith("least of 3 paired ratios 15.0x")
    assert "nothing to compare" in table.against_eager(ours, [row("PyTorch eager", [], reason="no torch")])


def test_class_maps_of_another_size_agree_nowhere() -> None:
    table = importlib.import_module("table")
    one = np.zeros((2, 4, 4), np.uint8)
    other = one.copy()
    other[0, 0] = 1
    assert table.agreement(one, one) == 1 and table.agreement(other, one) == 1 - 4 / 32
    assert table.agreement(one[:, :2], one) == 0


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny network; ours in ONNX Runtime and one contender for each way to fail."""
    contenders, speed = importlib.import_module("contenders"), importlib.import_module("speed")
    network = tmp_path / "networks" / "tiny"
    network.mkdir(parents=True)
    write_bundle(tiny_bundle(), network / "bundle.edgeseg")
    np.save(network / "frames.npy", np.stack([np.asarray(frame) for frame in tiny_frames(2)]))
    (network / "ready").touch()
    programs = tmp_path / "here" / "programs"
    programs.mkdir(parents=True)
    for name in ("turn.py", "run_edgeseg.py"):
        (programs / name).write_text((PEERS / "programs" / name).read_text())
    (programs / "run_raises.py").write_text("raise RuntimeError('no such operator')")
    (programs / "run_crashes.py").write_text("import os, sys; sys.argv[1] == 'prepare' or os.kill(os.getpid(), 11)")
    monkeypatch.setattr(speed, "HERE", tmp_path / "here")
    monkeypatch.setattr(speed.Race, "_surroundings", lambda self: {**_surroundings(), "OMP_NUM_THREADS": "1"})
    options = argparse.Namespace(
        folder=tmp_path, networks=["tiny"], threads=1, warmup=0.0, seconds=0.0, calls=2, turns=2, cpu_time=False
    )
    entrants = [
        contenders.Entrant(contenders.REFERENCE, "edgeseg", "fp32/onnxruntime", ours=True),
        contenders.Entrant("raises", "raises"),
        contenders.Entrant("crashes", "crashes"),
        contenders.Entrant("elsewhere", "raises", environment="nowhere"),
    ]
    return speed.Race(options, entrants)


def _surroundings() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PEERS.parents[1])}


def test_who_fails_says_why_and_the_others_go_on(race: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments, speed = importlib.import_module("environments"), importlib.import_module("speed")
    (tmp_path / "nowhere.txt").write_text("no-such-package==1")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "_uv", lambda: [sys.executable, "-c", "raise SystemExit('no network')"])
    race.prepare()
    for _ in range(2):
        race.turn(random.Random(0))
    race.compare_classes()
    ours, raises, crashes, elsewhere = race.rows["tiny"]
    assert not ours.reason and ours.agreement == 1
    assert [len(laps) for laps in ours.laps["frame"]] == [2, 2] and len(ours.turns("graph")) == 2
    assert "ONNX Runtime" in ours.description
    assert raises.reason == "prepare: RuntimeError: no such operator"
    assert crashes.reason == "turn: it crashed with signal 11"
    assert elsewhere.reason == "its environment cannot be made: no network"
    speed.write_results(race, tmp_path, race._options)
    written = json.loads((tmp_path / "results.json").read_text())["networks"]["tiny"]
    assert [one["name"] for one in written] == [speed.REFERENCE, "raises", "crashes", "elsewhere"]
    said = speed.page(race, race._options, (1.0, 2.0, 3.0), 60.0)
    assert "Load before: 1.00, 2.00, 3.00" in said and "tiny, the graph alone: nothing to compare" in said


def test_the_tables_are_put_between_the_marks_of_a_page(tmp_path: Path) -> None:
    speed = importlib.import_module("speed")
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- begin -->\nold\n<!-- end -->\n\nmore\n")
    speed.put_into(page, "| new |")
    assert page.read_text() == "# A\n\n<!-- begin -->\n\n| new |\n\n<!-- end -->\n\nmore\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="page.md has no <!-- begin -->"):
        speed.put_into(page, "| new |")


def test_a_word_that_no_contender_has_is_refused() -> None:
    speed = importlib.import_module("speed")
    assert {one.name for one in speed.chosen(["NNCF"])} == {
        "OpenVINO + NNCF INT8",
        "OpenVINO + NNCF INT8 of our FP32 graph",
    }
    with pytest.raises(SystemExit, match="no contender is called 'TVM'"):
        speed.chosen(["TVM"])
