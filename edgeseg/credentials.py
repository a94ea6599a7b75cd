"""Passwords and tokens in addresses: one rule for what is one, so that none is printed, logged or put into a unit."""

from __future__ import annotations

import re

__all__ = ["BAD_ADDRESS", "has_credentials", "redacted"]

BAD_ADDRESS = "that is no address; a port is 1 to 65535, and in a password / is written %2F, # %23, ? %3F and @ %40"
"""Said of what cannot be taken apart; Python's own words would quote a piece of the password as the port."""

_USER_INFO = re.compile(
    r"(?<=://)(?:[^/\s]+"
    # People type passwords as they are: with blanks and what else has a meaning in an address. Not a port's number.
    r"|[^/\s:@\[\"']*:(?!\s|\d{1,5}(?:[/?#\s\"']|$))[^\n\"]*)@(?=[^\s])"
)
_SECRET = re.compile(
    r"(?i)\b([\w-]*(?:user-pw|password|passwd|pwd|pass|pas|token|secret|auth|sig|signature|key)|authorization)"
    r"\s*=\s*(?:\(\w+\))?"  # GStreamer may name the type
    r"(\\\"(?:[^\"\\]|\\[^\"])*(?:\\\")?|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|(?:\\.|[^&\s\"])+)"
)
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization)\s*:\s*(?:(?:bearer|basic|digest)\s+)?[^\s\"',;]+")


def redacted(text: str) -> str:
    """Text without the credentials of URLs in it: user info, and values of keys such as ``access_token``."""
    text = _USER_INFO.sub("***@", text)
    return _HEADER.sub(r"\1: ***", _SECRET.sub(_hidden, text))


def _hidden(found: re.Match[str]) -> str:
    """In a structure within quotes GStreamer reads stars only between quotes of their own."""
    return found[1] + ('=\\"***\\"' if found[2].startswith('\\"') else "=***")


def has_credentials(address: str) -> bool:
    """Whether an address, or a GStreamer pipeline, holds something that ``redacted`` hides."""
    return "://" in address and redacted(address) != address
