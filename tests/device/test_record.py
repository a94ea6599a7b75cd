"""Probing a Python through a runner, and recording a tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

import pytest

from edgeseg.device.doctor import findings
from edgeseg.device.facts import gathered_facts
from edgeseg.device.probe import MODULES, Module, Probe, Ran, probe_from_json, probed_modules
from edgeseg.device.record import probe_of_record, write_record
from edgeseg.errors import InputError
from tests import HANG_S

ROOTS = Path(__file__).parent / "roots"
NAMES = sorted(path.name for path in ROOTS.iterdir() if path.is_dir())


def really(command: Sequence[str]) -> Ran:
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    return Ran(done.returncode, done.stdout, done.stderr)


def module_folder(tmp_path: Path, **sources: str) -> list[str]:
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    return [
        str(tmp_path),
        *(entry for entry in sys.path if entry.endswith(("lib-dynload", "python3")) or "lib" in entry),
    ]


def test_modules_that_work_warn_fail_and_kill(tmp_path: Path) -> None:
    path = module_folder(
        tmp_path,
        cv2="print('hello')\n__version__ = '4.5.4'\ngetBuildInformation = lambda: '  GStreamer:   YES (1.16.2)\\n'\n",
        tensorrt="raise AttributeError('module numpy has no attribute bool')",
        torch="import os; os.kill(os.getpid(), 11)",
        onnxruntime="import sys; print('UserWarning: built for NumPy 1', file=sys.stderr); __version__ = '1.19'",
    )
    modules = probed_modules(really, sys.executable, path)
    assert modules["cv2"] == Module("4.5.4", str(tmp_path / "cv2.py"), detail="YES (1.16.2)")
    assert modules["tensorrt"].error == "AttributeError: module numpy has no attribute bool"
    assert modules["torch"].error == "importing it ended the process with code -11" and not modules["torch"].works
    assert modules["onnxruntime"].works and "NumPy 1" in modules["onnxruntime"].warning


@pytest.mark.parametrize("raised", ["RuntimeError('cuInit failed: no\\n CUDA-capable device')", "AttributeError('x')"])
def test_a_pycuda_that_imports_is_asked_whether_cuda_starts(raised: str, tmp_path: Path) -> None:
    package = tmp_path / "pycuda"
    package.mkdir()
    (package / "__init__.py").write_text("VERSION_TEXT = '2026.1'\n")
    started = "class Device:\n    count = staticmethod(lambda: 1)\ndef init():\n    "
    (package / "driver.py").write_text(f"{started}raise {raised}\n")
    found = probed_modules(really, sys.executable, [str(tmp_path), *sys.path])["pycuda"]
    assert found.works and found.error.startswith("CUDA does not start: ") and "\n" not in found.error
    (package / "driver.py").write_text(f"{started}pass\n")
    found = probed_modules(really, sys.executable, [str(tmp_path), *sys.path])["pycuda"]
    assert found.works and not found.error


def test_modules_that_are_not_installed_are_absent() -> None:
    asked = []

    def run(command: Sequence[str]) -> Ran:
        asked.append(command[-1])
        return Ran(0, "\n{}\n", "")

    assert probed_modules(run, "python3", []) == {} and sorted(asked) == sorted(MODULES)


def test_a_python_that_cannot_be_started() -> None:
    modules = probed_modules(lambda command: Ran(-1, "", "no such file"), "nowhere", [])
    assert modules["numpy"].error == "importing it ended the process with code -1"


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_a_record_tells_the_same(name: str, tmp_path: Path) -> None:
    probe = probe_of_record(ROOTS / name)
    write_record(ROOTS / name, tmp_path / "again", probe)
    first, second = gathered_facts(ROOTS / name, probe), gathered_facts(tmp_path / "again", probe)
    assert second == first and probe_of_record(tmp_path / "again") == probe
    assert findings(second) == findings(first)


def test_secrets_stay_behind(tmp_path: Path) -> None:
    root = tmp_path / "board"
    shutil.copytree(ROOTS / "xavier-nx-jp5.1.2", root)
    secret = "1420123456789"
    (root / "proc/device-tree/serial-number").write_text(secret)
    (root / "sys/devices/soc0/serial_number").write_text(secret)
    with (root / "proc/cpuinfo").open("a") as file:
        file.write(f"\nSerial\t\t: {secret}\n")
    with (root / "var/lib/dpkg/status").open("a") as file:
        file.write(f"Package: private-{secret}\nStatus: install ok installed\nVersion: 1\n")
    (root / "etc/hostname").write_text(secret)
    source = root / "etc/apt/sources.list.d/nvidia-l4t-apt-source.list"
    source.parent.mkdir(parents=True)
    source.write_text(f"deb https://me:{secret}@mirror/jetson r35.4 main\n")
    mounts = root / "proc/self/mountinfo"
    mounts.parent.mkdir(parents=True)
    mounts.write_text(f"700 600 8:1 /{secret} /etc/nv_tegra_release ro - ext4 /dev/{secret} ro\n")
    written = write_record(root, tmp_path / "record", Probe())
    for name in written:
        assert secret not in name and secret not in (tmp_path / "record" / name).read_text(errors="replace")
    assert "r35.4" in (tmp_path / "record/etc/apt/sources.list.d/nvidia-l4t-apt-source.list").read_text()


def test_the_probe_survives_json_and_other_versions() -> None:
    probe = probe_of_record(ROOTS / "orin-nx-jp6.2")
    assert probe_from_json(json.loads(json.dumps(probe.to_json()))) == probe
    newer = {**probe.to_json(), "colour": "green", "modules": {"numpy": {"version": "3", "speed": 1}, "cv2": None}}
    assert probe_from_json(newer).modules == {"numpy": Module("3")}
    assert probe_from_json({}) == Probe()


@pytest.mark.parametrize(
    "document", [[], "x", None, {"modules": []}, {"cores": "many"}, {"groups": 5}, {"cores": float("inf")}]
)
def test_what_is_no_probe_is_refused(document: object, tmp_path: Path) -> None:
    (tmp_path / "edgeseg-probe.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="doctor --record"):
        probe_of_record(tmp_path)
