"""Is NumPy under its ceiling, do JetPack's tensorrt and cv2 import? Says so; exit 1 if the environment is unusable.

Example: python jetson/check_imports.py jetson/constraints-jp5.txt
"""

# ruff: noqa: T201

from __future__ import annotations

import importlib
import re
import site
import sys
from pathlib import Path
from types import ModuleType


def main() -> int:
    """Check and report."""
    found = (numpy_problem(Path(sys.argv[1])), tensorrt_problem(), opencv_problem())
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
    """What is wrong with cv2; empty when it imports and no wheel without GStreamer hides JetPack's."""
    found = _imported("cv2")
    if isinstance(found, str):
        return f"cv2 does not import ({found}); run: sudo apt install libopencv-python (JetPack's) or python3-opencv"
    place = str(found.__file__)
    lines = [" ".join(line.split()) for line in found.getBuildInformation().splitlines() if "GStreamer" in line]
    print(f"check: cv2 {found.__version__}, {place}, {lines[0] if lines else 'GStreamer not mentioned'}")
    if lines and "YES" in lines[0]:
        return ""
    if place.startswith((sys.prefix, site.getusersitepackages())):
        remove = f"{_pip()} uninstall opencv-python opencv-python-headless opencv-contrib-python"
        return f"{place} is a pip wheel without GStreamer and hides JetPack's: no CSI cameras; run: {remove}"
    print(f"check: warning: {place} has no GStreamer: no CSI cameras; sudo apt install libopencv-python has it")
    return ""


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
