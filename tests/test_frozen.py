"""What is handed around does not change: every public dataclass is frozen, but for those listed here."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import edgeseg

PACKAGE = Path(edgeseg.__file__).parent
KNOWN = {
    "archive/state.py State": "an archive is counted in it",
    "archive/state.py Worker": "what a process did is counted in it",
    "engines/tensorrt/api.py Log": "TensorRT's messages arrive while it works",
    "runtime/preview/operation.py Page": "it keeps the latest state for all viewers",
    "runtime/preview/pictures.py Viewer": "a connection, from its beginning to its end",
    "runtime/state.py RunState": "a run counts in it",
    "runtime/state.py SinkState": "a sink counts in it",
    "runtime/state.py SourceState": "a source counts in it",
}
"""Class -> why it changes."""


def _dataclasses(path: Path) -> Iterator[tuple[str, bool]]:
    """(name, whether it is frozen) of every public dataclass in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
            if isinstance(call.func, ast.Name) and call.func.id == "dataclass":
                values = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                yield node.name, bool(values.get("frozen"))


def test_dataclasses_that_change_are_those_that_are_known() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}": frozen
        for path in PACKAGE.rglob("*.py")
        for name, frozen in _dataclasses(path)
    }
    changing = {name for name, frozen in found.items() if not frozen}
    assert len(found) > 50 and changing == set(KNOWN), "freeze it, or say here why it changes"
