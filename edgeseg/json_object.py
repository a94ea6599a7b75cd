"""A JSON object as a reader meets it: every fact is taken by name and must be of the type that is asked for."""

from __future__ import annotations

import math
import sys
from typing import Any

__all__ = ["JsonObject"]


_MOST = 1e30
"""So that sums and squares of numbers stay finite."""


class JsonObject:
    """Facts of one JSON object.

    What is missing gives the default, because files of older versions lack facts. What is there must be of its type.

    Args:
        value: what ``json.loads`` gave.
        what: names the object in messages.

    Raises:
        ValueError: ``value`` is no object, or (from the methods) a fact is of another type.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} should be a JSON object and is a {type(value).__name__}")
        self.facts: dict[str, Any] = value
        self.what = what

    def __contains__(self, name: str) -> bool:
        return self.facts.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        return str(self._typed(name, default, (str,), "text"))

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where there is none."""
        return self.text(name) if name in self else None

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        return bool(self._typed(name, default, (bool,), "true or false"))

    def whole(self, name: str, default: int = 0) -> int:
        """Return a whole number that a float can hold."""
        return int(_bounded(self._typed(name, default, (int,), "whole number")))

    def number(self, name: str, default: float = float("nan")) -> float:
        """Return a number; null, what is missing and one above 1e30, which nobody measures, give the default."""
        value = float(_bounded(self._typed(name, default, (int, float), "number")))
        return default if abs(value) > _MOST else value

    def finite(self, name: str, default: float) -> float:
        """Return a number that is finite, and not above 1e30."""
        value = self.facts.get(name, default)
        if not is_finite(value) or abs(value) > _MOST:
            raise ValueError(f"the limit {name} of {self.what} is {value!r} and no finite number")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """Return a number, or None where there is none, or none that is finite."""
        value = self.number(name)
        return None if math.isnan(value) else value

    def numbers(self, name: str) -> dict[str, float]:
        """Return numbers by name; null is NaN."""
        inner = self.object(name)
        return {key: inner.number(key) for key in inner.facts}

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.values(name)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{self.what} has {name} {str(values)[:80]}, which are no list of names")
        return tuple(values)

    def values(self, name: str) -> list[Any]:
        """Return a list of anything."""
        values: list[Any] = self._typed(name, [], (list,), "list")
        return values

    def object(self, name: str) -> JsonObject:
        """Return an object; an empty one where there is none."""
        return JsonObject(self.facts.get(name, {}), f"{name} of {self.what}")

    def objects(self, name: str) -> dict[str, JsonObject]:
        """Return objects by name."""
        return self.object(name).inner()

    def inner(self) -> dict[str, JsonObject]:
        """Return the facts of an object that holds objects alone."""
        return {key: JsonObject(value, f"{key} of {self.what}") for key, value in self.facts.items()}

    def listed(self, name: str) -> list[JsonObject]:
        """Return a list of objects."""
        return [JsonObject(value, f"an entry of {name}") for value in self.values(name)]

    def _typed(self, name: str, default: Any, kinds: tuple[type, ...], what: str) -> Any:
        value = self.facts.get(name)
        if value is None:
            return default
        if type(value) not in kinds:
            raise ValueError(f"{name} of {self.what} is {repr(value)[:80]} and no {what}")
        return value


def is_finite(value: object) -> bool:
    """Tell whether a JSON value is a number that a float holds; JSON knows larger ones."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError("a number is too large")
    return value
