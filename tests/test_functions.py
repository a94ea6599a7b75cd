"""No function of the package is longer than 60 lines or takes more than 8 parameters."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import edgeseg

PACKAGE = Path(edgeseg.__file__).parent
LINES, PARAMETERS = 60, 8


def _functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, lines, parameters without ``self``) of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len(names) + (given.vararg is not None) + (given.kwarg is not None)
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1, count - (names[:1] in (["self"], ["cls"]))


def test_no_function_is_large() -> None:
    large = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}": f"{lines} lines, {parameters} parameters"
        for path in PACKAGE.rglob("*.py")
        for name, lines, parameters in _functions(path)
        if lines > LINES or parameters > PARAMETERS
    }
    assert not large, "split these, or pass a configuration"
