"""The tables of sources and sinks: what they say is what is opened, and a mistake ends the same way everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.credentials import redacted
from edgeseg.errors import SinkError, SourceError, UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.sinks.uri import SINKS, SinkContext, sink_from_uri, sinks_help
from edgeseg.runtime.sources.uri import PAGE_SOURCES, SOURCES, source_from_uri, source_path, sources_help
from edgeseg.runtime.state import RunState
from edgeseg.spec import ModelSpec
from edgeseg.uris import absolute_uri

EXAMPLES = {
    "v4l2": ("0", "/dev/video7", "v4l2:///dev/video0"),
    "csi": ("csi://0",),
    "rtsp": ("rtsp://u:p@10.0.0.1/live",),
    "rtsps": ("rtsps://10.0.0.1:322/live",),
    "http": ("http://10.0.0.1/a.mjpg",),
    "https": ("https://10.0.0.1/a.m3u8",),
    "gst": ("gst://videotestsrc",),
    "file": ("file:///a.mp4", "a.mp4", "images", "*.png"),
    "replay": ("replay:///kept",),
    "demo": ("demo://street?frames=3",),
}


def context(spec: ModelSpec) -> SinkContext:
    return SinkContext(spec, Painter(spec), RunState(ConfusionMatrix(len(spec.classes))))


@pytest.mark.parametrize("scheme", SOURCES)
def test_the_page_adds_what_the_row_says(scheme: str) -> None:
    for uri in EXAMPLES[scheme]:
        assert bool(re.fullmatch(PAGE_SOURCES, uri)) == bool(SOURCES[scheme].from_page), uri
        assert (source_path(uri) is not None) == SOURCES[scheme].is_path, uri


def test_sources_are_as_live_as_their_rows(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    uris = {**{scheme: uris[0] for scheme, uris in EXAMPLES.items()}, "file": str(tmp_path)}
    for scheme, uri in uris.items():
        if scheme != "replay" and SOURCES[scheme].is_live is not None:
            assert source_from_uri(uri).is_live == SOURCES[scheme].is_live, scheme


@pytest.mark.parametrize("scheme", [scheme for scheme, kind in SINKS.items() if kind.parameters])
def test_every_mistake_in_parameters_of_sinks_is_one_of_usage(scheme: str, spec: ModelSpec, tmp_path: Path) -> None:
    place = f"{scheme}://{tmp_path / 'a.json'}" if SINKS[scheme].is_path else f"{scheme}://127.0.0.1:1/topic"
    with pytest.raises(UsageError, match="has no parameter x; it has"):
        sink_from_uri(f"{place}?x=1", context(spec))
    for name, values in SINKS[scheme].parameters.items():
        if "|" in values:
            with pytest.raises(UsageError, match=f"{name} is .* or .*, got 'zip'"):
                sink_from_uri(f"{place}?{name}=zip", context(spec))
    assert not list(tmp_path.iterdir())


def test_every_mistake_in_parameters_of_sources_is_one_of_usage() -> None:
    for uri in ("replay:///a?x=1", "replay:///a?pace=2", "replay://", "demo://street?x=1", "demo://street?frames=x"):
        with pytest.raises(UsageError):
            source_from_uri(uri)


def test_what_is_in_no_table_is_refused_with_the_table(spec: ModelSpec) -> None:
    with pytest.raises(SourceError, match=re.escape(f"there are {sources_help()}")):
        source_from_uri("kafka://x")
    for uri in ("kafka://x", "://x"):
        with pytest.raises(SinkError, match=re.escape(f"there are {sinks_help()}")):
            sink_from_uri(uri, context(spec))


def test_only_addresses_hide_what_is_before_an_at() -> None:
    for scheme, kind in chain(SOURCES.items(), SINKS.items()):
        if scheme and kind.is_path:
            assert redacted(f"{scheme}://me:secret@there") == f"{scheme}://me:secret@there", scheme
    for scheme in ("rtsp", "rtsps", "http", "https", "mqtt", "mqtts"):
        assert "secret" not in redacted(f"{scheme}://me:secret@there")


def test_only_paths_are_made_absolute() -> None:
    here = Path.cwd()
    assert absolute_uri("replay://a?pace=1", SOURCES) == f"replay://{here}/a?pace=1"
    assert absolute_uri("coco://a?format=rle", SINKS) == f"coco://{here}/a?format=rle"
    assert absolute_uri("a.mp4", SINKS) == f"{here}/a.mp4"
    for uri in ("0", "csi://0", "rtsp://a/b", "gst://x", "demo://street"):
        assert absolute_uri(uri, SOURCES) == uri


def test_reading_the_tables_costs_no_heavy_import() -> None:
    code = "import sys\nfrom edgeseg.runtime.sinks import uri\nfrom edgeseg.runtime.sources import uri\n"
    code += "import edgeseg.runtime.frame, edgeseg.uris\n"
    code += "mine = {name for name in sys.modules if name.startswith('edgeseg.runtime')}\n"
    code += "assert not mine & {'edgeseg.runtime.sinks.video', 'edgeseg.runtime.sources.gstreamer'}, mine\n"
    subprocess.run([sys.executable, "-c", code], check=True)
