"""Docstrings of functions begin with a verb: what the function does, not what it is or which question it answers."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator

import pytest

import edgeseg

PACKAGE = Path(edgeseg.__file__).parent
NO_VERBS = re.compile(
    r"(What|Which|How|Whether|Where|When|Who|Whose|Why|If|Of|The|A|An|Its|In|On|At|From|For|As|Each|Every|All|One|None|"
    r"Nothing|No|Not|See|True|False|Same|``)\b"
)


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """(name, first line of the docstring) of every public function, without properties and overloads."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if text:
            yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", text.splitlines()[0]


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return "/".join(parts[:2] if parts[0] in ("runtime", "compiler", "engines") and len(parts) > 2 else parts[:1])


ROOMS = sorted({_room(path) if len(path.relative_to(PACKAGE).parts) > 1 else "root" for path in PACKAGE.rglob("*.py")})


def test_what_begins_otherwise_is_seen() -> None:
    assert NO_VERBS.match("Whether it runs.") and NO_VERBS.match("``a`` -> ``b``.") and not NO_VERBS.match("Return it.")


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_a_verb(room: str) -> None:
    files = PACKAGE.glob("*.py") if room == "root" else (p for p in PACKAGE.rglob("*.py") if _room(p) == room)
    found = [f"{where}: {line}" for path in files for where, line in _docstrings(path) if NO_VERBS.match(line)]
    assert not found, "\n".join(found)
