"""Passwords and tokens in addresses: one rule for what is one, so that none is printed, logged or put into a unit."""

from __future__ import annotations

import re

__all__ = ["has_credentials", "redacted"]

_USER_INFO = re.compile(r"(?<=://)[^/\s]+@(?=[^\s])")
_SECRET = re.compile(
    r"(?i)\b([\w-]*(?:user-pw|password|passwd|pwd|pass|token|secret|auth|sig|signature|key))\s*=\s*"
    r"(\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|(?:\\.|[^&\s\"])+)"
)


def redacted(text: str) -> str:
    """Text without the credentials of URLs in it: user info, and values of keys such as ``access_token``."""
    text = _USER_INFO.sub("***@", text)
    return _SECRET.sub(r"\1=***", text)


def has_credentials(address: str) -> bool:
    """Whether an address, or a GStreamer pipeline, holds something that ``redacted`` hides."""
    return "://" in address and redacted(address) != address
