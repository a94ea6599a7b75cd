"""Results to an MQTT broker."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from edgeseg.credentials import address_parts
from edgeseg.errors import SinkError, UsageError, require
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.frame import Segmentation
from edgeseg.runtime.sinks.base import FrameSink
from edgeseg.runtime.sinks.jsonl import frame_record
from edgeseg.spec import ModelSpec
from edgeseg.uris import checked_parameters

__all__ = ["MqttPublisher", "MqttSink"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://[user:password@]host[:port]/topic"
_PATIENCE_S = 5.0
_MOST_UNDER_WAY = 64
_RETRY_S = (0.2, 5.0)
_GOODBYE_S = 0.5


class MqttPublisher:
    """A connection to a broker, kept by a thread of its own, which connects again whenever it is lost.

    ``TOPIC/status`` holds the retained text ``online``, and ``offline`` after the end or when the connection is lost.

    Args:
        uri: ``mqtt://[user:password@]host[:port]/topic[?qos=0|1|2]``, or ``mqtts://`` for TLS, there also ``ca=FILE``.
            Signs in user and password are percent-encoded. qos is 1 if not given.

    Attributes:
        description: without credentials.

    Raises:
        SinkError: the URI makes no sense, or the broker cannot be reached or refuses within 5 seconds.
        MissingDependencyError: paho-mqtt is not installed.
    """

    def __init__(self, uri: str) -> None:
        mqtt = require("paho.mqtt.client", "mqtt")
        address = _parsed(uri)
        self.topic, self._qos = address.topic, address.qos
        self.description = f"{address.scheme}://{address.host}:{address.port}/{address.topic}"
        self._problem = f"{self.description} does not answer; is the broker running?"
        self._changed = threading.Condition()
        self._online = self._failed = False
        self._sent: deque[Any] = deque()
        self._stopping = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._set_up(address)
        self._thread = threading.Thread(target=self._keep_connected, name="edgeseg-mqtt", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._failed, _PATIENCE_S)
            reached = self._online
        if not reached:
            self._stop()
            raise SinkError(self._problem)

    def publish(self, payload: bytes, deadline: Deadline = Deadline()) -> None:
        """Hand one message over; at most 64 wait for the broker.

        Raises:
            SinkError: there is no connection, or the broker takes nothing for 5 seconds.
        """
        if not self._online:
            raise SinkError(self._problem)
        if self._left() >= _MOST_UNDER_WAY:
            self._await_one(deadline)
            if self._left() >= _MOST_UNDER_WAY:
                raise SinkError(f"{self.description}: {_MOST_UNDER_WAY} messages wait, the broker takes none")
        message = self._client.publish(self.topic, payload, self._qos)
        if message.rc != 0:
            raise SinkError(f"{self.description} lost the connection; it is tried again")
        self._sent.append(message)

    def _await_one(self, deadline: Deadline) -> None:
        """Wait up to 5 seconds until the broker has acknowledged a message."""
        until = time.monotonic() + _PATIENCE_S
        while self._left() >= _MOST_UNDER_WAY and time.monotonic() < until and deadline.left(1):
            _wait_for(self._sent[0], 0.1)

    def close(self, deadline: Deadline = Deadline()) -> None:
        """Wait up to 5 seconds for what is under way, say offline and disconnect. May be called twice.

        Raises:
            SinkError: the broker has not acknowledged all messages.
        """
        if not self._thread.is_alive():
            return
        until = time.monotonic() + _PATIENCE_S
        while self._online and self._left() and deadline.left(until - time.monotonic()) > _GOODBYE_S:
            _wait_for(self._sent[0], 0.1)
        left = self._left()
        if self._online:
            goodbye = self._client.publish(f"{self.topic}/status", b"offline", 1, True)
            _wait_for(goodbye, deadline.left(1.0) / 2)
        self._stop(deadline)
        if left:
            raise SinkError(f"{self.description}: {left} messages were not acknowledged by the broker", left)

    def _left(self) -> int:
        """How many messages the broker has not acknowledged."""
        while self._sent and _is_settled(self._sent[0]):
            self._sent.popleft()
        return len(self._sent)

    def _set_up(self, address: _Address) -> None:
        client = self._client
        if address.user:
            client.username_pw_set(address.user, address.password)
        if address.scheme == "mqtts":
            try:
                client.tls_set(ca_certs=address.ca)
            except (OSError, ssl.SSLError) as error:
                raise SinkError(f"the certificates in {address.ca} cannot be used: {error.strerror}") from error
        client.will_set(f"{address.topic}/status", b"offline", 1, True)
        client.max_queued_messages_set(2 * _MOST_UNDER_WAY)
        client.connect_timeout = _PATIENCE_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        # With this set, paho leaves all writing to the thread that runs its loop.
        client.on_socket_register_write = lambda *_: None
        client.connect_async(address.host, address.port, keepalive=15)

    def _keep_connected(self) -> None:
        pause_s = _RETRY_S[0]
        while not self._stopping.is_set():
            try:
                self._client.reconnect()
                while not self._stopping.is_set() and self._client.loop(0.2) == 0:
                    pause_s = _RETRY_S[0] if self._online else pause_s
            except (OSError, ValueError) as error:
                self._tell(f"{self.description} cannot be reached: {getattr(error, 'strerror', None) or error}")
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _RETRY_S[1])

    def _stop(self, deadline: Deadline = Deadline()) -> None:
        self._stopping.set()
        self._thread.join(deadline.left(_PATIENCE_S))
        if self._thread.is_alive():
            return  # it waits for a broker that does not answer, and ends with the process
        self._client.disconnect()
        for _ in range(5):
            if self._client.loop(0.1) != 0:  # until the goodbye is out
                break

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            text = str(reason)
            if re.search("authori|password", text, re.IGNORECASE):
                text = "wrong user or password"
            self._tell(f"{self.description} refuses the connection: {text}")
            return
        client.publish(f"{self.topic}/status", b"online", 1, True)
        with self._changed:
            self._online = True
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if self._online:
                self._problem = f"{self.description} lost the connection; it is tried again"
            self._online = False
            self._changed.notify_all()

    def _tell(self, problem: str) -> None:
        with self._changed:
            self._problem, self._failed = problem, True
            self._changed.notify_all()


class MqttSink(FrameSink):
    """Publishes the ``frame_record`` of each frame as JSON. Arguments and errors are those of ``MqttPublisher``."""

    def __init__(self, uri: str, spec: ModelSpec) -> None:
        self._classes = spec.classes
        self._publisher = MqttPublisher(uri)
        self.description = f"MQTT messages to {self._publisher.description}"

    def write(self, result: Segmentation) -> None:
        """Publish the result. Raises SinkError."""
        self._publisher.publish(json.dumps(frame_record(result, self._classes)).encode(), self.deadline)

    def close(self) -> None:
        """Wait for what is on its way, within the run's deadline, and say goodbye."""
        self._publisher.close(self.deadline)


