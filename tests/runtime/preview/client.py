"""HTTP as bare as it goes, so that a test says exactly what is sent."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 0)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=15)
        try:
            connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def send(self, method: str, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask(
            method, path, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def state(self) -> Any:
        return self.get("/api/state").json()

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[bytes]]:
        """The JPEGs of a stream, one after the other; leaving the block hangs up."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=15)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            yield _parts(response)
        finally:
            connection.close()

    def raw(self, data: bytes, receive_buffer: int = 0) -> socket.socket:
        """A connection on which this was sent; nothing is read."""
        opened = socket.socket()
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.settimeout(20)
        opened.connect((self.host, self.port))
        opened.sendall(data)
        return opened

    def until(self, true: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for something to become true, asking again and again."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not become true in time"
            time.sleep(0.02)


def _parts(response: http.client.HTTPResponse) -> Iterator[bytes]:
    data, mark = b"\r\n", b"\r\n--edgeseg-frame\r\nContent-Type: image/jpeg\r\n\r\n"
    while True:
        received = response.read1(1 << 16)
        if not received:
            return
        data += received
        *whole, data = data.split(mark)
        yield from (part for part in whole if part)
