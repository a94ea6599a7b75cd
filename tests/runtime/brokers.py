"""A real mosquitto on loopback, and what it has to say."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable

import paho.mqtt.client as mqtt
import pytest

from tests import HANG_S


def free_port() -> int:
    """A port of the kernel's choice."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Broker:
    """mosquitto that can be killed and started again on the same port.

    With ``password`` for the user ``cam`` only; with the ``certificates`` of ``certificates_in`` by TLS only.
    """

    def __init__(self, folder: Path, password: str = "", certificates: Path | None = None) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("mosquitto is not installed: apt install mosquitto")
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        text = f"listener {self.port} 127.0.0.1\nuser root\nallow_anonymous {str(not password).lower()}\n"
        if password:
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(folder / "users"), "cam", password], check=True)
            text += f"password_file {folder / 'users'}\n"
        if certificates:
            text += (
                f"cafile {certificates}/ca.pem\ncertfile {certificates}/server.pem\nkeyfile {certificates}/server.key\n"
            )
        self._config.write_text(text)
        self._command = [program, "-c", str(self._config)]
        self.start()

    def start(self) -> None:
        """Start it; while it was away somebody else may have got its port for a connection."""
        give_up_at = time.monotonic() + HANG_S
        while not self._is_started():
            self.process.wait()
            assert time.monotonic() < give_up_at, "mosquitto did not start"
            time.sleep(0.2)
        assert self.process.stderr is not None
        threading.Thread(target=self.process.stderr.read, name="mosquitto-log", daemon=True).start()

    def _is_started(self) -> bool:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        return any("running" in line for line in self.process.stderr)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def certificates_in(folder: Path) -> Path:
    """``ca.pem``, and ``server.pem`` and ``server.key`` for localhost, made by openssl; skips without it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: apt install openssl")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=edgeseg test CA")
    openssl("req", *key[:-2], "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    return folder


class Listener:
    """Everything that is published under a topic, by a client of its own; by TLS when the authority's file is given."""

    def __init__(self, port: int, topic: str, user: str = "", password: str = "", ca: Path | None = None) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        if ca:
            self._client.tls_set(str(ca))
        self._client.connect("localhost" if ca else "127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(10)

    def wait_for(self, what: Callable[[list[tuple[str, bytes, bool]]], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self.messages), 20), self.messages

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        with self._changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()
