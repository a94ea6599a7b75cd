"""Strict reading of what a request says. Everything wrong is a Refusal with one line for the caller."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Mapping, Sequence

__all__ = [
    "Refusal",
    "boolean",
    "distinct_texts",
    "fields",
    "number",
    "parsed",
    "polygon",
    "text",
]

Check = Callable[[Any], Any]
"""Returns the value itself, or raises ValueError that says what it should be."""


class Refusal(Exception):
    """A request that is not carried out: an HTTP status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def parsed(body: bytes) -> Any:
    """Parse a body as JSON. Raises Refusal: 400 for anything else, NaN, infinity and halves of letters included."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode(
            "utf-8"
        )  # an escape may be a lone surrogate, which nobody can print
        return value
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "the body is not JSON in UTF-8") from error


def fields(body: Any, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> dict[str, Any]:
    """Check the fields of a JSON object; optional ones that are absent are left out. Raises Refusal: 400."""
    known = {**required, **(optional or {})}
    if not isinstance(body, dict):
        raise Refusal(400, f"the body is a JSON object with {', '.join(known)}")
    unknown = [name for name in body if name not in known]
    if unknown:
        raise Refusal(400, f"no field {unknown[0][:40]!r}; there are {', '.join(known)}")
    missing = [name for name in required if name not in body]
    if missing:
        raise Refusal(400, f"the field {missing[0]!r} is missing")
    return {name: _checked(name, value, known[name]) for name, value in body.items()}


def _checked(name: str, value: Any, check: Check) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise Refusal(400, f"{name} {error}") from error


def number(low: float, high: float) -> Check:
    """Check a number between two bounds, both included."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"is a number from {low:g} to {high:g}")
        return float(value)

    return check


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("is true or false")
    return value


def text(longest: int, pattern: str = r"[^\x00-\x1f\x7f]*") -> Check:
    """Check a string of bounded length that matches a pattern as a whole, or has no control characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
            raise ValueError(f"is a text of at most {longest} characters that matches {pattern}")
        return value

    return check


def distinct_texts(most: int) -> Check:
    """Check a list of different strings."""

    def check(value: Any) -> list[str]:
        is_list = isinstance(value, list) and len(value) <= most and all(isinstance(item, str) for item in value)
        if not is_list or len(set(value)) != len(value):
            raise ValueError(f"is a list of at most {most} different texts")
        return list(value)

    return check


def polygon(fewest: int, most: int) -> Check:
    """Check a list of [x, y] pairs, each coordinate 0-1."""
    coordinate = number(0, 1)

    def check(value: Any) -> list[tuple[float, float]]:
        if not isinstance(value, list) or not fewest <= len(value) <= most or not all(map(_is_pair, value)):
            raise ValueError(f"is a list of {fewest} to {most} [x, y] pairs")
        return [(coordinate(x), coordinate(y)) for x, y in value]

    return check


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


def _no_constant(name: str) -> float:
    raise ValueError(name)
