"""Post records as JSON to an address of the web."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeseg.credentials import address_parts
from edgeseg.errors import SinkError, UsageError

__all__ = ["Webhook"]

_NO_WEBHOOK = (
    "a webhook is https://[USER:PASSWORD@]HOST[:PORT]/PATH; write / ? # @ in USER and PASSWORD as %2F %3F %23 %40"
)
_TIMEOUT_S = 5.0


class Webhook:
    """Poster of JSON.

    Args:
        url: with what the other end needs: user and password, a path, a query.

    Attributes:
        description: text for people, without credentials.

    Raises:
        UsageError: the address makes no sense.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = address_parts(url)
        except UsageError:  # it would show the end of the path
            raise UsageError(_NO_WEBHOOK) from None
        host, port = parts.hostname, parts.port
        if not host:
            raise UsageError(_NO_WEBHOOK)
        # User, path and query may hold a token, so that only the host is ever shown; nor what may be a cut password.
        is_port = port is not None and ("@" in parts.netloc or "@" not in url)
        self.description = f"webhook {parts.scheme}://{host}{f':{port}' if is_port else ''}"
        self._url, self._headers = url, {"Content-Type": "application/json", "User-Agent": "edgeseg"}
        if parts.username is not None:
            self._url, self._headers["Authorization"] = _with_basic_authorization(url)
        # Not urlopen: it keeps one opener per process and so, since Python 3.12, the certificates of the first call.
        handler = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(handler, _NoRedirects)

    def post(self, record: bytes) -> None:
        """Post a record. Raises SinkError: the other end did not take it."""
        request = urllib.request.Request(self._url, record, self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            moved = (
                "; records go to no other place: write the address that takes them" if error.code // 100 == 3 else ""
            )
            raise SinkError(f"{self.description} answers {error.code}{moved}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or type(reason).__name__
            raise SinkError(f"{self.description} cannot be reached: {text}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that makes a redirect an error: followed, a POST becomes a GET, and the account goes to strangers."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _with_basic_authorization(url: str) -> tuple[str, str]:
    """Split a URL into one without user and password, and the header that carries them."""
    parts = urlsplit(url)
    account = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, "Basic " + base64.b64encode(account.encode()).decode()
