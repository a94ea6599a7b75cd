"""Strict reading of what a request says. Everything wrong is a Refusal with one line for the caller.

A check carries the JSON Schema of what it takes, so that the document says what is checked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence

from edgeseg.runtime.preview import schemas
from edgeseg.runtime.preview.schemas import Schema

__all__ = [
    "Check",
    "Refusal",
    "boolean",
    "checked",
    "checked_body",
    "distinct_texts",
    "number",
    "optional",
    "parsed",
    "polygon",
    "schema_of",
    "text",
]


@dataclass(frozen=True)
class Check:
    """What a value has to be.

    Attributes:
        read: returns the value, or raises ValueError that says what it should be.
        schema: of the values that it takes.
        required: whether a body has to have it.
    """

    read: Callable[[Any], Any]
    schema: Schema
    required: bool = True


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


def checked_body(body: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Check the fields of a JSON object; optional ones that are absent are left out. Raises Refusal: 400."""
    if not isinstance(body, dict):
        raise Refusal(400, f"the body is a JSON object with {', '.join(checks)}")
    unknown = [name for name in body if name not in checks]
    if unknown:
        raise Refusal(400, f"no field {unknown[0][:40]!r}; there are {', '.join(checks)}")
    missing = [name for name, check in checks.items() if check.required and name not in body]
    if missing:
        raise Refusal(400, f"the field {missing[0]!r} is missing")
    return {name: checked(name, value, checks[name]) for name, value in body.items()}


def checked(name: str, value: Any, check: Check) -> Any:
    """Check a value of that name. Raises Refusal: 400."""
    try:
        return check.read(value)
    except ValueError as error:
        raise Refusal(400, f"{name} {error}") from error


def schema_of(checks: Mapping[str, Check]) -> Schema:
    """Return the schema of an object with these fields."""
    properties = {name: check.schema for name, check in checks.items()}
    return schemas.object_of(properties, tuple(name for name, check in checks.items() if not check.required))


def optional(check: Check) -> Check:
    """Return the check of a field that a body may leave out."""
    return replace(check, required=False)


def number(low: float, high: float) -> Check:
    """Check a number between two bounds, both included."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"is a number from {low:g} to {high:g}")
        return float(value)

    return Check(read, schemas.number(minimum=low, maximum=high))


def boolean() -> Check:
    """Check that it is true or false."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("is true or false")
        return value

    return Check(read, schemas.BOOL)


def text(longest: int, pattern: str = r"[^\x00-\x1f\x7f]*", says: str = "") -> Check:
    """Check a string of bounded length.

    Args:
        longest: letters.
        pattern: matches it as a whole. Any string without control characters, unless given.
        says: what it should be, for the refusal; made of the other two, unless given.
    """

    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
            raise ValueError(says or f"is a text of at most {longest} characters that matches {pattern}")
        return value

    return Check(read, schemas.text(maxLength=longest, pattern=f"^{pattern}$"))


def distinct_texts(most: int) -> Check:
    """Check a list of different strings."""

    def read(value: Any) -> list[str]:
        is_list = isinstance(value, list) and len(value) <= most and all(isinstance(item, str) for item in value)
        if not is_list or len(set(value)) != len(value):
            raise ValueError(f"is a list of at most {most} different texts")
        return list(value)

    return Check(read, schemas.list_of(schemas.text(), uniqueItems=True, maxItems=most))


def polygon(fewest: int, most: int) -> Check:
    """Check a list of [x, y] pairs, each coordinate 0-1."""
    coordinate = number(0, 1)

    def read(value: Any) -> list[tuple[float, float]]:
        if not isinstance(value, list) or not fewest <= len(value) <= most or not all(map(_is_pair, value)):
            raise ValueError(f"is a list of {fewest} to {most} [x, y] pairs")
        return [(coordinate.read(x), coordinate.read(y)) for x, y in value]

    pair = schemas.list_of(coordinate.schema, minItems=2, maxItems=2)
    says = "[x, y] pairs, shares of the picture's width and height."
    return Check(read, schemas.list_of(pair, minItems=fewest, maxItems=most, description=says))


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


def _no_constant(name: str) -> float:
    raise ValueError(name)
