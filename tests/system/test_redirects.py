"""Where a server sends a source to: no file is opened for it, and no other place gets the password."""

from __future__ import annotations

import socketserver
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

import pytest

from edgeseg.errors import SourceError
from edgeseg.runtime.sources import EndOfStream, FrameSource, source_from_uri
from tests import HANG_S
from tests.servers import serving

pytestmark = pytest.mark.system

Answer = Callable[[str, str], "tuple[str, str]"]
"""Method and address of a request -> status line, and headers with what follows them."""

_ALLOWED = ("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n")
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:{0}\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=control:{0}\r\n"
)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording on this machine that nobody in the network may see."""
    path = tmp_path_factory.mktemp("private") / "private.ts"
    command = "gst-launch-1.0 -q videotestsrc num-buffers=60 ! video/x-raw,width=320,height=240,framerate=30/1"
    command += f" ! x264enc tune=zerolatency key-int-max=15 ! mpegtsmux ! filesink location={path}"
    subprocess.run(command.split(), check=True, timeout=HANG_S)
    return path


@contextmanager
def served(host: str, answer: Answer, protocol: str) -> Iterator[tuple[int, list[str]]]:
    """A server of RTSP or HTTP at a free port; which one that is, and the heads of the requests that it got."""
    heads: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while True:
                lines = []
                for line in iter(self.rfile.readline, b""):
                    if line == b"\r\n":
                        break
                    lines.append(line.decode().strip())
                if not lines:
                    return
                heads.append("\n".join(lines))
                method, address, _ = lines[0].split()
                status, rest = answer(method, address)
                number = "".join(f"{line}\r\n" for line in lines if line.lower().startswith("cseq"))
                try:
                    self.wfile.write(f"{protocol} {status}\r\n{number}{rest}".encode())
                except OSError:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with serving(Server((host, 0), Handler)) as port:
        yield port, heads


def _end_of(source: FrameSource) -> SourceError:
    """The error that a source ends with, which delivers nothing."""
    with pytest.raises((SourceError, EndOfStream)) as ended, source:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert source.read() is None
    assert isinstance(ended.value, SourceError)
    return ended.value


@pytest.mark.parametrize(
    "address", ["file://{}", "FILE://{}", "{}", "pushfile://{}", "rtsp-sdp://file://{}", "gst://filesrc location={}"]
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_of_http_opens_no_file(private: Path, status: str, address: str) -> None:
    rest = f"Location: {address.format(private)}\r\nContent-Length: 0\r\n\r\n"
    with served("127.0.0.1", lambda method, _: (status, rest), "HTTP/1.1") as (port, heads):
        for name in ("live.mjpg", "live.m3u8", "a.mp4"):
            _end_of(source_from_uri(f"http://127.0.0.1:{port}/{name}", capture="gstreamer"))
    assert heads


@pytest.mark.parametrize("address", ["file://{}", "{}", "pushfile://{}", "http://127.0.0.1:1{}", "rtsp:{}"])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other"])
def test_a_redirect_of_rtsp_opens_no_file_and_has_an_end(private: Path, status: str, address: str) -> None:
    def answer(method: str, _: str) -> tuple[str, str]:
        return _ALLOWED if method == "OPTIONS" else (status, f"Location: {address.format(private)}\r\n\r\n")

    with served("127.0.0.1", answer, "RTSP/1.0") as (port, heads):
        _end_of(source_from_uri(f"rtsp://127.0.0.1:{port}/main"))
        assert 1 < len(heads) < 5000


def test_a_redirect_of_rtsp_to_itself_has_an_end() -> None:
    def answer(method: str, address: str) -> tuple[str, str]:
        return _ALLOWED if method == "OPTIONS" else ("302 Found", f"Location: {address}\r\n\r\n")

    with served("127.0.0.1", answer, "RTSP/1.0") as (port, heads):
        assert "redirects in circles" in str(_end_of(source_from_uri(f"rtsp://127.0.0.1:{port}/main")))
        assert len(heads) < 5000


@pytest.mark.parametrize("kind", ["redirect", "control"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_password_of_a_camera_goes_to_no_other_place(host: str, kind: str) -> None:
    def elsewhere(method: str, _: str) -> tuple[str, str]:
        return _ALLOWED if method == "OPTIONS" else ("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n\r\n')

    with served(host, elsewhere, "RTSP/1.0") as (other, asked):
        address = f"rtsp://{host}:{other}/landing"

        def home(method: str, _: str) -> tuple[str, str]:
            if method == "OPTIONS":
                return _ALLOWED
            if kind == "redirect":
                return "302 Found", f"Location: {address}\r\n\r\n"
            if method != "DESCRIBE":
                return "454 Session Not Found", "\r\n"
            sdp = _SDP.format(address)
            return "200 OK", f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"

        with served("127.0.0.1", home, "RTSP/1.0") as (port, _):
            said = str(_end_of(source_from_uri(f"rtsp://anna:s3cret@127.0.0.1:{port}/main")))
    assert not [head for head in asked if "uthorization" in head] and "s3cret" not in said
    if kind == "redirect":
        assert len(asked) >= 2 and f"redirected to {host}:{other}, which gets no password" in said


def test_a_camera_that_redirects_to_itself_gets_the_password() -> None:
    def answer(method: str, address: str) -> tuple[str, str]:
        if method == "OPTIONS":
            return _ALLOWED
        if address.endswith("/main"):
            return "302 Found", f"Location: {address.replace('main', 'moved')}\r\n\r\n"
        return "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n\r\n'

    with served("127.0.0.1", answer, "RTSP/1.0") as (port, heads):
        assert _end_of(source_from_uri(f"rtsp://anna:s3cret@127.0.0.1:{port}/main")).kind == "auth"
        assert [head for head in heads if "Authorization: Basic YW5uYTpzM2NyZXQ=" in head]


def test_the_password_of_an_http_camera_goes_to_no_other_place() -> None:
    basic = 'WWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
    with served("127.0.0.2", lambda *_: ("401 Unauthorized", basic), "HTTP/1.1") as (other, asked):
        moved = f"Location: http://127.0.0.2:{other}/landing\r\nContent-Length: 0\r\n\r\n"

        def home(method: str, _: str) -> tuple[str, str]:
            return ("302 Found", moved) if "uthorization" in got[-1] else ("401 Unauthorized", basic)

        with served("127.0.0.1", home, "HTTP/1.1") as (port, got):
            said = str(_end_of(source_from_uri(f"http://anna:s3cret@127.0.0.1:{port}/live.mjpg")))
    assert [head for head in got if "Authorization: Basic YW5uYTpzM2NyZXQ=" in head]
    assert asked and "s3cret" not in said and not [head for head in asked if "uthorization" in head]
