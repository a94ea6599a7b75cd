"""Everything outside the builder and the graph work of the compiler, on every Python that a Jetson has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.8", "3.10", "3.12")


def _interpreter(version: str) -> Path | None:
    """A Python of that version: on the path, or one of pyenv's."""
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        candidates += [str(path / "bin" / "python") for path in sorted(Path(root, "versions").glob(f"{version}.*"))]
    for candidate in candidates:
        probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        if candidate:
            done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
            if done.stdout.strip() == version:
                return Path(candidate)
    return None


@pytest.mark.parametrize("version", VERSIONS)
def test_light_suite(version: str, tmp_path: Path) -> None:
    if tuple(map(int, version.split("."))) == sys.version_info[:2]:
        pytest.skip(f"Python {version} is the one that runs this suite")
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine (python{version} on PATH, or pyenv)")
    _run([str(python), "-m", "venv", "venv"], tmp_path)
    _run(["venv/bin/pip", "install", "-q", f"{ROOT}[test]"], tmp_path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    left_out = ("builder", "compiler", "jetson", "system", "test_pythons.py", "engines/tensorrt/test_faults.py")
    light = [f"--ignore=tests/{name}" for name in left_out]
    out = _run(["venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *light], tmp_path)
    print(f"Python {version}: {out.strip().splitlines()[-1]}")
    assert " passed" in out
    _run(["venv/bin/edgeseg", "run", "--source", "demo://street?frames=30", "--sink", "out.mp4"], tmp_path)
    assert (tmp_path / "out.mp4").stat().st_size > 10_000


def _run(command: list, cwd: Path) -> str:  # type: ignore[type-arg]
    clean: dict[str, str] = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYENV_VERSION", "VIRTUAL"))
    }
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout
