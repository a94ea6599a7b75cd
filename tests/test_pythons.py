"""The suite on every Python that a Jetson has, without the builder and the graph work of the compiler.

The oldest runs all of it. The newer ones run what takes no minutes: the rest runs on the Python of this suite too.
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest

from tests.interpreters import interpreter, run
from tests.light import NEED_MORE, SOURCE_ONLY, TAKE_MINUTES, ignored

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.8", "3.10", "3.12")


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """The suite on each Python that is here, as many at once as there are cores: much of it is waiting."""
    pythons = {version: interpreter(version) for version in VERSIONS if not _runs_this_suite(version)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            version: pool.submit(_suite, python, version, tmp_path_factory.mktemp(f"light-{version}"))
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


def _suite(python: Path, version: str, folder: Path) -> str:
    """Install the package with that Python and run the suite and a video there.

    Returns:
        What pytest printed.
    """
    run([str(python), "-m", "venv", "venv"], folder)
    # Most modules that come along are never imported.
    run(["venv/bin/pip", "install", "-q", "--no-compile", f"{ROOT}[test]"], folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    left_out = () if version == VERSIONS[0] else TAKE_MINUTES
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *ignored(*NEED_MORE, *SOURCE_ONLY, *left_out)]
    out = run(["venv/bin/python", *suite], folder)
    run(["venv/bin/edgeseg", "run", "--source", "demo://street?frames=30", "--sink", "out.mp4"], folder)
    assert (folder / "out.mp4").stat().st_size > 10_000
    return out
