"""``edgeseg doctor --first-night`` in a process of its own on a recorded root, and what comes of the file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeseg.bundle import write_bundle
from edgeseg.cli import first_night
from edgeseg.cli.first_night import _bounded, write_night
from edgeseg.device.probe import Probe
from edgeseg.engines.tensorrt.layers import precisions_from_inspector
from edgeseg.errors import InputError
from edgeseg.ranges import Ranges
from tests import HANG_S
from tests.device.take import fixture_name, night_from, take

HERE = Path(__file__).resolve().parent
CLONE = HERE.parents[1]
TEGRASTATS = (
    "11-20-2026 10:00:01 RAM 3010/6963MB (lfb 4x4MB) SWAP 0/3481MB (cached 0MB) CPU [4%@1190,off] EMC_FREQ 3%@1600 "
    "GR3D_FREQ 0%@114 AUX@40.5C CPU@41.5C thermal@41C AO@40C GPU@40C PMIC@50C VDD_IN 4200mW/4200mW"
)
SERIAL, HOST, ADDRESS, MAC = "0424519071234", "workbench-7", "192.168.7.41", "48:b0:2d:00:11:22"


class Board:
    """A copy of a recorded root with things that must not leave it, tools of a Jetson, and the fakes' TensorRT."""

    def __init__(self, folder: Path, tensorrt: str = "8.5.2.2") -> None:
        self.folder, self.root, self.tools = folder, folder / "root", folder / "tools"
        shutil.copytree(HERE / "roots/xavier-nx-jp5.1.2", self.root)
        (self.root / "etc/hostname").write_text(HOST)
        (self.root / "proc/device-tree/serial-number").write_text(SERIAL)
        (self.root / "sys/class/video4linux/video0/name").write_text(f"maria's camera {SERIAL}")
        self.tools.mkdir()
        self.tool("nvpmodel", f"echo 'NV Power Mode: MODE_15W_6CORE'; echo 2; echo 'at {ADDRESS} by {MAC}'")
        self.tool("tegrastats", f"while :; do echo '{TEGRASTATS}'; done")
        shims = f"{CLONE / 'tests/shims'}{os.pathsep}" if tensorrt else ""
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home/maria"),
            "USER": "maria",
            "LOGNAME": "maria",
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{shims}{CLONE}",
            "STUB_ROOT": str(self.root),
            "EDGESEG_FAKE_TENSORRT": tensorrt,
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "home/maria").mkdir(parents=True)
        (folder / "tmp").mkdir()

    def tool(self, name: str, body: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, *words: str, **environment: str) -> Any:
        command = [sys.executable, str(CLONE / "tests/jetson/on_board.py"), "doctor", *words]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=HANG_S)
        assert process.returncode == code and "Traceback" not in err, out + err
        return str(out + err)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    board = Board(tmp_path_factory.mktemp("night"))
    said = board.run("--first-night", "night.json")
    assert "[1/8]" in said and "[8/8]" in said and "wrote night.json" in said and "not to be had" not in said
    assert not list((board.folder / "tmp").iterdir()), "the working folder is gone"
    assert not (board.folder / "home/maria/.cache/edgeseg/engines").exists(), "the cache of the user is not touched"
    return board.folder / "night.json"


def test_it_holds_all_that_a_board_can_say(night: Path) -> None:
    document = json.loads(night.read_text())
    assert document["edgeseg-first-night"] == 1 and document["failed"] == {}
    assert document["doctor"]["text"].startswith("edgeseg ") and "board" in document["doctor"]["json"]["device"]
    assert "R35" in document["files"]["etc/nv_tegra_release"] and "edgeseg-probe.json" in document["files"]
    assert document["power_mode"] == ["NV Power Mode: MODE_15W_6CORE", "2", "at IP by MAC"]
    assert document["tegrastats"] == [TEGRASTATS] * 10
    build = document["build"]
    assert build["engine"]["self_test"]["passed"] and build["engine"]["precisions"]["convolutions"] == {"INT8": 61}
    assert any(line.startswith("built in ") for line in build["said"])
    assert any(line.startswith("[INFO] ") for line in build["tensorrt"]), "TensorRT's own words"
    found = precisions_from_inspector(json.dumps(document["inspector"]))
    assert found.to_json() == build["engine"]["precisions"]
    names = [contender["name"] for contender in document["bench"]["contenders"]]
    assert names[0] == "int8-implicit in TensorRT" and "fp16 in TensorRT" in names
    assert document["bench_cpu"]["contenders"][0]["ms_per_frame"]["p50_ms"] > 0
    assert set(document["seconds"]) == set(document) - {"edgeseg-first-night", "edgeseg", "failed", "seconds"}


def test_nothing_says_whose_board_it_is(night: Path) -> None:
    text = night.read_text()
    for secret in (SERIAL, HOST, ADDRESS, MAC, "maria", "/home/"):
        assert secret not in text, secret
    own = os.uname().nodename
    assert own in ("localhost", "debian", "ubuntu") or not re.search(rf"(?<!\w){re.escape(own)}(?!\w)", text), own
    assert "NAME's camera SERIAL" in text
    assert night.stat().st_size < 2_000_000 and stat.S_IMODE(night.stat().st_mode) == 0o644


