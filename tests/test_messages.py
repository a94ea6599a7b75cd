"""What libraries say: they name fields of configurations in backticks, and the command line prints its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeseg
from edgeseg.app.config import RunConfig
from edgeseg.cli.console import with_flags
from edgeseg.cli.main import command_line
from edgeseg.cli.options import flags_of

PACKAGE = Path(edgeseg.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"\b(edgeseg|docker run|pip|apt|install|venv|trtexec|jetson_clocks|usermod)\b[^;:]*$")
"""What stands in front of the flag of a whole command, which people copy."""
FIELD = re.compile(r"`([a-z]\w*)`")
SEPARATOR = "/--no-"
"""Between the two options of a switch."""
OTHER_NAMES = {
    "data": "parameters of a data set, ?NAME=VALUE",
    "mask_files.py": "parameters of a data set, ?NAME=VALUE",
    "runtime/sinks/uri.py": "values of parameters, in a table of the pages",
}
NO_MESSAGES = {
    "compiler/report/style.py": "a style sheet, whose variables look like flags",
    "fleet/commands.py": "command lines of boards",
}


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a file but docstrings and the flags that fields are declared with."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    left_out = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    left_out |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    left_out |= {id(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "flag"}
    for node in nodes:
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(getattr(part, "value", "")) if _is_text(part) else "\0" for part in node.values),
            )
        elif _is_text(node):
            yield getattr(node, "lineno", 0), str(getattr(node, "value", ""))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _libraries() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]


def _flags_in(text: str) -> list[str]:
    """Flags that a text names outside a whole command."""
    if text == SEPARATOR:
        return []
    return [found[0] for found in FLAG.finditer(text) if not COMMAND.search(text[: found.start()])]


def test_no_library_names_a_flag() -> None:
    named = {
        f"{path.relative_to(PACKAGE).as_posix()}:{line}": flags
        for path in _libraries()
        if path.relative_to(PACKAGE).as_posix() not in NO_MESSAGES
        for line, text in _texts(path)
        for flags in [_flags_in(text)]
        if flags
    }
    assert not named, "name the field in backticks, as in `rate`; cli prints the option"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("pass --rate 5", ["--rate"]),
        ("'edgeseg run --rate 5' does", []),
        ("edgeseg run fails; pass --rate 5", ["--rate"]),
        ("use `rate`, not --", []),
        ("pip install --upgrade edgeseg", []),
    ],
)
def test_a_flag_is_seen_where_there_is_one(text: str, flags: list[str]) -> None:
    assert _flags_in(text) == flags


def _parameters(command: Any) -> set[str]:
    """Names that some command knows, as messages may write them."""
    known = {str(one.name) for one in command.params}
    known |= {option.strip("-").replace("-", "_") for one in command.params for option in one.opts}
    return known.union(*(_parameters(inner) for inner in getattr(command, "commands", {}).values()))


def test_what_stands_in_backticks_is_a_field() -> None:
    known = _parameters(command_line())
    assert {"rate", "sources", "calibration", "min_distance"} <= known
    unknown = {
        f"{path.relative_to(PACKAGE).as_posix()}:{line}": name
        for path in _libraries()
        if not path.relative_to(PACKAGE).as_posix().startswith(tuple(OTHER_NAMES))
        for line, text in _texts(path)
        for name in FIELD.findall(text)
        if name not in known
    }
    assert not unknown


def test_fields_become_options() -> None:
    flags = flags_of(RunConfig)
    said = with_flags("`rate`, `sources`, `rules` and `legend` of `model`, but not `nothing` or `page.token`", flags)
    assert said == "--rate, --source, --alarm and --legend of MODEL, but not `nothing` or `page.token`"
