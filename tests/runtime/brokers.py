"""A real mosquitto on loopback, and what it has to say."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable

import paho.mqtt.client as mqtt
import pytest


def free_port() -> int:
    """A port of the kernel's choice."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Broker:
    """mosquitto that can be killed and started again on the same port; with ``password`` for the user ``cam`` only."""

    def __init__(self, folder: Path, password: str = "") -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("mosquitto is not installed: apt install mosquitto")
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        text = f"listener {self.port} 127.0.0.1\nuser root\nallow_anonymous {str(not password).lower()}\n"
        if password:
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(folder / "users"), "cam", password], check=True)
            text += f"password_file {folder / 'users'}\n"
        self._config.write_text(text)
        self._command = [program, "-c", str(self._config)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "running" in line:
                break
        else:
            raise AssertionError("mosquitto did not start")
        threading.Thread(target=self.process.stderr.read, name="mosquitto-log", daemon=True).start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Listener:
    """Everything that is published under a topic, by a client of its own."""

    def __init__(self, port: int, topic: str, user: str = "", password: str = "") -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
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
