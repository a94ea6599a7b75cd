"""NVIDIA's compiled bindings themselves, where they can be fetched: the facts that the fake follows are theirs."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import tensorrt_surface
from tests.tensorrt_surface import surface_of, versions
from tests.test_tensorrt_surface import differences, shown

PACKAGES = {
    "8.6.1": "tensorrt-bindings",
    "10.3.0": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
"""On PyPI, about 1 MB each; 8.5.2 never was there."""

PYTHONS = ((3, 11), (3, 10), (3, 9), (3, 8))
"""All of the packages are made for these."""

DOWNLOAD_S = 90
"""For all packages together; later runs find them in the cache."""


def _interpreter() -> tuple[str, str]:
    """(path, version) of a Python that can load the packages; this one if it can."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable, "{}.{}".format(*sys.version_info)
    for major, minor in PYTHONS:
        name = f"python{major}.{minor}"
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True, check=False, timeout=30).returncode == 0:
            return path, f"{major}.{minor}"
    return "", ""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where packages are kept: pytest's cache if it has one."""
    cache = getattr(request.config, "cache", None)
    return Path(cache.mkdir("tensorrt-bindings")) if cache else tmp_path_factory.mktemp("tensorrt-bindings")


@pytest.fixture(scope="module")
def live(folder: Path) -> Callable[[str], dict[str, Any]]:
    """The surface of a version, read from its compiled module in a process of its own."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or not shutil.which("gcc"):
        pytest.skip("the bindings are compared on 64-bit Linux for x86 with gcc")
    python, python_version = _interpreter()
    if not python:
        pytest.skip("no Python from 3.8 to 3.11 is here, and the bindings are made for these")
    until = time.monotonic() + DOWNLOAD_S
    failed: list[str] = []

    def unpacked(version: str) -> Path:
        place = folder / f"{version}-{python_version}"
        if not list(place.glob("*.dist-info")):
            if failed:
                pytest.skip(failed[0])
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            command += ["--python-version", python_version, "--retries", "0", "--timeout", "10"]
            command += ["-d", str(place), f"{PACKAGES[version]}=={version}"]
            try:
                left = max(until - time.monotonic(), 1)
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left)
                wheels, said = list(place.glob("*.whl")), done.stderr.strip().splitlines()[-1:]
            except subprocess.TimeoutExpired:
                wheels, said = [], ["it takes too long"]
            if not wheels:
                failed.append(f"the bindings of TensorRT cannot be fetched from PyPI: {' '.join(said)[:200]}")
                pytest.skip(failed[0])
            with zipfile.ZipFile(wheels[0]) as wheel:
                wheel.extractall(place)
        return place

    def read(version: str) -> dict[str, Any]:
        command = [python, tensorrt_surface.__file__, "read", str(unpacked(version))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return read


def test_every_version_but_the_first_has_a_package() -> None:
    assert [version for version in versions() if version not in PACKAGES] == ["8.5.2"]


@pytest.mark.parametrize("version", PACKAGES)
def test_the_facts_are_those_of_the_compiled_module(version: str, live: Any) -> None:
    real = live(version)
    assert surface_of(version) == real
    assert not differences(shown(version), real)
