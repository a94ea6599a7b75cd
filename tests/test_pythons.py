"""Everything outside the builder and the graph work of the compiler, on every Python that a Jetson has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

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


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """The suite on each Python that is here, as many at once as there are cores: much of it is waiting."""
    pythons = {version: _interpreter(version) for version in VERSIONS if not _runs_this_suite(version)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            version: pool.submit(_suite, python, tmp_path_factory.mktemp(f"light-{version}"))
            for version, python in pythons.items()
            if python is not None
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_light_suite(version: str, suites: dict[str, Future[str]]) -> None:
    if _runs_this_suite(version):
        pytest.skip(f"Python {version} is the one that runs this suite")
    if version not in suites:
        pytest.skip(f"no Python {version} on this machine (python{version} on PATH, or pyenv)")
    out = suites[version].result()
    print(f"Python {version}: {out.strip().splitlines()[-1]}")
    assert " passed" in out


def _runs_this_suite(version: str) -> bool:
    return tuple(map(int, version.split("."))) == sys.version_info[:2]


def _suite(python: Path, folder: Path) -> str:
    """Install the package with that Python and run the suite and a video there.

    Returns:
        What pytest printed.
    """
    _run([str(python), "-m", "venv", "venv"], folder)
    _run(["venv/bin/pip", "install", "-q", f"{ROOT}[test]"], folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    left_out = ("builder", "compiler", "jetson", "system", "test_pythons.py", "engines/tensorrt/test_faults.py")
    compiled = "engines/test_real_pycuda.py"  # minutes each, for the same C++ under another Python
    light = [f"--ignore=tests/{name}" for name in (*left_out, compiled)]
    out = _run(["venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *light], folder)
    _run(["venv/bin/edgeseg", "run", "--source", "demo://street?frames=30", "--sink", "out.mp4"], folder)
    assert (folder / "out.mp4").stat().st_size > 10_000
    return out


def _run(command: list, cwd: Path) -> str:  # type: ignore[type-arg]
    clean: dict[str, str] = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYENV_VERSION", "VIRTUAL"))
    }
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout
