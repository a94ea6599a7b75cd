from __future__ import annotations

import pytest

from edgeseg.credentials import has_credentials, redacted
from edgeseg.errors import SourceError, UsageError
from edgeseg.runtime.gst.pipelines import pipeline_from_uri
from edgeseg.runtime.sources.uri import _refuse_unreachable


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://anna:s3cret@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("rtsp://anna:p@ss@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("https://host/live.m3u8?access_token=abc&size=2", "https://host/live.m3u8?access_token=***&size=2"),
        ("mqtt://anna@broker/alarms", "mqtt://***@broker/alarms"),
        ('gst://rtspsrc location=rtsp://h/ user-id=anna user-pw="two words" !', None),
        ("gst://rtspsrc location=rtsp://h/ user-pw='two words' !", None),
        ("gst://rtspsrc location=rtsp://h/ user-pw=two\\ words !", None),
        ('gst://rtspsrc location=rtsp://h/ user-pw = "a \\" two words" !', None),
        ('gst://rtspsrc location=rtsp://h/ user-pw="two words', None),
        ('gst://rtspsrc location="rtsp://anna:two words@h/x" ! decodebin', None),
        ('gst://souphttpsrc extra-headers="a,Authorization=(string)\\"Bearer words\\", b=c" !', None),
        ('gst://souphttpsrc extra-headers="a,X-Api-Key=\\"two words\\";" !', None),
        ("rtsp://anna:two words@h/x", "rtsp://***@h/x"),
        ("rtsp://anna:p/w?o#r@d@h/x", "rtsp://***@h/x"),
        ("http://h/cgi?loginuse=anna&loginpas=words", "http://h/cgi?loginuse=anna&loginpas=***"),
        ("http://h/ Authorization: Basic d29yZHM=", "http://h/ Authorization: ***"),
        ("rtsp://h:554/a@b", "rtsp://h:554/a@b"),
        ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
        ("rtsp://h: auth: the camera refuses; ask c@d.e", "rtsp://h: auth: the camera refuses; ask c@d.e"),
        ("rtsp://h/x: ended: a key: b", "rtsp://h/x: ended: a key: b"),
        ("rtsp://[::1", "rtsp://[::1"),
        ("rtsp://10.0.0.7/main?page=1&channel=2", "rtsp://10.0.0.7/main?page=1&channel=2"),
        ("/home/me/a@b.mp4", "/home/me/a@b.mp4"),
        ("gst://videotestsrc num-buffers=10", "gst://videotestsrc num-buffers=10"),
    ],
)
def test_one_rule_hides_and_finds_credentials(address: str, shown: str | None) -> None:
    if shown is None:
        assert "words" not in redacted(address) and has_credentials(address)
    else:
        assert redacted(address) == shown and has_credentials(address) == (shown != address)


@pytest.mark.parametrize("sign", "/#?")
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_a_password_that_breaks_an_address_is_not_told_as_its_port(scheme: str, sign: str) -> None:
    with pytest.raises(UsageError, match="in a password / is written %2F") as raised:
        pipeline_from_uri(f"{scheme}://anna:s3cr{sign}et@10.0.0.7/main")
    assert "s3cr" not in str(raised.value) and raised.value.__cause__ is None


@pytest.mark.parametrize("uri", ["http://anna:s3cr/et@10.0.0.7/a.mjpg", "https://h:s3cr/x"])
def test_nor_is_that_of_a_web_address(uri: str) -> None:
    with pytest.raises(SourceError, match="that is no address") as raised:
        _refuse_unreachable(uri)
    assert "s3cr" not in str(raised.value).replace(uri, "")
