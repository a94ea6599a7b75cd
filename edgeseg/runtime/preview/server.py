"""uvicorn in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Callable

from edgeseg.runtime.preview.address import Bound

__all__ = ["Connections", "ServerThread"]

_REQUEST_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 64


class Connections:
    """The open connections by the client's address; lives in the event loop.

    One too many ends the oldest that waits for a request, so that idle clients keep nobody out and take no more than
    their share of the process's descriptors.
    """

    def __init__(self) -> None:
        self._open: dict[Any, asyncio.Transport] = {}
        self._idle: dict[asyncio.Transport, None] = {}

    def expects(self, transport: asyncio.Transport, head: bool) -> None:
        """Tell whether a connection waits for the head of a request."""
        if head:
            self._idle.setdefault(transport)
        else:
            self._idle.pop(transport, None)

    def add(self, transport: asyncio.Transport) -> None:
        """Count a connection that was made."""
        if len(self._open) >= _MAX_CONNECTIONS - 1:
            oldest = next(iter(self._idle), transport)
            self._idle.pop(oldest, None)
            _reset(oldest)
        self._open[_key(transport.get_extra_info("peername"))] = transport

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that was lost."""
        self._open.pop(_key(transport.get_extra_info("peername")), None)

    def drop(self, client: Any) -> None:
        """End a connection now, whatever is still to be sent."""
        transport = self._open.get(_key(client))
        if transport is not None:
            _reset(transport)

    def drop_all(self) -> None:
        """End every connection now."""
        for transport in list(self._open.values()):
            _reset(transport)


def _reset(transport: asyncio.Transport) -> None:
    """Close without the wait for what the other side does not read: the kernel's buffers are freed as well."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _key(client: Any) -> Any:
    return tuple(client[:2]) if client else None


def _protocol(connections: Connections) -> type[asyncio.Protocol]:
    """uvicorn's HTTP, with a limit to how long a request's head may take."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections.add(transport)
            self._expect(True)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._expect(self.cycle is None or self.cycle.response_complete)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.remove(self.transport)
            self._expect(False)

        def _expect(self, head: bool) -> None:
            connections.expects(self.transport, head)
            if self._deadline is not None and not head:
                self._deadline.cancel()
                self._deadline = None
            elif self._deadline is None and head:
                self._deadline = self.loop.call_later(_REQUEST_TIMEOUT_S, self.transport.abort)

    return Protocol


class ServerThread:
    """Serves an ASGI application until ``close``.

    Args:
        app: makes the application, given the function that ends a client's connection.
        bound: where to listen.
        on_start: called in the server's thread with its event loop.
        on_close: called in the server's thread when it is to end, before open streams are cut off.
    """

    def __init__(
        self,
        app: Callable[[Callable[[Any], None]], Any],
        bound: Bound,
        on_start: Callable[[asyncio.AbstractEventLoop], None],
        on_close: Callable[[], None],
    ) -> None:
        import uvicorn

        self._connections = Connections()
        self._bound, self._on_start, self._on_close = bound, on_start, on_close
        config = uvicorn.Config(
            app(self._connections.drop),
            http=_protocol(self._connections),
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            backlog=_MAX_CONNECTIONS,  # so many are accepted at once, before anything here can end them
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeseg-preview", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_event_loop()
        try:
            self._on_start(self._loop)
            self._bound.socket.listen(128)
        finally:
            self._started.set()
        await self._server.serve(sockets=[self._bound.socket])

    def _end(self) -> None:
        self._on_close()
        self._server.should_exit = True
        asyncio.get_event_loop().call_later(0.5, self._connections.drop_all)

    def close(self, patience_s: float = 2.0) -> None:
        """End within so many seconds, open streams included. May be called twice."""
        loop = self._loop
        if loop is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it ended by itself meanwhile
                loop.call_soon_threadsafe(self._end)
        self._thread.join(patience_s)
        self._bound.socket.close()
