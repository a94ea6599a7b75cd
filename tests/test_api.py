"""The public API: what it is called, that it costs nothing until it is used, and that its types are there for users."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgeseg

SOURCE = Path(edgeseg.__file__)


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_listed_for_people_for_types_and_for_import() -> None:
    listed = [name for names in edgeseg._MODULES.values() for name in names]
    checked = [
        (f"{node.module}", alias.name)
        for block in ast.parse(SOURCE.read_text()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert edgeseg.__all__ == sorted(edgeseg.__all__) == sorted(listed)
    assert {name: module for module, name in checked} == edgeseg._MODULE_OF
    assert set(edgeseg.__all__) <= set(dir(edgeseg))


@pytest.mark.parametrize("name", edgeseg.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    if "compiler" in edgeseg._MODULE_OF[name]:
        pytest.importorskip("onnx")
    assert getattr(edgeseg, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compiled'"):
        edgeseg.compiled  # noqa: B018


def test_importing_edgeseg_imports_nothing_else() -> None:
    _run(
        "import sys; before = set(sys.modules); import edgeseg\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - {'edgeseg'}\n"
        "assert not new & {'numpy', 'cv2', 'typer', 'rich', 'onnx', 'torch'}, new\n"
        "assert [name for name in sys.modules if name.startswith('edgeseg.')] == []\n"
    )


USERS_FILE = '''
from pathlib import Path

import numpy as np

import edgeseg


class Brightness(edgeseg.FrameSink):
    """Print how bright frames are."""

    description = "brightness"

    def write(self, result: edgeseg.Segmentation) -> None:
        print(result.frame.name, float(result.frame.image.mean()), result.classes.shape)


def share_of(bundle: edgeseg.Bundle, name: str, ids: "np.ndarray") -> float:
    return float((ids == bundle.spec.classes.index(name)).mean())


def main() -> None:
    bundle = edgeseg.read_bundle(Path("street.edgeseg"))
    spec: edgeseg.ModelSpec = bundle.spec
    print(spec.classes, edgeseg.__version__)
'''


def test_a_users_file_is_clean_under_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "mine.py").write_text(USERS_FILE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "mine.py").write_text(USERS_FILE.replace("spec: edgeseg.ModelSpec", "spec: int"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Incompatible types in assignment" in done.stdout, done.stdout + done.stderr  # types are seen, not Any
