from __future__ import annotations

from typing import Callable
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeseg.credentials import address_parts, has_credentials, redacted, without_secrets_of
from edgeseg.errors import EdgesegError, UsageError
from edgeseg.runtime.alarms.actions import ActionContext, action_from_text
from edgeseg.runtime.deadline import Deadline
from edgeseg.runtime.sinks.rtsp import RtspSink
from edgeseg.runtime.sources import source_from_uri
from edgeseg.runtime.sources.gstreamer import GstSource


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://anna:s3cret@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("rtsp://anna:p@ss@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("https://host/live.m3u8?access_token=abc&size=2", "https://host/live.m3u8?access_token=***&size=2"),
        ("rtsp://u:5 6@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("rtsp://10.0.0.7:554/user=a&p@ss/x", "rtsp://10.0.0.7:554/***@ss/x"),
        ("http://[fe80::1]:80/a@b/c", "http://[fe80::1]:80/***@b/c"),
        ("http://localhost?to=a@b", "http://localhost?***@b"),
        ("http://10.0.0.7:words@h/x", "http://***@h/x"),
        ("http://10.0.0.7.words/1@h/x", "http://***@h/x"),
        ("http://words:12/34@h/x", "http://***@h/x"),
        ("mqtt://anna@broker/alarms", "mqtt://***@broker/alarms"),
        ('gst://rtspsrc location=rtsp://h/ user-id=anna user-pw="two words" !', None),
        ("gst://rtspsrc location=rtsp://h/ user-pw='two words' !", None),
        ("gst://rtspsrc location=rtsp://h/ user-pw=two\\ words !", None),
        ('gst://rtspsrc location=rtsp://h/ user-pw = "a \\" two words" !', None),
        ('gst://rtspsrc location=rtsp://h/ user-pw="two words', None),
        ('gst://rtspsrc location="rtsp://anna:two words@h/x" ! decodebin', None),
        ('gst://souphttpsrc extra-headers="a,Authorization=(string)\\"Bearer words\\", b=c" !', None),
        ('gst://souphttpsrc extra-headers="a,X-Api-Key=\\"two words\\";" !', None),
        ("http://h/cgi?loginuse=anna&loginpas=words", "http://h/cgi?loginuse=anna&loginpas=***"),
        ("http://h/ Authorization: Basic d29yZHM=", "http://h/ Authorization: ***"),
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


# What people type: two marks that must never be seen, with any sign before, between and behind them.
_SIGNS = st.text(st.sampled_from("/#?]@[: %&=!;,+~'\"\\$é0a"), max_size=6)
_PASSWORDS = st.builds(lambda a, b, c: f"{a}S3cr{b}Et99{c}", _SIGNS, _SIGNS, _SIGNS)
_MARKS = ("S3cr", "Et99")
_KEYS = st.sampled_from(["password", "pwd", "passphrase", "apikey", "api_key", "access_token", "auth[pw]", "X-Sig"])


def _unseen(text: str) -> bool:
    return not any(mark in text or quote(mark) in text for mark in _MARKS)


def _said(act: Callable[[], object]) -> str:
    """What an attempt tells: its error, or its outcome."""
    try:
        return str(act())
    except EdgesegError as error:
        return str(error)


@given(scheme=st.sampled_from(["rtsp", "rtsps", "http", "https", "mqtt", "ftp", "srt", "x"]), password=_PASSWORDS)
def test_no_sign_in_a_password_shows_it(scheme: str, password: str) -> None:
    address = f"{scheme}://admin:{password}@127.0.0.1:9/main?channel=1"
    assert redacted(address) == f"{scheme}://***@127.0.0.1:9/main?channel=1" and has_credentials(address)
    told = redacted(f"http://10.0.0.7/a is open, cannot open {address}: refused")
    assert _unseen(told) and redacted(told) == told
    assert _unseen(without_secrets_of(["run", f"--source={address}"], f"no such option --source={address}"))


@given(key=_KEYS, password=_PASSWORDS.map(lambda text: text.replace("&", "").replace("@", "")))
def test_no_sign_in_a_value_of_a_secret_key_shows_it(key: str, password: str) -> None:
    assert redacted(f"http://h/a.mjpg?size=2&{key}={password}&n=1") == f"http://h/a.mjpg?size=2&{key}=***&n=1"


@given(scheme=st.sampled_from(["rtsp", "rtsps", "http", "https"]), password=_PASSWORDS)
def test_a_source_tells_nothing_of_its_password(scheme: str, password: str) -> None:
    address = f"{scheme}://admin:{password}@127.0.0.1:1/main"

    def tried() -> str:
        source = source_from_uri(address, capture="gstreamer")
        assert isinstance(source, GstSource)
        return f"{source.description} {source.pipeline.shown()}"

    assert _unseen(_said(tried))
    assert _unseen(_said(lambda: source_from_uri(f"admin:{password}@127.0.0.1/main").description))


@given(scheme=st.sampled_from(["rtsp", "ftp", "mqtt"]), password=_PASSWORDS)
def test_a_sink_tells_nothing_of_its_password(scheme: str, password: str) -> None:
    address = f"{scheme}://admin:{password}@127.0.0.1:1/t"
    assume(scheme != "mqtt" or "%" not in password)  # else it may be right
    make = RtspSink if scheme == "rtsp" else address_parts
    assert _unseen(_said(lambda: make(address, None) if make is RtspSink else make(address).hostname))


@given(scheme=st.sampled_from(["http", "https"]), password=_PASSWORDS)
def test_a_webhook_tells_nothing_of_its_address(scheme: str, password: str) -> None:
    def described(url: str) -> str:
        action = action_from_text(url, ActionContext(None, lambda *line: None))
        action.close(Deadline())
        return action.description

    assert _unseen(_said(lambda: described(f"{scheme}://admin:{password}@127.0.0.1:1/hook")))
    assert _unseen(_said(lambda: described(f"{scheme}://127.0.0.1:1/hook/{password}?k={password}")))


@pytest.mark.parametrize("sign", ["/", "#", "?"])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_password_that_is_cut_is_refused_with_the_way_to_write_it(scheme: str, sign: str) -> None:
    for password in (f"S3cr{sign}Et99", f"12{sign}Et99"):  # the second looks like a port
        with pytest.raises(UsageError, match="%2F.*%3F.*%23") as refused:
            source_from_uri(f"{scheme}://admin:{password}@10.0.0.7/main", capture="gstreamer")
        assert _unseen(str(refused.value)) and "10.0.0.7" in str(refused.value)


@pytest.mark.parametrize("password", ["pa ss", "p@ss", "a:b", "100%", "é", "p%2Fs"])
def test_a_password_that_is_not_cut_arrives_as_it_was_typed(password: str) -> None:
    source = source_from_uri(f"rtsp://admin:{password}@10.0.0.7/main", capture="gstreamer")
    assert isinstance(source, GstSource)
    assert source.pipeline.properties["origin"]["user-pw"] == unquote(password)
    source = source_from_uri(f"http://admin:{password}@10.0.0.7/main", capture="gstreamer")
    assert isinstance(source, GstSource)
    assert unquote(urlsplit(source.pipeline.properties["origin"]["uri"]).password or "") == unquote(password)


@pytest.mark.parametrize("address", ["http://10.0.0.7:8080/@me/live.m3u8", "rtsp://cam/users/a@b", "http://h/?to=@me"])
def test_an_at_behind_the_host_is_no_fault(address: str) -> None:
    assert source_from_uri(address, capture="gstreamer")


def test_what_is_no_address_is_told_without_what_looked_like_its_port() -> None:
    for address, shown in (("rtsp://10.0.0.7:S3cr/", "rtsp://***"), ("rtsp://a:S3cr@h:Et99/", "rtsp://***@h:Et99/")):
        with pytest.raises(UsageError) as refused:
            address_parts(address)
        assert str(refused.value).startswith(f"{shown} is no address rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH, ")


@pytest.mark.parametrize(
    ("address", "later", "anywhere"),
    [
        ("mqtt://me:pw@broker/a@b", False, False),
        ("mqtt://me:pw@broker/a?b=@c", False, False),
        ("mqtt://me:pw@broker.local/a@b", True, True),
        ("mqtt://me:pw@10.0.0.1/a@b", True, True),
        ("mqtt://me:pw@broker/a", True, True),
        ("mqtt://broker/a@b", True, False),
        ("mqtt://broker:80/a@b", False, False),
        ("mqtt://localhost:80/a@b", True, False),
        ("mqtt://10.0.0.1:80/a@b", True, False),
        ("mqtt://[::1]:80/a@b", True, False),
        ("mqtt://broker:80/a", True, True),
        ("mqtt://me:pw@broker/a#b@c", False, False),
    ],
)
def test_an_at_that_may_end_a_cut_password(address: str, later: bool, anywhere: bool) -> None:
    """Behind what looks like a user and the beginning of a password, and where no topic has one, behind any host."""
    for at_later, is_right in ((True, later), (False, anywhere)):
        if is_right:
            assert address_parts(address, at_later=at_later).path.startswith("/a")
        else:
            with pytest.raises(UsageError, match=r"ends them before the @"):
                address_parts(address, at_later=at_later)
    assert address_parts("mqtt://broker/a@b")


@pytest.mark.parametrize("password", ["pw", "p'w", "p\\w"])
def test_words_are_hidden_as_they_are_and_as_python_quotes_them(password: str) -> None:
    word, quote_sign = f"--source=rtsp://me:{password}@h/x", '"' if "'" in password else "'"
    shown = "--source=rtsp://***@h/x"
    told = without_secrets_of(["run", word], f"no {word} in {word!r}.")
    assert told == f"no {shown} in {quote_sign}{shown}{quote_sign}."


def test_what_is_no_address_holds_no_credentials() -> None:
    assert not has_credentials("user-pw=words") and has_credentials("gst://x user-pw=words !")
