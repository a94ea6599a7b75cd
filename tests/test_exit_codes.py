"""The same mistake ends with the same code: 2 for what was typed wrong, whatever option or address it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from edgeseg.app.compile_config import CompileConfig
from edgeseg.app.config import RunConfig
from edgeseg.app.fields import Config, Field, config_with, fields_of
from edgeseg.app.run import inputs_of, plan_of
from edgeseg.app.shipped import SHIPPED
from edgeseg.app.train_config import TrainConfig
from edgeseg.errors import UsageError
from edgeseg.runtime.sinks.uri import SINKS, sink_from_uri
from edgeseg.runtime.sources import source_from_uri
from edgeseg.runtime.sources.uri import SOURCES
from edgeseg.spec import ModelSpec
from edgeseg.uris import UriKind
from tests.runtime.test_uris import context

KINDS: tuple[type[Config], ...] = (RunConfig, CompileConfig, TrainConfig)
FREE = {
    "sources": "any word may be a file's name; one that is not there ends with 1",
    "sinks": "any word may be a file's name",
    "token": "any word",
    "graph": "the bundle's own names; an engine knows which of them it runs",
}
"""Texts of ``run`` that no form tells right from wrong."""


def _wrong(field: Field) -> Iterator[Any]:
    """Values that no field of this type and these bounds takes."""
    about, number = field.about, field.kind in (int, float)
    if about.at_least is not None:
        yield field.kind(about.at_least - 1)
    if about.at_most is not None:
        yield field.kind(about.at_most + 1)
    if field.kind is float:
        yield from (float("nan"), float("inf"), -float("inf"), "1")
    if field.kind is int:
        yield from (1.5, True, "1")
    if field.kind is bool:
        yield from (1, "true")
    if not number and field.kind is not bool:
        yield from (3, "a\0b", "\ud800")
        if field.default != "":
            yield ""
    if about.is_path:
        yield "~/a"
    if about.choices:
        yield "no such thing"


WRONG = [(kind, field, value) for kind in KINDS for field in fields_of(kind) for value in _wrong(field)]


def test_many_wrong_values_are_tried() -> None:
    assert len(WRONG) > 400 and {kind for kind, _, _ in WRONG} == set(KINDS)
    assert {field.name for field in fields_of(RunConfig)} <= {field.name for _, field, _ in WRONG}


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_takes_a_wrong_value(kind: type[Config]) -> None:
    needed = {field.name: ("x",) if field.is_many else "x" for field in fields_of(kind) if field.default is MISSING}
    for _, field, value in (row for row in WRONG if row[0] is kind):
        given = (value,) if field.is_many else value
        with pytest.raises(UsageError, match=f"^`{field.name}` "):
            config_with(kind, {**needed, field.name: given})


@pytest.mark.parametrize(
    "name", [field.name for field in fields_of(RunConfig) if field.kind is str and field.name not in FREE]
)
def test_a_word_that_no_field_knows_ends_with_2(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = next(one for one in fields_of(RunConfig) if one.name == name)
    word: Any = ("no such thing",) if field.is_many else "no such thing"
    with pytest.raises(UsageError):
        config = config_with(RunConfig, {"model": SHIPPED, "sources": ["rtsp://10.0.0.1/a"], name: word})
        plan_of(config, inputs_of(config))


def _mistyped(scheme: str, kind: UriKind) -> Iterator[str]:
    """Addresses of a scheme in which something is wrong that can be seen without looking at files or machines."""
    place = "there" if kind.is_path else "10.0.0.1/a"
    if kind.is_path:
        yield f"{scheme}://"
        yield f"{scheme}:///"
    if kind.parameters:
        yield f"{scheme}://{place}?nothing=1"
        yield f"{scheme}://?nothing=1"
    for name, values in kind.parameters.items():
        if not values[:1].isupper():
            yield from (f"{scheme}://{place}?{name}={wrong}" for wrong in ("", "no-such", "-1", "nan"))
    yield from {
        "http": ("http://", "http:///a", "http://10.0.0.1:99999/a", "http://[::1/a", "http://me:p/w@h"),
        "https": ("https://", "https://10.0.0.1:x/a"),
        "rtsp": ("rtsp://", "rtsp:///a", "rtsp://10.0.0.1:99999/a", "rtsp://[::1/a"),
        "mqtt": ("mqtt://", "mqtt://h", "mqtt://h:x/t", "mqtt://[::1/t"),
        "demo": ("demo://", "demo://lane", "demo://street?fps=0", "demo://street?size=9", "demo://[::1"),
        "v4l2": ("v4l2://", "v4l2://nonsense", "v4l2:///dev/null"),
        "csi": ("csi://x", "csi://-1", "csi://0?zzz=1"),
        "gst": ("gst://",),
        "null": ("null://there",),
        "display": ("display://there",),
    }.get(scheme, ())


MISTYPED = [(scheme, uri) for scheme, kind in SOURCES.items() if scheme for uri in _mistyped(scheme, kind)]
MISTYPED_SINKS = [(scheme, uri) for scheme, kind in SINKS.items() if scheme for uri in _mistyped(scheme, kind)]


def test_every_scheme_has_something_that_can_be_mistyped() -> None:
    tried = {scheme for scheme, _ in chain(MISTYPED, MISTYPED_SINKS)}
    assert set(SOURCES) | set(SINKS) == tried | {"", "rtsps", "mqtts"}, "those are as rtsp and mqtt"


@pytest.mark.parametrize("uri", [uri for _, uri in MISTYPED])
def test_a_mistyped_source_ends_with_2(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        source_from_uri(uri)


@pytest.mark.parametrize("uri", [uri for _, uri in MISTYPED_SINKS])
def test_a_mistyped_sink_ends_with_2_and_leaves_nothing(
    uri: str, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        sink_from_uri(uri, context(spec))
    assert list(tmp_path.iterdir()) == []
