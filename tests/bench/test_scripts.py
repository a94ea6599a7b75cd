"""The scripts of benchmarks/ and calibration/ take hours, so they do not run here; what they import must be there."""

from __future__ import annotations

import ast
import importlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("calibration/*.py")])


@pytest.mark.skipif(not SCRIPTS, reason="benchmarks/ is not part of this source distribution")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: getattr(path, "name", None))
def test_what_a_script_imports_of_ours_is_there(script: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")
    imported = _imported(ast.parse(script.read_text()))
    assert [f"{module}.{name}" for module, name in imported if not _is_there(module, name)] == []


def _is_there(module: str, name: str) -> bool:
    if hasattr(importlib.import_module(module), name):
        return True
    with suppress(ModuleNotFoundError):
        return find_spec(f"{module}.{name}") is not None
    return False


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of every ``from`` of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("edgeseg", "tests"):
            yield from ((str(node.module), alias.name) for alias in node.names)
