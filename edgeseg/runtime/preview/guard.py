"""What stands before every request: the name we are called by, the token, the origin, and headers on every answer."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Awaitable, Callable, Iterable, MutableMapping
from urllib.parse import parse_qs

from edgeseg.runtime.preview.address import is_own_host
from edgeseg.runtime.preview.bodies import Refusal

__all__ = ["COOKIE", "Guard"]

COOKIE = "edgeseg_preview"
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """An ASGI application that refuses before another one is asked.

    Args:
        app: the other one.
        host: the name that was bound.
        token: asked of everybody; empty on loopback where none is wanted.
    """

    def __init__(self, app: _App, host: str, token: str) -> None:
        self._app, self._host = app, host
        self._token = token.encode()
        # The cookie outlives a restart of the run, and does not give the token away.
        self._cookie = hmac.new(self._token, b"edgeseg preview cookie", hashlib.sha256).hexdigest().encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Check a request, then pass it on; add headers to every answer."""

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            if self._logs_in(scope):
                await _answer(with_headers, 303, b"", [(b"location", b"/"), (b"set-cookie", self._set_cookie())])
                return
            self._check(scope)
        except Refusal as refusal:
            body = json.dumps({"error": str(refusal)}).encode()
            extra = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
            await _answer(with_headers, refusal.status, body, [(b"content-type", b"application/json"), *extra])
            return
        await self._app(scope, receive, with_headers)

    def _logs_in(self, scope: _Scope) -> bool:
        """Whether this is the page with the right ``?token=``. Raises Refusal for a wrong one."""
        query = scope["query_string"]
        if not self._token or scope["path"] != "/" or scope["method"] != "GET" or b"token=" not in query:
            return False
        self._check_host(scope)
        given = parse_qs(query.decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self._token):
            raise Refusal(401, "wrong token")
        return True

    def _set_cookie(self) -> bytes:
        return b"%s=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000" % (COOKIE.encode(), self._cookie)

    def _check(self, scope: _Scope) -> None:
        self._check_host(scope)
        if self._token and not self._is_known(scope):
            raise Refusal(
                401, "a token is needed: open /?token=TOKEN once in the browser, or send Authorization: Bearer TOKEN"
            )
        self._check_origin(scope)

    def _check_host(self, scope: _Scope) -> None:
        host = _header(scope, b"host")
        if not is_own_host(host, self._host):
            raise Refusal(421, "this server is called by its IP address, localhost or its own host name")

    def _is_known(self, scope: _Scope) -> bool:
        scheme, _, given = _header(scope, b"authorization").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            return True
        cookies = (pair.strip().partition("=") for pair in _header(scope, b"cookie").split(";"))
        return any(
            name == COOKIE and hmac.compare_digest(value.encode("latin-1"), self._cookie) for name, _, value in cookies
        )

    def _check_origin(self, scope: _Scope) -> None:
        """Other sites may link to the page, and that is all."""
        site = _header(scope, b"sec-fetch-site")
        is_visit = (
            scope["path"] == "/" and scope["method"] == "GET" and _header(scope, b"sec-fetch-mode") in ("", "navigate")
        )
        if site not in ("", "same-origin", "none") and not is_visit:
            raise Refusal(403, "another site's page asked for this; open the preview page itself")
        origin = _header(scope, b"origin")
        host = _header(scope, b"host")
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            raise Refusal(403, "another site's page asked for this; open the preview page itself")


def _header(scope: _Scope, name: bytes) -> str:
    values = [value for key, value in scope["headers"] if key == name]
    return b",".join(values).decode("latin-1")


async def _answer(send: _Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
