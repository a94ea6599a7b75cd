"""Hide passwords and tokens in addresses. One rule decides what is one, so that none is printed, logged or stored."""

from __future__ import annotations

import re
from typing import Sequence
from urllib.parse import SplitResult, urlsplit

from edgeseg.errors import UsageError

__all__ = ["address_parts", "has_credentials", "redacted", "without_secrets_of"]

_PATHS = ("file", "jsonl", "csv", "coco", "record", "replay", "rosbag")  # an @ in the name of a file ends no password
_NO_USER = "".join(rf"(?<!\b{name})" for name in (*_PATHS, "demo", "gst"))
# People type passwords as they are, with / ? # and blanks in them, so only the last @ is known to end one.
_PLACE = r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]|localhost)(?::\d{1,5})?[/?#]"  # nobody is called so
_USER_INFO = re.compile(_NO_USER + rf"://(?!(?:{_PLACE})?\*\*\*@)({_PLACE})?.*@", re.DOTALL)
_KEYS = (
    r"\b[\w.\-\[]*(?:passphrase|password|passcode|passwd|pass?|pwd|psw|pw|token|secret|credentials?|authorization|auth|sig"
    r"|signature|key|jwt|cookies?|session|sid)\d*\]?"
)
_QUOTED = r"\\\"(?:[^\"\\]|\\[^\"])*(?:\\\")?|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?"
_IN_ADDRESS = re.compile(rf"(?i)({_KEYS})(=|%3d)(?!\*\*\*)[^&]+")
_TYPE = r"(?:\(\w+\))?"  # as GStreamer may write it in front of a value
_IN_TEXT = re.compile(rf"(?i)({_KEYS})\s*=\s*{_TYPE}(?!\*\*\*|\\\"\*\*\*)({_QUOTED}|(?:\\.|[^&\s\"])+)")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization)\s*:\s*(?:(?:bearer|basic|digest)\s+)?[^\s\"',;]+")
_ADDRESS = re.compile(r"(?!gst:)[A-Za-z][A-Za-z0-9+.-]*://")
_ESCAPES = "write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, ] as %5D, % as %25, a blank as %20"


def redacted(text: str) -> str:
    """Return a text with its credentials replaced by ``***``.

    After ``://`` everything up to the last ``@`` is hidden, but not a host that is a number. Values of keys such as
    ``access_token`` are hidden too. The rule rather hides too much than too little.

    Args:
        text: an address, a GStreamer pipeline, or a sentence with addresses.
    """
    text = _HEADER.sub(r"\1: ***", _USER_INFO.sub(lambda found: f"://{found[1] or ''}***@", text))
    return _IN_ADDRESS.sub(r"\1=***", text) if _ADDRESS.match(text) else _IN_TEXT.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    """Return the stars for a value; GStreamer reads them inside quotes only between quotes of their own."""
    return found[1] + ('=\\"***\\"' if found[2].startswith('\\"') else "=***")


def has_credentials(address: str) -> bool:
    """Tell whether an address, or a GStreamer pipeline, holds something that ``redacted`` hides."""
    return "://" in address and redacted(address) != address


def without_secrets_of(words: Sequence[str], text: str) -> str:
    """Hide in a text the credentials of command-line words, for messages that others made of these words."""
    for word in words:
        for secret in {word, word.partition("=")[2]}:
            if has_credentials(secret):
                # Without the scheme, of whose slashes one is gone where it was taken for a path.
                rest, shown = secret.partition("://")[2], redacted(secret).partition("://")[2]
                text = text.replace(rest, shown).replace(repr(rest)[1:-1], shown)
    return text


def address_parts(address: str, *, at_later: bool = True) -> SplitResult:
    """Split a network address into its parts and check its port.

    Args:
        address: ``SCHEME://[USER[:PASSWORD]@]HOST[:PORT]...``.
        at_later: an ``@`` may follow behind HOST. Without this, an ``@`` behind a HOST that looks like a user is
            taken for the end of a password that was cut by an earlier sign.

    Raises:
        UsageError: ``address`` cannot be split, or its port is no number. The message holds no part of the
            credentials, not even of those that were cut.
    """
    scheme = address.partition("://")[0]
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        # What Python says would quote a part of the password as the port.
        shown = redacted(address) if "@" in address else f"{scheme}://***"
        raise UsageError(
            f"{shown} is no address {scheme}://[USER:PASSWORD@]HOST[:PORT]/PATH, with a PORT of 1 to 65535; in USER and"
            f" PASSWORD {_ESCAPES}"
        ) from None
    is_user = ":" in parts.netloc and not _is_plain_host(host)
    is_cut = "@" not in parts.netloc and "@" in address and (is_user or not at_later)
    # Of u:p@ss/w@HOST the host would be ss, and a message that names it would tell a part of the password.
    is_cut |= "@" in parts.netloc and "@" in address.partition(parts.netloc)[2] and not _is_plain_host(host)
    if is_cut or "@" in parts.fragment:
        raise UsageError(
            f"{redacted(address)}: a sign in USER or PASSWORD ends them before the @; {_ESCAPES}; behind HOST write an "
            "@ as %40"
        )
    return parts


def _is_plain_host(host: str) -> bool:
    """Tell whether a host is a name with a dot, a number or this machine: no word of a password looks so by chance."""
    return "." in host or ":" in host or host == "localhost"
