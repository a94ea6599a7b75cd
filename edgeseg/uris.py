"""URIs of sources and sinks: how a table describes them, and the one rule for reading their parameters."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, NamedTuple
from urllib.parse import parse_qsl

from edgeseg.errors import UsageError

__all__ = ["Location", "UriKind", "absolute_uri", "checked_parameters", "known_kinds", "located"]


@dataclass(frozen=True)
class UriKind:
    """What a table says of one scheme.

    Attributes:
        open: makes the source or sink of a URI.
        shown: how people write it, such as ``"coco://FILE"``; empty for another name of a kind that is shown.
        help: what it is, in Markdown.
        is_path: what follows ``://`` is a path on this machine.
        parameters: name -> its values, such as ``"rle|polygons"``; a word that begins with a capital stands for
            any. A kind without parameters takes a ``?`` for a part of its path.
    """

    open: Callable[..., Any]
    shown: str
    help: str
    is_path: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """Return how it is written with its parameters, such as ``coco://FILE?format=rle|polygons``."""
        parameters = "&".join(f"{name}={values}" for name, values in self.parameters.items())
        return f"{self.shown}?{parameters}" if parameters else self.shown


class Location(NamedTuple):
    """A URI that was read.

    Attributes:
        uri: the whole of it.
        place: what follows ``://``, without the parameters.
        values: of the parameters that are given.
    """

    uri: str
    place: str
    values: Mapping[str, str]


def located(uri: str, kind: UriKind) -> Location:
    """Read a URI whose scheme is of this kind. Only that of a path is taken apart: an address may hold a password.

    Raises:
        UsageError: see ``checked_parameters``; or that of a path names none.
    """
    scheme, separator, rest = uri.partition("://")
    place, _, query = rest.partition("?") if kind.is_path and kind.parameters else (rest, "", "")
    if separator and kind.is_path and not place.strip("/"):
        raise UsageError(f"{kind.form if kind.shown else scheme + '://FILE'} names a file, got {uri!r}")
    if not (kind.is_path and kind.parameters):
        return Location(uri, rest, {})
    return Location(uri, place, checked_parameters(query, kind.parameters, kind.form))


def checked_parameters(query: str, known: Mapping[str, str], form: str) -> dict[str, str]:
    """Read ``NAME=VALUE&...``.

    Args:
        query: what follows the ``?``.
        known: as ``UriKind.parameters``.
        form: how the whole URI is written, for messages.

    Returns:
        Name -> value, of the parameters that are given.

    Raises:
        UsageError: a parameter is not known, or a value is not among those that it may have.
    """
    values = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in values.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{form} has no parameter {name[:40]}; {has}")
        allowed = known[name].split("|")
        if value not in allowed and not known[name][:1].isupper():
            raise UsageError(f"{form}: {name} is {' or '.join(allowed)}, got {value[:40]!r}")
    return values


def known_kinds(kinds: Iterable[UriKind]) -> str:
    """Return the kinds of a table as people write them, for help and for errors."""
    return ", ".join(kind.shown for kind in kinds if kind.shown)


def absolute_uri(uri: str, kinds: Mapping[str, UriKind]) -> str:
    """Return a URI that means the same in every folder.

    Args:
        uri: a URI, or a path or the number of a camera.
        kinds: scheme -> its kind.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri if uri.isdigit() else os.path.abspath(uri)
    if scheme not in kinds or not kinds[scheme].is_path:
        return uri
    path, mark, query = rest.partition("?")
    return f"{scheme}://{os.path.abspath(path)}{mark}{query}"
