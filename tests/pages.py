"""What the Markdown pages tell a reader to type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A page's code.

    Attributes:
        name: relative to the clone.
        lines: of its fenced blocks, without trailing remarks (``# ...`` after two spaces) and empty lines, in order.
        spans: its inline code, in order.
    """

    name: str
    lines: tuple[str, ...]
    spans: tuple[str, ...]


def page(name: str) -> Page:
    """Read a page of this clone."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = _FENCE.findall(text)
    lines = (re.sub(r"\s\s+# .*|^# .*", "", line).strip() for block in blocks for line in block.splitlines())
    spans = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    return Page(name, tuple(filter(None, lines)), tuple(span.replace("\\|", "|") for span in spans))


def pages() -> list[Page]:
    """Every page but the record of changes, which tells of commands as they were."""
    here = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    shown = (path for path in here if not any(part.startswith(".") for part in path.parts))
    return [page(path.as_posix()) for path in sorted(shown) if path.name != "CHANGELOG.md"]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of shell; redirections are left out."""
    line = re.sub(r"<[a-z ]+>", "URL", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word and set(word) <= set("|&;<>"):
            yield words
            words = []
        else:
            words.append(word)
    yield words
