from __future__ import annotations

import pytest

from edgeseg.runtime.credentials import has_credentials, redacted


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
