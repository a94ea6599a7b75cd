"""Is NumPy under its ceiling, do JetPack's tensorrt and cv2 import, can GStreamer carry cameras? Exit 1 if not.

Example: python jetson/check_imports.py jetson/constraints-jp5.txt
"""

# ruff: noqa: T201

from __future__ import annotations

import importlib
import importlib.util
import re
import site
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Sequence

GSTREAMER = Path(__file__).resolve().parents[1] / "edgeseg" / "device" / "gstreamer.py"
"""The very code with which edgeseg chooses and probes the Python that runs GStreamer."""


def main() -> int:
    """Check and report."""
    found = (numpy_problem(Path(sys.argv[1])), tensorrt_problem(), opencv_problem(), gstreamer_problem())
    problems = [problem for problem in found if problem]
    for problem in problems:
        print(f"check: {problem}")
    return 1 if problems else 0


def numpy_problem(constraints: Path) -> str:
    """What is wrong with NumPy; empty when it is below the ``numpy<X`` of the constraints."""
    found = _imported("numpy")
    if isinstance(found, str):
        return f"numpy does not import ({found}); run: {_pip()} install --force-reinstall -c {constraints} numpy"
    ceiling = re.search(r"^numpy<([\d.]+)$", constraints.read_text(), re.MULTILINE)
    if ceiling and _numbers(found.__version__) >= _numbers(ceiling.group(1)):
        mend = f"{_pip()} install -c {constraints} numpy"
        return f"numpy is {found.__version__}, must be below {ceiling.group(1)}; run: {mend}"
    print(f"check: numpy {found.__version__}, {found.__file__}")
    return ""


def tensorrt_problem() -> str:
    """What is wrong with tensorrt; empty when it imports."""
    found = _imported("tensorrt")
    if isinstance(found, str):
        return f"tensorrt does not import ({found}); run: sudo apt install python3-libnvinfer (or all: nvidia-jetpack)"
    print(f"check: tensorrt {found.__version__}, {found.__file__}")
    return ""


def opencv_problem() -> str:
    """What is wrong with cv2; empty when it imports. edgeseg does not open cameras with it, other programs may."""
    found = _imported("cv2")
    if isinstance(found, str):
        return f"cv2 does not import ({found}); run: sudo apt install libopencv-python (JetPack's) or python3-opencv"
    place = str(found.__file__)
    print(f"check: cv2 {found.__version__}, {place}")
    if place.startswith((sys.prefix, site.getusersitepackages())) and "/dist-packages/" not in place:
        remove = f"{_pip()} uninstall opencv-python opencv-python-headless opencv-contrib-python"
        print(
            f"check: warning: {place} is pip's and hides JetPack's, which has GStreamer; edgeseg needs none; {remove}"
        )
    return ""


def gstreamer_problem() -> str:
    """What is wrong with GStreamer's Python bindings, which carry CSI and network cameras; empty when nothing is."""
    gstreamer = _gstreamer()
    found = gstreamer.probed_gstreamer(_run)
    if not found.works:
        return f"no Python has GStreamer's bindings ({found.error}); run: sudo apt {gstreamer.gstreamer_install()}"
    print(f"check: GStreamer {found.version} through {found.python}")
    missing = [name for name in found.missing if name not in gstreamer.NVIDIA_ELEMENTS]
    if missing:
        print(f"check: warning: it lacks {', '.join(missing)}; sudo apt {gstreamer.gstreamer_install(missing)}")
    if set(found.missing) & set(gstreamer.NVIDIA_ELEMENTS):
        print("check: warning: it lacks NVIDIA's elements; sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera")
    return ""


def _gstreamer() -> Any:
    """The module alone: edgeseg may not be installed yet."""
    spec = importlib.util.spec_from_file_location("edgeseg_gstreamer", GSTREAMER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _run(command: Sequence[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def _pip() -> str:
    return f"{sys.executable} -m pip"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _imported(name: str) -> ModuleType | str:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken binary raises anything on import
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
