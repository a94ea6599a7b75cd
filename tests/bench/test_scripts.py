"""The scripts of benchmarks/ and calibration/ take hours, so they do not run here; what they import must be there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("calibration/*.py")])


@pytest.mark.skipif(not SCRIPTS, reason="benchmarks/ is not part of this source distribution")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: getattr(path, "name", None))
def test_what_a_script_imports_of_ours_is_there(script: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("edgeseg", "tests"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
