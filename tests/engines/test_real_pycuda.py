"""The real pycuda under our CUDA code and our TensorRT engine, over a driver that counts (``tests/real_pycuda``).

pycuda is compiled once and kept in .venvs: that takes a minute or two, a compiler and PyPI, and no GPU. For the CUDA of
another JetPack: ``python -m tests.real_pycuda.build 11``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import HANG_S, pycuda_surface
from tests.fake_cuda import FakeCuda
from tests.pycuda_surface import known, surface
from tests.real_pycuda.build import HEADERS, ROOT, CannotBuild, built_pycuda, driver_library, pycuda_folder
from tests.test_pycuda_surface import differences

_START = """
import os, sys
sys.setdlopenflags(os.RTLD_LAZY)  # functions that the driver lacks matter when they are called
sys.path.append(sys.argv.pop(1))
import pycuda.driver
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("cuda", HEADERS)
def test_everything_inside(cuda: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'edgeseg[test]'")
    if cuda != "12" and not pycuda_folder(cuda).is_dir():
        pytest.skip(f"pycuda for CUDA {cuda} is not built: python -m tests.real_pycuda.build {cuda}")
    try:
        folder = built_pycuda(cuda)
        driver_library(tmp_path)
    except CannotBuild as reason:
        pytest.skip(f"pycuda cannot be built here: {reason}")
    tests = ROOT / "tests" / "real_pycuda" / "inside.py"
    libraries = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("LD_LIBRARY_PATH"))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": libraries, "PYTEST_ADDOPTS": ""}
    words = ["-q", "-p", "no:cacheprovider", "--tb=short", "--basetemp", str(tmp_path / "inside"), str(tests)]
    done = subprocess.run(
        [sys.executable, "-c", _START, str(folder), *words], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_the_facts_are_those_of_a_compiled_pycuda(tmp_path: Path) -> None:
    try:
        folder = built_pycuda()
        driver_library(tmp_path)
    except CannotBuild as reason:
        pytest.skip(f"pycuda cannot be built here: {reason}")
    libraries = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("LD_LIBRARY_PATH"))))
    environment = {**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": libraries}
    # Functions that the driver lacks matter when they are called.
    script = "import os, runpy, sys; sys.setdlopenflags(os.RTLD_LAZY); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script, pycuda_surface.__file__],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    live = json.loads(done.stdout)
    assert not differences(surface(FakeCuda().driver), live)
    assert not differences(known(), live), "pycuda_surface.json is of another pycuda"