def _is_settled(message: Any) -> bool:
    """Whether the broker has a message, or the connection was lost with one of qos 0, which is not sent again."""
    try:
        return bool(message.is_published())
    except (RuntimeError, ValueError):
        return True


def _wait_for(message: Any, seconds: float) -> None:
    with suppress(RuntimeError, ValueError):  # as in _is_settled
        message.wait_for_publish(seconds)


class _Address:
    """The parts of a URI."""

    def __init__(self, scheme: str, host: str, port: int, topic: str) -> None:
        self.scheme, self.host, self.port, self.topic = scheme, host, port, topic
        self.user = self.password = ""
        self.qos = 1
        self.ca: str | None = None


def _parsed(uri: str) -> _Address:
    """Raises UsageError, without credentials."""
    from edgeseg.runtime.sinks.uri import SINKS  # which opens this

    try:
        parts = address_parts(uri, at_later=False)
    except UsageError as error:
        raise UsageError(f"an MQTT sink is {_FORM}: {error}") from None
    scheme, host, port = parts.scheme, parts.hostname, parts.port
    topic = unquote(parts.path[1:])
    if scheme not in _PORTS or not host or not topic or re.search("[#+\0]", topic) or len(topic.encode()) > 60_000:
        raise UsageError(f"an MQTT sink is {_FORM}; a topic has no # or +")
    values = checked_parameters(parts.query, SINKS[scheme].parameters, f"{scheme}://{host}/{topic}")
    address = _Address(scheme, host, port or _PORTS[scheme], topic)
    address.user, address.password = unquote(parts.username or ""), unquote(parts.password or "")
    address.qos, address.ca = int(values.get("qos", 1)), values.get("ca")
    return address
