"""Where the page listens, and who may call it by which name."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from edgeseg.credentials import redacted
from edgeseg.errors import SinkError, UsageError

__all__ = ["MIN_TOKEN", "Bound", "bound", "is_own_host"]

MIN_TOKEN = 16
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})")
_SEND_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Bound:
    """A listening socket.

    Attributes:
        socket: bound, not yet listening.
        host: as it was given.
        url: of the page, without a token.
    """

    socket: socket.socket
    host: str
    url: str


def place_of(address: str) -> tuple[str, int]:
    """Read HOST:PORT. Raises UsageError: it is of another form."""
    found = _ADDRESS.fullmatch(address)
    if not found or int(found["port"]) > 65535:
        raise UsageError(f"`preview` is HOST:PORT, e.g. 127.0.0.1:8000 or [::1]:8000, got {redacted(repr(address))}")
    return found["v6"] or found["host"], int(found["port"])


def bound(address: str, token: str) -> Bound:
    """Bind HOST:PORT; port 0 lets the kernel choose.

    Raises:
        UsageError: no such address, or one that others reach without a token of MIN_TOKEN characters.
        SinkError: the port is in use, or the host is not of this machine.
    """
    host, port = place_of(address)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SinkError(f"`preview` {address}: no host {host}; use 127.0.0.1 or an address of this machine") from error
    is_loopback = ipaddress.ip_address(where[0]).is_loopback
    if token and len(token) < MIN_TOKEN:
        raise UsageError(f"the preview token has {len(token)} characters, it needs at least {MIN_TOKEN}")
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageError("the preview token has blanks or signs that no header carries; it takes printable ASCII")
    if not is_loopback and not token:
        raise UsageError(f"`preview` {address} can be reached by others; give a token, or use 127.0.0.1:{port}")
    listener, url = _listening(family, kind, where, address)
    return Bound(listener, host, url)


def _listening(family: int, kind: int, where: tuple[object, ...], address: str) -> tuple[socket.socket, str]:
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # the kernel ends connections whose other side stops reading
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SEND_TIMEOUT_MS)
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise SinkError(f"`preview` {address} cannot be used: {error.strerror}; choose another port") from error
    name, port = listener.getsockname()[:2]
    return listener, f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def is_own_host(header: str, host: str) -> bool:
    """Tell whether a Host header names this server: an IP address, localhost, this machine, the bound name.

    Another name may be one that its owner points here to have a browser talk to us as him (DNS rebinding).
    """
    name = re.sub(r":\d{1,5}$", "", header).lower()
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        own = socket.gethostname().lower()
        return name in ("localhost", own, f"{own}.local", host.lower())
    return True
