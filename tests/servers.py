"""Small servers on loopback, for what talks to the network."""

from __future__ import annotations

import http.server
import socketserver
import threading
from contextlib import contextmanager
from typing import Any, Iterator


class Quiet(http.server.BaseHTTPRequestHandler):
    """A handler of HTTP that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """Let a server work in a thread of its own until the end of the block; its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="server")
    with server:
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