def test_a_file_becomes_a_fixture_by_one_command_that_the_suite_reads(night: Path, tmp_path: Path) -> None:
    """In a copy of the suite: the file here is of the fakes, and must not get into the real one."""
    suite = tmp_path / "tests"
    shutil.copytree(HERE, suite / "device", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "conftest.py", "pages.py"):
        shutil.copy(CLONE / "tests" / name, suite / name)
    command = [sys.executable, str(suite / "device/take.py"), str(night)]
    environment = {**os.environ, "PYTHONPATH": str(CLONE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "took" in done.stdout, done.stderr
    assert "says something else" not in done.stdout
    name = re.findall(r" as (\S+):", done.stdout)[0]
    assert name == "xavier-nx-jp5.1.2-2", "beside the one that is there already"
    assert (suite / "device/roots" / name / "etc/nv_tegra_release").is_file()
    tests = ["test_doctor_cli.py", "test_record.py", "test_anonymous.py", "test_nights.py", "test_doctor.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"{name} or night", "-rA"]
    done = subprocess.run(
        [*command, *(f"tests/device/{test}" for test in tests)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    for test in (
        "test_golden_blocks",
        "test_a_record_of_a_record_tells_the_same",
        "test_a_night_is_read_as_on_its_board",
    ):
        assert re.search(rf"PASSED .*{test}\[{re.escape(name)}\]", done.stdout), done.stdout


def test_without_tensorrt_and_without_a_board_the_rest_is_there(tmp_path: Path) -> None:
    board = Board(tmp_path, tensorrt="")
    board.tool("nvpmodel", "echo 'no such board: maria' >&2; exit 3")
    board.tool("tegrastats", "echo one line; exit 0")
    said = board.run("--first-night", "night.json", "--json")
    printed = json.loads(said[said.index("{\n") : said.rindex("}") + 1])
    document = json.loads((tmp_path / "night.json").read_text())
    assert printed["failed"] == document["failed"]
    assert set(document["failed"]) == {"power_mode", "tegrastats", "build", "inspector", "bench"}
    assert document["failed"]["power_mode"] == "nvpmodel ended with code 3: no such board: NAME"
    assert "printed 1 lines" in document["failed"]["tegrastats"]
    assert "TensorRT" in document["failed"]["build"] and "no engine was built" in document["failed"]["inspector"]
    assert all("\n" not in why for why in document["failed"].values())
    assert document["doctor"]["text"] and document["files"] and document["bench_cpu"]["contenders"]


@pytest.mark.parametrize("trouble", ["abort", "killed"])
def test_a_builder_that_dies_is_one_line_and_the_rest_goes_on(trouble: str, tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.run("--first-night", "night.json", EDGESEG_FAKE_BUILDER=trouble)
    document = json.loads((tmp_path / "night.json").read_text())
    assert {"build", "bench"} <= set(document["failed"]) and document["bench_cpu"]["contenders"]
    assert re.search("broke down|was killed", document["failed"]["build"])


def test_ctrl_c_leaves_nothing_and_nobody(tmp_path: Path) -> None:
    board = Board(tmp_path)
    process = board.start("--first-night", "night.json", EDGESEG_FAKE_BUILDER="sleep")
    assert process.stdout is not None
    while "[5/8]" not in process.stdout.readline():
        pass
    started = time.monotonic()
    while not _with(str(tmp_path), "tensorrt.worker"):
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130 and err.strip().splitlines()[-1] == "edgeseg: interrupted"
    assert not list((tmp_path / "tmp").iterdir()) and not list(tmp_path.glob("*night.json*"))
    started = time.monotonic()
    while _with(str(tmp_path)):
        assert time.monotonic() - started < 60, "something that it started lives on"
        time.sleep(0.1)


def _with(*words: str) -> list[int]:
    """Processes of ours: those whose environment names the folder and whose command line the other words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"STUB_ROOT={words[0]}".encode() in environment and all(word.encode() in command for word in words[1:]):
            found.append(int(entry.name))
    return found


def test_it_never_replaces_a_file_and_says_so_at_once(tmp_path: Path) -> None:
    board = Board(tmp_path)
    (tmp_path / "mine.json").write_text("mine")
    (tmp_path / "link.json").symlink_to("nowhere")
    for target in ("mine.json", "link.json"):
        assert "is there already" in board.run("--first-night", target, code=1)
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert "no folder that you can write to" in board.run("--first-night", "none/x.json", code=1)
    assert "give it alone" in board.run("--first-night", "x.json", "--record", "r", code=2)
    with pytest.raises(InputError, match="is there already|has appeared"):
        write_night(tmp_path / "mine.json", {"a": 1})
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == ["link.json", "mine.json"]
    assert (tmp_path / "mine.json").read_text() == "mine" and not list(tmp_path.glob(".*"))


def test_a_disk_without_room_is_told_before_the_night_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_night.check_target(tmp_path / "night.json")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=7_999_999))
    with pytest.raises(InputError, match="less than 8 MB free"):
        first_night.check_target(tmp_path / "night.json")


def test_a_stick_without_hard_links_gets_it_whole_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    size = write_night(tmp_path / "night.json", {"a": "é"})
    assert json.loads((tmp_path / "night.json").read_text()) == {"a": "é"}
    assert (tmp_path / "night.json").stat().st_size == size and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="is there already"):
        write_night(tmp_path / "night.json", {"a": 1})
    assert len(list(tmp_path.iterdir())) == 1


def test_an_engine_that_is_refused_is_sent_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden frames fail, so that there is no engine: what TensorRT said and built is what we need to see."""
    onnx = pytest.importorskip("onnx", reason="the fake TensorRT reads graphs with onnx")
    from tests.engines.tensorrt.tiny import tiny_bundle

    assert onnx
    bundle = tiny_bundle()
    narrow = dict.fromkeys(bundle.ranges.tensors, (-0.001, 0.001))  # type: ignore[union-attr]
    write_bundle(replace(bundle, ranges=Ranges(narrow)), tmp_path / "wrong.edgeseg")
    monkeypatch.setattr(first_night, "SHIPPED", tmp_path / "wrong.edgeseg")
    monkeypatch.setattr(first_night, "BENCH_TIMES", ("--seconds", "0.1", "--warmup", "0"))
    for path in (CLONE, CLONE / "tests/shims"):
        monkeypatch.syspath_prepend(str(path))
    said: list[str] = []
    night = first_night.gathered_night(
        HERE / "roots/xavier-nx-jp5.1.2", Probe(), lambda root: {"text": str(len(list(root.iterdir())))}, said.append
    )
    assert "self-test" in night["failed"]["build"] and night["build"].keys() == {"tensorrt"}
    assert precisions_from_inspector(json.dumps(night["inspector"])).convolutions
    assert "bench" in night["failed"] and night["bench_cpu"]["contenders"]
    assert any(line.strip().startswith("building int8") for line in said), "the build's own lines are passed on"


def test_what_is_too_large_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_night, "_WHOLE", 2000)
    night = first_night._Night(tmp_path, Probe(), tmp_path, print)
    night.found = {"small": "x", "large": "y" * 5000, "other": ["z" * 900]}
    document = night.document()
    assert set(document) == {"edgeseg-first-night", "edgeseg", "small", "other", "failed", "seconds"}
    assert document["failed"]["large"].startswith("left out: 5002 characters")


@pytest.mark.parametrize("name", ["build", "bench", "inspector", "files", "small", "failed", "seconds"])
def test_a_user_called_like_a_part_loses_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", name)
    night = first_night._Night(tmp_path, Probe(), tmp_path, print)
    night.found = {"files": {"etc/x": ""}, "build": {"a": 1}, "bench": {}, "inspector": [], "small": "x"}
    assert set(night.found) | {"failed", "seconds"} < set(night.document())


def test_a_home_that_is_called_otherwise_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "kowalski"))
    night = first_night._Night(tmp_path, Probe(), tmp_path, print)
    night.found = {"build": [f"{tmp_path}/kowalski/env: no such file", "/srv/kowalski_old/x"]}
    assert "kowalski" not in json.dumps(night.document())


def test_texts_and_lists_are_bounded() -> None:
    cut = _bounded({"text": "x" * 10**6, "lines": ["line"] * 10**5, "rest": [1.5, float("nan"), None]})
    assert len(cut["text"]) < 210_000 and "characters left out" in cut["text"]
    assert len(cut["lines"]) < 5000 and any("lines left out" in line for line in cut["lines"])
    assert cut["rest"] == [1.5, None, None]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("[]", "is not what"),
        ("{}", "is not what"),
        ('{"edgeseg-first-night": 2, "files": {}, "doctor": {"text": ""}}', "of another edgeseg"),
        ('{"edgeseg-first-night": 1, "files": {"../x": "a"}, "doctor": {"text": ""}}', "no file that the doctor reads"),
        (
            '{"edgeseg-first-night": 1, "files": {"/etc/x": "a"}, "doctor": {"text": ""}}',
            "no file that the doctor reads",
        ),
        ('{"edgeseg-first-night": 1, "files": {"etc/../../x": "a"}, "doctor": {"text": ""}}', "no file"),
        ('{"edgeseg-first-night": 1, "files": {"tests/x.py": "a"}, "doctor": {"text": ""}}', "no file"),
        ('{"edgeseg-first-night": 1, "files": {"etc/x": 3}, "doctor": {"text": ""}}', "no file"),
    ],
)
def test_a_file_of_somebody_is_not_trusted(document: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "sent.json").write_text(document)
    with pytest.raises(ValueError, match=re.escape(why)):
        night_from(tmp_path / "sent.json")


def test_a_fixture_is_never_replaced(tmp_path: Path) -> None:
    sent = {"edgeseg-first-night": 1, "files": {"etc/nv_tegra_release": "# R35"}, "doctor": {"text": "edgeseg\n"}}
    assert len(take(sent, "mine", tmp_path)) == 3
    with pytest.raises(ValueError, match="is there already"):
        take(sent, "mine", tmp_path)
    with pytest.raises(ValueError, match="is named like"):
        take(sent, "../mine", tmp_path)
    device = {"board": "NVIDIA Jetson AGX Orin Developer Kit", "jetpack": "6.2.1"}
    assert fixture_name({**sent, "doctor": {"text": "", "json": {"device": device}}}) == "agx-orin-jp6.2.1"
    with pytest.raises(ValueError, match="--name"):
        fixture_name(sent)
