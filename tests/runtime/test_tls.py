"""mqtts:// and https:// against real servers: the right certificate works, and nothing else does."""

from __future__ import annotations

import http.server
import json
import ssl
import time
from pathlib import Path
from typing import Iterator

import pytest

from edgeseg.errors import SinkError
from edgeseg.runtime.alarms.actions import ActionContext, action_from_text
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.sinks.mqtt import MqttPublisher
from edgeseg.spec import ModelSpec
from tests.runtime.brokers import Broker, Listener, certificates_in
from tests.servers import Quiet, serving

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def broker(tmp_path: Path, certificates: Path) -> Iterator[Broker]:
    started = Broker(tmp_path, certificates=certificates)
    yield started
    started.kill()


def test_messages_go_through_tls(broker: Broker, certificates: Path) -> None:
    listener = Listener(broker.port, "yard/frames", ca=certificates / "ca.pem")
    publisher = MqttPublisher(f"mqtts://localhost:{broker.port}/yard/frames?ca={certificates}/ca.pem")
    publisher.publish(b"hello")
    listener.wait_for(lambda messages: any(payload == b"hello" for _, payload, _ in messages))
    publisher.close()
    listener.close()


@pytest.mark.parametrize(
    ("host", "ca", "words"),
    [
        ("localhost", "", "self-signed certificate|unable to get local issuer"),
        ("127.0.0.1", "?ca={}/ca.pem", "IP address mismatch"),
    ],
    ids=["an authority nobody knows", "another host's certificate"],
)
def test_a_broker_that_cannot_prove_itself_is_refused(
    broker: Broker, certificates: Path, host: str, ca: str, words: str
) -> None:
    with pytest.raises(SinkError, match=words):
        MqttPublisher(f"mqtts://{host}:{broker.port}/yard/frames{ca.format(certificates)}")


def test_without_tls_nothing_reaches_a_broker_that_wants_it(broker: Broker) -> None:
    with pytest.raises(SinkError):
        MqttPublisher(f"mqtt://127.0.0.1:{broker.port}/yard/frames")


def test_a_webhook_by_https(spec: ModelSpec, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, object]] = []
    told: list[str] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_port}/alarm"
    record = {"alarm": "crowd", "on": True, "source": "", "frame": 1, "values": {}}
    with serving(server):
        stranger = action_from_text(address, ActionContext(Painter(spec), lambda *event: told.append(event[2])))
        stranger.act(record, None)
        with pytest.raises(SinkError, match="1 records could not be sent"):
            stranger.close(Deadline())
        assert not heard and any("certificate" in text for text in told), told
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
        known = action_from_text(address, ActionContext(Painter(spec), lambda *event: told.append(event[2])))
        known.act(record, None)
        until = time.monotonic() + 20  # close would give it three seconds only
        while not known.done and time.monotonic() < until:
            time.sleep(0.05)
        known.close(Deadline())
        assert heard == [record] and known.done == 1
