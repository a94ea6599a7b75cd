from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")

from edgeseg.errors import SinkError, UsageError
from edgeseg.runtime.sinks.jsonl import frame_record
from edgeseg.runtime.sinks.mqtt import MqttSink
from edgeseg.spec import ModelSpec
from tests.runtime.brokers import Broker, Listener, free_port
from tests.runtime.results import blocks, segmentation

pytestmark = pytest.mark.system


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path)
    yield started
    started.kill()


def written_before(sink: MqttSink, deadline_s: float) -> int:
    """Write until the broker takes a result; how many it took to."""
    until, index = time.monotonic() + deadline_s, 100
    while True:
        try:
            sink.write(segmentation(blocks(0), index))
            return index
        except SinkError:
            assert time.monotonic() < until, "it did not connect again"
            index += 1
            threading.Event().wait(0.05)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_result_arrives_and_the_status_is_kept(spec: ModelSpec, broker: Broker, qos: int) -> None:
    listener = Listener(broker.port, "yard/cam/#")
    results = [segmentation(blocks(seed), seed, "door") for seed in range(200)]
    with MqttSink(f"mqtt://127.0.0.1:{broker.port}/yard/cam?qos={qos}", spec) as sink:
        for result in results:
            sink.write(result)
    listener.wait_for(lambda messages: messages[-1:] == [("yard/cam/status", b"offline", False)])
    listener.close()
    received = [json.loads(payload) for topic, payload, _ in listener.messages if topic == "yard/cam"]
    assert received == [frame_record(result, spec.classes) for result in results]
    late = Listener(broker.port, "yard/cam/status")
    late.wait_for(lambda messages: messages == [("yard/cam/status", b"offline", True)])
    late.close()


def test_a_broker_that_dies_and_comes_back(spec: ModelSpec, broker: Broker) -> None:
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/cam", spec)
    sink.write(segmentation(blocks(0), 0))
    broker.kill()
    lost = 0
    started = time.monotonic()
    while not lost:
        try:
            sink.write(segmentation(blocks(0), 1))
        except SinkError as error:
            lost += 1
            assert "lost the connection" in str(error) or "cannot be reached" in str(error)
    assert time.monotonic() - started < 5
    broker.start()
    listener = Listener(broker.port, "cam/#")
    index = written_before(sink, 20)
    listener.wait_for(lambda messages: any(f'"frame": {index},'.encode() in payload for _, payload, _ in messages))
    assert ("cam/status", b"online", True) in listener.messages or ("cam/status", b"online", False) in listener.messages
    sink.close()
    sink.close()
    listener.close()


def test_a_broker_that_hangs_fills_nothing_and_stops_nobody(spec: ModelSpec, broker: Broker) -> None:
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/cam", spec)
    broker.process.send_signal(signal.SIGSTOP)
    started, written = time.monotonic(), 0
    try:
        with pytest.raises(SinkError, match="messages wait, the broker takes none"):
            for _ in range(1000):
                sink.write(segmentation(blocks(0), written))
                written += 1
    finally:
        broker.process.send_signal(signal.SIGCONT)
    assert written == 64 and time.monotonic() - started < 10
    written_before(sink, 20)
    sink.close()


def test_passwords_are_checked_and_never_told(spec: ModelSpec, tmp_path: Path) -> None:
    broker = Broker(tmp_path, password="s3cr@t/")
    try:
        address = f"127.0.0.1:{broker.port}/cam"
        for account in ("cam:wr0ng@", "nobody:wr0ng@", ""):
            with pytest.raises(SinkError, match="refuses the connection: wrong user or password") as caught:
                MqttSink(f"mqtt://{account}{address}", spec)
            assert "wr0ng" not in str(caught.value)
        with MqttSink(f"mqtt://cam:s3cr%40t%2F@{address}", spec) as sink:
            sink.write(segmentation(blocks(0)))
            assert sink.description == f"MQTT messages to mqtt://127.0.0.1:{broker.port}/cam"
        assert "s3cr" not in sink.description
    finally:
        broker.kill()


def test_no_broker_is_one_clear_error(spec: ModelSpec) -> None:
    started = time.monotonic()
    with pytest.raises(SinkError, match="cannot be reached: Connection refused"):
        MqttSink(f"mqtt://u:secret@127.0.0.1:{free_port()}/cam", spec)
    assert time.monotonic() - started < 3
    with socket.socket() as silent:  # it accepts and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SinkError, match="does not answer"):
            MqttSink(f"mqtt://u:secret@127.0.0.1:{silent.getsockname()[1]}/cam", spec)


@pytest.mark.parametrize(
    "uri",
    [
        "mqtt://u:secret@host",
        "mqtt://u:secret@host/",
        "mqtt://u:secret@host:99999/a",
        "mqtt://u:secret@host:x/a",
        "mqtt://u:secret@host/a%23",
        "mqtt://u:secret@host/a/+/b",
        "mqtt://u:secret@/a",
        "mqtt://u:secret@host/a?qos=3",
        "mqtt://u:secret@host/a?ca=x",
        "mqtt://u:secret@host/a?token=x",
    ],
)
def test_addresses_that_make_no_sense_are_refused(spec: ModelSpec, uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        MqttSink(uri, spec)
    assert "secret" not in str(caught.value)


def test_a_list_of_authorities_that_is_not_there_is_named(spec: ModelSpec) -> None:
    with pytest.raises(SinkError, match="/nowhere/ca.pem"):
        MqttSink("mqtts://u:secret@host/a?ca=/nowhere/ca.pem", spec)
