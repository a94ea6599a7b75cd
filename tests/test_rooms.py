"""Who may import whom, what a bare interpreter imports, and that the public surface is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

import edgeseg
from edgeseg.engines.select import ENGINES

PACKAGE = Path(edgeseg.__file__).parent
ROOMS = (
    "cli",
    "app",
    "data",
    "archive",
    "bench",
    "prediction",
    "serving",
    "selection",
    "runtime",
    "demo",
    "engines",
    "compiler",
    "builder",
    "device",
    "fleet",
    "estimate",
)
MAY_IMPORT: dict[str, set[str]] = {
    "api": set(ROOMS),  # the public names, imported lazily
    "root": set(),
    "data": set(),
    "device": set(),
    "fleet": set(),
    "demo": set(),
    "engines": {"device"},
    "runtime": {"engines", "device", "demo"},
    "selection": {"runtime"},
    "prediction": {"engines"},
    "serving": {"engines"},
    "archive": {"runtime"},
    "bench": {"runtime", "engines", "device"},
    "compiler": {"engines", "device"},
    "builder": set(),
    "estimate": {"compiler", "device"},
    "app": set(ROOMS) - {"cli"},
    "cli": set(ROOMS),
}
COMPILER_FLOORS = (
    {"graph", "step_cache", "options"},
    {"importers", "calibration", "lint"},
    {"quantize"},
    {"verify"},
    {"report", "steps"},
    {"pipeline"},
)
"""Rooms and files of the compiler, lowest first: one imports from those below it only."""
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "cv2",
    "rich",
    "timm",
    "pytorch_lightning",
    "torchvision",
    "safetensors",
    "onnxsim",
    "dask",
    "distributed",
    "ray",
    "pyarrow",
    "duckdb",
    "fsspec",
    *(kind.module for kind in ENGINES.values()),
)
TERMINAL = ("typer", "click", "rich")


def _room(path: Path) -> str:
    if path == PACKAGE / "__init__.py":
        return "api"
    first = path.relative_to(PACKAGE).parts[0].replace("__main__.py", "cli")
    return first if first in ROOMS else "root"


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted module, whether at module level and not for type checking only) of every import in a file."""
    tree = ast.parse(path.read_text())
    top = set(ast.walk(ast.Module([n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))], [])))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in top


def _module(path: Path) -> str:
    return ".".join(("edgeseg", *path.relative_to(PACKAGE).with_suffix("").parts)).replace(".__init__", "")


def _needs(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file names in imports at module level; ``from package import module`` too."""
    named = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            of_names = len(inner) < len(node.names)
            named |= inner | ({node.module} if of_names else set())
    return named & modules


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    room = _room(path)
    for module, at_top in _imports(path):
        parts = module.split(".")
        if parts[0] == "edgeseg" and len(parts) > 1 and parts[1] in ROOMS and parts[1] != room:
            assert parts[1] in MAY_IMPORT[room], f"{room} may not import {module}"
        assert parts[0] != "typer" or room == "cli", "only the command line knows typer"
        if parts[0] in HEAVY and at_top:
            assert room == "builder", f"{module} must be imported inside the function that needs it"
        if parts[0] in TERMINAL:
            assert room == "cli", f"{module} is for the command line, and {room} knows none"


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {_module(path): path for path in FILES}
    needs = {name: _needs(path, set(modules)) - {name} for name, path in modules.items()}
    while True:
        free = [name for name, wanted in needs.items() if not wanted & set(needs)]
        if not free:
            break
        for name in free:
            del needs[name]
    circle = {name: sorted(wanted & set(needs)) for name, wanted in needs.items()}
    assert not circle, f"modules of a circle, or above one: {circle}"


def test_rooms_of_the_compiler_import_only_what_is_below_them() -> None:
    compiler = PACKAGE / "compiler"
    floors = {name: floor for floor, names in enumerate(COMPILER_FLOORS) for name in names}
    for path in compiler.rglob("*.py"):
        room = path.relative_to(compiler).parts[0].replace(".py", "")
        for module, _ in _imports(path):
            parts = module.split(".")
            if room != "__init__" and parts[:2] == ["edgeseg", "compiler"] and len(parts) > 2 and parts[2] != room:
                assert floors[parts[2]] < floors[room], f"{path} may not import {module}"


def test_tools_are_never_imported_by_the_package() -> None:
    for path in FILES:
        assert not {m.split(".")[0] for m, _ in _imports(path)} & {"calibration", "benchmarks", "jetson", "tests"}, path


def test_everything_but_the_builder_imports_without_heavy_packages() -> None:
    modules = [_module(path) for path in FILES if _room(path) != "builder" and path.name != "__main__.py"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
