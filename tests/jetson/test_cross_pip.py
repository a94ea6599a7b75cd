"""The parts of cross_pip.py that need no index."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pip")
SCRIPT = Path(__file__).resolve().parents[2] / "jetson" / "arm64" / "cross_pip.py"
METADATA = """\
Metadata-Version: 2.4
Name: edgeseg
Version: 1
Provides-Extra: opencv
Provides-Extra: tensorrt
Requires-Dist: numpy>=1.21
Requires-Dist: opencv-python>=4.5; platform_machine != 'aarch64'
Requires-Dist: old; python_version < '3.9'
Requires-Dist: opencv-python>=4.6; extra == 'opencv'
Requires-Dist: onnx>=1.14; extra == 'tensorrt'
Requires-Dist: pycuda; extra == 'tensorrt'
"""


@pytest.fixture
def cross_pip() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cross_pip", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "edgeseg-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("edgeseg-1.dist-info/METADATA", METADATA)
    return path


def test_markers_are_those_of_the_board(cross_pip: ModuleType, wheel: Path) -> None:
    board = cross_pip.target_environment("3.8.10")
    assert cross_pip.requirements(wheel, [], [], board) == ["numpy>=1.21", "old"]
    newer = cross_pip.target_environment("3.10.12")
    assert cross_pip.requirements(wheel, ["opencv"], [], newer) == ["numpy>=1.21", "opencv-python>=4.6"]
    assert cross_pip.requirements(wheel, ["tensorrt"], ["pycuda"], newer) == ["numpy>=1.21", "onnx>=1.14"]


def test_an_unknown_extra_is_refused(cross_pip: ModuleType, wheel: Path) -> None:
    with pytest.raises(SystemExit, match="has no extra live"):
        cross_pip.requirements(wheel, ["live"], [], cross_pip.target_environment("3.12.3"))


def test_wheels_newer_than_the_boards_glibc_are_left_out(cross_pip: ModuleType) -> None:
    tags = cross_pip.platform_tags(31)
    assert tags[0] == "manylinux_2_31_aarch64" and tags[-1] == "manylinux2014_aarch64"
    assert "manylinux_2_28_aarch64" in tags and "manylinux_2_34_aarch64" not in tags
