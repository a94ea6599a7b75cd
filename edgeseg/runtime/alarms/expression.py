"""Represent the parts of a rule. ``str`` of each part is text that parses to an equal part.

The grammar, in EBNF; blanks are free between words::

    rule        = [ name ":" ] [ "source" "(" name ")" ":" ] condition [ "for" duration ] [ "clear" "after" duration ]
    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = ( area | measure ) order number [ "of" roi ]
    area        = "area" "(" name ")" [ "in" roi ]
    measure     = ( "confidence" | "change" ) "(" name ")"
    roi         = "roi" "(" name ")"
    order       = ">" | ">=" | "<" | "<="
    number      = digits [ "." digits ] [ ( "e" | "E" ) [ "+" | "-" ] digits ] [ "%" ]
    duration    = digits ( "frame" | "frames" ) | number ( "s" | "seconds" )
    name        = letter { letter | digit | "_" | "-" } | digits | quoted
    quoted      = '"' text '"' | "'" text "'"          (a backslash before a quote or a backslash)

The meaning, for one frame of one source, counted in pixels at the network's size:

- ``area(C)``: pixels of class C / pixels of the picture.
- ``area(C) in roi(R)``: only region R is looked at: pixels of C in R / pixels of R. R is a region, never a class.
- ``area(C) > 20% of roi(R)``, R a region: the same as ``area(C) in roi(R) > 20%``.
- ``area(C) > 20% of roi(K)``, K a class: pixels of C / pixels of K, both in the region of ``in`` where there is one,
  else in the picture. Where K is absent this is 0 when C is absent as well, else infinite. A region may not be named
  like a class, so ``roi`` is never ambiguous.
- ``confidence(C)``: mean probability of C where it won, 0 where it is absent.
- ``change(C)``: how far ``area(C)`` is from its value in the source's frame before, 0 at its first frame.
- ``20%`` is 0.2. ``for 5 frames``: the condition holds in 5 frames one after another. ``for 3 s``: it holds since a
  frame that was captured 3 s before this one or earlier. ``clear after``: the same for the way back. Both are
  ``1 frame`` if not given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Union

__all__ = ["BARE_NAME", "AllOf", "AnyOf", "Comparison", "Condition", "Duration", "Limit", "Not", "Rule", "Term"]

BARE_NAME = re.compile(r"[^\W\d][\w-]*|[0-9]+")


@dataclass(frozen=True)
class Term:
    """Quantity that a comparison measures.

    Attributes:
        kind: ``"area"``, ``"confidence"`` or ``"change"``.
        name: name of a class.
        within: the region that is looked at; empty for the picture.
        relative_to: the class whose pixels are the whole; empty for all pixels looked at.
    """

    kind: str
    name: str
    within: str = ""
    relative_to: str = ""

    def __str__(self) -> str:
        within = f" in roi({_named(self.within)})" if self.within else ""
        return f"{self.kind}({_named(self.name)}){within}"

    @property
    def label(self) -> str:
        """Return the text for people and records, with what the term is relative to."""
        return f"{self}{f' of roi({_named(self.relative_to)})' if self.relative_to else ''}"


@dataclass(frozen=True)
class Limit:
    """A number as it was written: ``amount`` in percent or not."""

    amount: float
    in_percent: bool = False

    def __str__(self) -> str:
        return f"{_number(self.amount)}{'%' if self.in_percent else ''}"

    @property
    def value(self) -> float:
        """Return the number as a share; ``20%`` is 0.2."""
        return self.amount / 100 if self.in_percent else self.amount


@dataclass(frozen=True)
class Comparison:
    """``term order limit``; ``order`` is one of ``> >= < <=``."""

    term: Term
    order: str
    limit: Limit

    def __str__(self) -> str:
        of = f" of roi({_named(self.term.relative_to)})" if self.term.relative_to else ""
        return f"{self.term} {self.order} {self.limit}{of}"


@dataclass(frozen=True)
class Not:
    """Condition that holds when its part does not."""

    part: Condition

    def __str__(self) -> str:
        return f"not {_inner(self.part)}"


@dataclass(frozen=True)
class AllOf:
    """Condition that holds when all parts do; two or more."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(_inner(part) for part in self.parts)


@dataclass(frozen=True)
class AnyOf:
    """Condition that holds when one of the parts does; two or more."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(_inner(part) for part in self.parts)


Condition = Union[Comparison, Not, AllOf, AnyOf]


@dataclass(frozen=True)
class Duration:
    """``amount`` seconds, or that many frames."""

    amount: float = 1
    in_seconds: bool = False

    def __str__(self) -> str:
        return f"{_number(self.amount)} {'s' if self.in_seconds else 'frame' if self.amount == 1 else 'frames'}"


@dataclass(frozen=True)
class Rule:
    """Rule that says when an alarm is on.

    Attributes:
        condition: must hold.
        hold: for how long, before the alarm goes on.
        clear: for how long it must not hold, before the alarm goes off.
        title: its author's name for it; may be empty.
        source: the only source it is about; empty for all, each for itself.
    """

    condition: Condition
    hold: Duration = Duration()
    clear: Duration = Duration()
    title: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """Return its title, else its text."""
        return self.title or str(self)

    def terms(self) -> list[Term]:
        """Return what is measured, each term once, in the order of the text."""
        return list(dict.fromkeys(_terms(self.condition)))

    def __str__(self) -> str:
        title = f"{_named(self.title)}: " if self.title else ""
        source = f"source({_named(self.source)}): " if self.source else ""
        hold = f" for {self.hold}" if self.hold != Duration() else ""
        clear = f" clear after {self.clear}" if self.clear != Duration() else ""
        return f"{title}{source}{self.condition}{hold}{clear}"


def _terms(condition: Condition) -> Iterator[Term]:
    if isinstance(condition, Comparison):
        yield condition.term
    elif isinstance(condition, Not):
        yield from _terms(condition.part)
    else:
        for part in condition.parts:
            yield from _terms(part)


def _inner(part: Condition) -> str:
    return f"({part})" if isinstance(part, (AllOf, AnyOf)) else str(part)


def _named(name: str) -> str:
    if BARE_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _number(amount: float) -> str:
    return str(int(amount)) if amount == int(amount) and amount < 1e15 else repr(amount)
