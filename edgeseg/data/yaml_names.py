"""Read the names of classes in YOLO's ``data.yaml``: exactly as YAML means them, or not at all."""

from __future__ import annotations

import json
import re
from typing import Iterator

__all__ = ["names_from_yaml"]

_FORM = "write names: [a, b], or a line for each"
_KEY = re.compile(r"^(?:names|'names'|\"names\")[ \t]*:(?=\s|$)", re.M | re.A)
_ID = r"(?:0|[1-9]\d*)"
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\n]|'')*'"
_START = r"(?:[^\s,\[\]{}#&*!|>%@`\"'?:-]|[?:-](?=[^\s,\[\]{}]))"
"""First letter of a text without quotes."""
_GAP = r"(?:\s|(?<=\s)#[^\n]*(?=\n|\Z))*"
"""Blanks, line ends and comments between brackets."""
_IN_BRACKETS = re.compile(
    rf"{_GAP}(?:(?P<id>{_ID})[ \t]*:[ \t]+|(?P<mark>['\"])(?P<quoted>{_ID})(?P=mark)[ \t]*:[ \t]*)?"
    rf"(?P<name>{_QUOTED}|{_START}(?:(?!\s#|:[\s,\[\]{{}}])[^,\[\]{{}}\n])*){_GAP}(?P<end>[,\]}}])",
    re.A,
)
_ON_A_LINE = re.compile(
    rf"(?P<indent> *)(?:-[ \t]+|(?P<id>{_ID})[ \t]*:[ \t]+|(?P<mark>['\"])(?P<quoted>{_ID})(?P=mark)[ \t]*:[ \t]+)"
    rf"(?P<name>{_QUOTED}|{_START}(?:(?![ \t]#|:[ \t]|:$).)*)(?:[ \t]+#.*|[ \t]*)",
    re.A,
)
_NOTHING = re.compile(r"[ \t]*(?:(?:^|(?<=[ \t]))#.*)?")


def names_from_yaml(text: str) -> dict[int, str] | None:
    """Return the names of the key ``names`` by id; None where the text has no such key.

    The forms are ``[a, b]``, ``{0: a, 1: b}``, lines ``- a`` and lines ``0: a``, with quotes and comments.

    Raises:
        ValueError: the names have another form, or an id comes twice.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    keys = list(_KEY.finditer(text))
    if not keys:
        return None
    behind = text[keys[0].end() :]
    opening = re.match(rf"{_GAP}([\[{{])", behind, re.A)
    entries = list(_bracketed(behind, opening) if opening else _lined(behind))
    ids = [one["id"] or one["quoted"] for one in entries]
    own = range(len(ids)) if not any(ids) else [-1 if one is None else int(one) for one in ids]
    names = dict(zip(own, (_plain(one["name"]) for one in entries)))
    has_ids = opening[1] == "{" if opening else bool(ids and ids[0])
    if len(keys) > 1 or not names or len(names) < len(ids) or -1 in names or has_ids != any(ids):
        raise ValueError(_FORM)
    return names


def _bracketed(text: str, opening: re.Match[str]) -> Iterator[re.Match[str]]:
    """Yield the entries between brackets. Raises ValueError: something else stands there."""
    at, closing = opening.end(), "]" if opening[1] == "[" else "}"
    while True:
        entry = _IN_BRACKETS.match(text, at)
        if entry is None or entry["end"] not in ("," + closing):
            raise ValueError(_FORM)
        yield entry
        at = entry.end()
        last = re.compile(rf"{_GAP}{re.escape(closing)}", re.A).match(text, at) if entry["end"] == "," else None
        at = last.end() if last else at
        if last or entry["end"] == closing:
            break
    if not _NOTHING.fullmatch(text[at:].split("\n")[0]):
        raise ValueError(_FORM)


def _lined(text: str) -> Iterator[re.Match[str]]:
    """Yield the entries on lines of one depth. Raises ValueError: something else stands there."""
    first, *lines = text.split("\n")
    if not _NOTHING.fullmatch(first):
        raise ValueError(_FORM)
    depth = None
    for line in lines:
        if _NOTHING.fullmatch(line):
            continue
        if not re.match(r"[ \t]|-[ \t]", line):
            break
        entry = _ON_A_LINE.fullmatch(line)
        if entry is None or depth not in (None, entry["indent"]):
            raise ValueError(_FORM)
        depth = entry["indent"]
        yield entry


def _plain(name: str) -> str:
    """Return what a text means. Raises ValueError: it holds an escape of YAML that JSON has not."""
    if name[0] == '"':
        try:
            return str(json.loads(name, strict=False))
        except ValueError:
            raise ValueError(_FORM) from None
    return name[1:-1].replace("''", "'") if name[0] == "'" else name.strip(" \t")
