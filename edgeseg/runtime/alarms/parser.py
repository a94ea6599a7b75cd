"""Parse text to a rule, by recursive descent over the grammar in ``expression``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Collection, NoReturn

from edgeseg.errors import UsageError
from edgeseg.runtime.alarms.expression import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Duration,
    Limit,
    Not,
    Rule,
    Term,
)

__all__ = ["parse"]

_LONGEST = 2000
_DEEPEST = 32
_ORDERS = (">=", "<=", ">", "<")
_KINDS = ("area", "confidence", "change")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<amount>[0-9]+(?:\.[0-9]+)?(?=(?:s|seconds|frames?)\b))
    |(?P<word>[^\W\d][\w-]*)
    |(?P<quoted>"(?:[^"\\]|\\["\\'])*"|'(?:[^'\\]|\\["\\'])*')
    |(?P<sign>>=|<=|[><():%])
    )""",
    re.VERBOSE,
)


def parse(text: str, classes: Collection[str], rois: Collection[str] = ()) -> Rule:
    """Parse the text of a rule.

    Args:
        text: in the grammar of ``edgeseg.runtime.alarms.expression``; at most 2000 characters, 32 levels deep.
        classes: names that ``area``, ``confidence``, ``change`` and ``roi`` may use.
        rois: further names that ``roi`` may use.

    Raises:
        UsageError: the text is no rule; the message says where, and what was expected there.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"an alarm rule has at most {_LONGEST} characters, got {len(text)}; make several of it")
    return _Parser(text, classes, rois).rule()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


class _Parser:
    def __init__(self, text: str, classes: Collection[str], rois: Collection[str]) -> None:
        self._text, self._classes, self._rois = text, classes, rois
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def rule(self) -> Rule:
        title = self._title()
        source = self._source()
        condition = self._condition()
        hold = self._duration() if self._takes("for") else Duration()
        clear = Duration()
        if self._takes("clear"):
            self._expect("after")
            clear = self._duration()
        if self._token.kind != "end":
            self._fail("'and', 'or', 'for', 'clear after' or the end")
        return Rule(condition, hold, clear, title, source)

    # What a rule is made of, from the outside in

    def _title(self) -> str:
        following = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        if following.text != ":" or self._token.kind not in ("word", "quoted", "number"):
            return ""
        title = self._name("a name")
        self._expect(":")
        return title

    def _source(self) -> str:
        if not self._takes("source"):
            return ""
        name = self._in_parentheses("the name of a source")
        self._expect(":")
        return name

    def _condition(self) -> Condition:
        parts = [self._conjunction()]
        while self._takes("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._takes("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _negation(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"at most {_DEEPEST} levels of 'not' and parentheses")
        condition: Condition
        if self._takes("not"):
            condition = Not(self._negation())
        elif self._takes("("):
            condition = self._condition()
            self._expect(")")
        else:
            condition = self._comparison()
        self._depth -= 1
        return condition

    def _comparison(self) -> Comparison:
        start = self._token
        if start.kind != "word" or start.text not in _KINDS:
            self._fail(f"{', '.join(_KINDS)}, 'not' or '('")
        self._next += 1
        name = self._known(self._classes, "a class")
        within = self._region() if start.text == "area" and self._takes("in") else ""
        if self._token.text not in _ORDERS or self._token.kind != "sign":
            self._fail("> >= < or <=" + (", or 'in roi(...)'" if start.text == "area" and not within else ""))
        order = self._take().text
        at = self._token
        limit = self._limit()
        relative_to = ""
        if start.text == "area" and self._takes("of"):
            within, relative_to = self._whole(within)
        if not relative_to and limit.value > 1:
            self._fail(f"a share of 0 to 1, or 0% to 100% (did you mean {limit}%?)", at)
        return Comparison(Term(start.text, name, within, relative_to), order, limit)

    def _region(self) -> str:
        self._expect("roi")
        return self._known(self._rois, "a region")

    def _whole(self, within: str) -> tuple[str, str]:
        """Read what follows ``of``: (region, "") or (the region there was, a class)."""
        self._expect("roi")
        at = self._next + 1
        name = self._known([*self._classes, *self._rois], "a class or region")
        if name in self._classes:
            return within, name
        if within:
            self._fail("a class, since 'in' names the region already", self._tokens[at])
        return name, ""

    def _limit(self) -> Limit:
        amount = self._number("a number, e.g. 20%")
        return Limit(amount, self._takes("%"))

    def _duration(self) -> Duration:
        at = self._token
        amount = self._number("how long, e.g. 5 frames or 2 s")
        if self._takes("s") or self._takes("seconds"):
            return Duration(amount, True)
        if not (self._takes("frames") or self._takes("frame")):
            self._fail("frames or s")
        if amount != int(amount) or not 1 <= amount <= 1e9:
            self._fail("a whole number of frames, 1 or more", at)
        return Duration(amount)

    # Tokens

    def _number(self, expected: str) -> float:
        at = self._token
        if at.kind not in ("number", "amount"):
            self._fail(expected)
        value = float(self._take().text)
        if not math.isfinite(value):
            self._fail("a smaller number", at)
        return value

    def _known(self, names: Collection[str], what: str) -> str:
        at = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        name = self._in_parentheses(what)
        if name not in names:
            there = f"there are {', '.join(names)}" if names else "there are none; see `rois`"
            self._fail(f"{what}: {there}", at)
        return name

    def _in_parentheses(self, what: str) -> str:
        self._expect("(")
        name = self._name(what)
        self._expect(")")
        return name

    def _name(self, what: str) -> str:
        token = self._token
        if token.kind == "quoted":
            name = re.sub(r"\\(.)", r"\1", token.text[1:-1])
            if not name.strip() or not name.isprintable():
                self._fail(f"{what} of printable characters")
        elif token.kind == "word" or (token.kind == "number" and token.text.isdecimal()):
            name = token.text
        else:
            self._fail(f"{what}; quote a name with blanks or signs")
        self._next += 1
        return name

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, text: str) -> bool:
        """Go past a word or sign if it comes next; quoted text is never one."""
        if self._token.text != text or self._token.kind not in ("word", "sign"):
            return False
        self._next += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            self._fail(f"'{text}'")

    def _split(self) -> list[_Token]:
        tokens, position, end = [], 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None:
                skipped = position + len(self._text[position:]) - len(self._text[position:].lstrip())
                self._fail("a word, number, quoted name or one of > < = ( ) : %", _Token("?", "", skipped))
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", end)]

    def _fail(self, expected: str, at: _Token | None = None) -> NoReturn:
        column = (at or self._token).column
        before, after = self._text[max(0, column - 20) : column], self._text[column : column + 20]
        seen = "".join(character if character.isprintable() else "?" for character in f"{before} >>> {after}")
        raise UsageError(f"alarm rule, column {column + 1}: expected {expected}; at >>> in: {seen.strip()}")
