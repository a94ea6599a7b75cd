"""The tables of sources and sinks: what they say is what is opened, and a mistake ends the same way everywhere."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeseg.credentials import redacted
from edgeseg.errors import ForeignFileError, SinkError, SourceError, UsageError
from edgeseg.metrics import ConfusionMatrix
from edgeseg.runtime.drawing.overlay import Painter
from edgeseg.runtime.gst.pipelines import CaptureOptions
from edgeseg.runtime.sinks.folder import FolderSink
from edgeseg.runtime.sinks.uri import SINKS, SinkContext, sink_from_uri, sinks_help
from edgeseg.runtime.sources.gstreamer import GstSource
from edgeseg.runtime.sources.uri import PAGE_SOURCES, SOURCES, source_from_uri, source_path, sources_help
from edgeseg.runtime.state import RunState, SourceState
from edgeseg.spec import ModelSpec
from edgeseg.uris import absolute_uri, checked_parameters
from tests.runtime.results import blocks, segmentation

WRITTEN = {
    "v4l2": ("0", "/dev/video7", "v4l2:///dev/video0"),
    "csi": ("csi://0",),
    "rtsp": ("rtsp://u:p@10.0.0.1/live",),
    "rtsps": ("rtsps://10.0.0.1:322/live",),
    "http": ("http://10.0.0.1/a.mjpg",),
    "https": ("https://10.0.0.1/a.m3u8",),
    "gst": ("gst://videotestsrc",),
    "file": ("file:///a.mp4", "a.mp4", "images", "*.png"),
    "demo": ("demo://street?frames=3",),
}
"""How people write sources whose place is no path, or that have more than one form."""
EXAMPLES = {scheme: WRITTEN.get(scheme, (f"{scheme}:///kept",)) for scheme in SOURCES}


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
        if SOURCES[scheme].is_live is None:
            continue
        try:
            source = source_from_uri(uri)
        except SourceError:  # as of a recording, which is looked at before it is opened
            assert SOURCES[scheme].is_path, scheme
        else:
            assert source.is_live == SOURCES[scheme].is_live, scheme


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


SIZE = CaptureOptions(size_hw=(64, 96))


@pytest.mark.parametrize("scheme", SOURCES)
def test_a_size_can_be_asked_where_the_row_says_so(scheme: str, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    for uri in (str(video),) if scheme == "file" else EXAMPLES[scheme]:
        if not SOURCES[scheme].takes_options:
            with pytest.raises(UsageError, match=f"are for cameras, streams and videos, not for {scheme}://"):
                source_from_uri(uri, SIZE, capture="gstreamer")
        else:
            assert source_from_uri(uri, SIZE, capture="gstreamer")


def test_a_size_is_not_asked_of_images_and_not_of_opencv(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="are for cameras, streams and videos, not for images"):
        source_from_uri(str(tmp_path / "a.png"), SIZE)
    with pytest.raises(UsageError, match="need GStreamer; see edgeseg doctor"):
        source_from_uri("0", SIZE, capture="opencv")
    for uri in ("csi://0", "rtsp://10.0.0.1/a"):
        with pytest.raises(UsageError, match=f"^{uri.partition(':')[0]}:// is read through GStreamer only"):
            source_from_uri(uri, capture="opencv")


def test_capture_is_one_of_its_ways() -> None:
    for capture, software in (("gstreamer", False), ("software", True)):
        source = source_from_uri("rtsp://10.0.0.1/a", capture=capture)
        assert isinstance(source, GstSource) and source.pipeline.software == software
        assert not source.mend("timeout"), "nobody mends what nobody offered to mend"
    with pytest.raises(UsageError, match="`capture` is one of auto, gstreamer, software, opencv, got 'v4l'"):
        source_from_uri("0", capture="v4l")


def test_a_name_that_looks_like_an_address_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("odd:", "demo:"):
        Path(folder).mkdir()
    cv2.imwrite("odd:/a.png", np.zeros((8, 8, 3), np.uint8))
    Path("demo:/street").mkdir()
    assert source_from_uri("odd://a.png").description == "image odd:/a.png"
    assert source_path("odd://a.png") == Path("odd://a.png") and source_path("even://a.png") is None
    assert source_from_uri("demo://street").is_live, "what is in the table goes first"


def test_the_path_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "a b.png").touch()
    assert source_path(f"file://{tmp_path}/a%20b.png") == tmp_path / "a b.png"
    assert source_path("replay:///kept%20?pace=1") == Path("/kept%20")
    assert source_path("a?b.mp4") == Path("a?b.mp4")


def test_what_a_name_without_a_scheme_is_not(tmp_path: Path) -> None:
    for name, remedy in (("a.gif", "; take it apart first: ffmpeg -i a.gif a-%04d.png"), ("a.md", " list of images")):
        (tmp_path / name).touch()
        with pytest.raises(SourceError, match="neither an image nor a video") as refused:
            source_from_uri(str(tmp_path / name))
        assert str(refused.value).endswith(remedy)
    with pytest.raises(SourceError) as refused:
        source_from_uri("me:secret@10.0.0.7/main")
    assert str(refused.value).startswith("***@10.0.0.7/main is no file") and "rtsp://USER" in str(refused.value)
    with pytest.raises(SourceError) as refused:
        source_from_uri("missing.mp4")
    assert str(refused.value).startswith("missing.mp4 is no file") and "USER" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("http://10.0.0.1/a", ("10.0.0.1", 80)),
        ("https://10.0.0.1/a", ("10.0.0.1", 443)),
        ("http://me:secret@cam:8080/a", ("cam", 8080)),
        ("https://[fe80::1]:81/a", ("fe80::1", 81)),
    ],
)
@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), socket.timeout(), UnicodeError()])
def test_an_address_is_tried_before_a_pipeline_starts(
    uri: str, place: tuple[str, int], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        tried.append(address)
        raise type(error)(*error.args, f"after {timeout:g} s")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(SourceError) as refused:
        source_from_uri(uri, capture="gstreamer").open()
    assert tried == [place] and "secret" not in str(refused.value)
    kinds = {socket.timeout: ("timeout", "no answer in 5 s"), UnicodeError: ("not found", "that is no host name")}
    kind, said = kinds.get(type(error), ("unreachable", "after 5 s"))
    assert refused.value.kind == kind and f": {kind}: " in str(refused.value) and said in str(refused.value)


@pytest.mark.parametrize("scheme", ["", "jsonl", "csv", "coco", "record"])
def test_a_sink_of_a_path_writes_there_and_nowhere_else(scheme: str, spec: ModelSpec, tmp_path: Path) -> None:
    place, row = tmp_path / "kept", SINKS[scheme]
    with sink_from_uri(f"{scheme}://{place}" if scheme else str(place), context(spec)) as sink:
        sink.write(segmentation(blocks(0)))
    assert row.is_path and place.exists() and set(tmp_path.iterdir()) <= set(row.files(place))


@pytest.mark.parametrize("scheme", ["null", "display"])
def test_a_sink_that_takes_nothing_says_what_it_got(scheme: str, spec: ModelSpec) -> None:
    with pytest.raises(UsageError, match=f"^{scheme}:// takes nothing behind it, got {scheme}://a$"):
        sink_from_uri(f"{scheme}://a", context(spec))


def test_a_folder_is_what_is_one_or_has_no_suffix(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    for name in ("a.mp4", "a"):
        assert isinstance(sink_from_uri(str(tmp_path / name), context(spec)), FolderSink)
    with pytest.raises(SinkError, match=r"no sink for \.txt files; there are \.mp4, "):
        sink_from_uri(str(tmp_path / "a.txt"), context(spec))
    with pytest.raises(UsageError, match="`sinks` is empty"):
        sink_from_uri(" ", context(spec))


def test_unless_it_is_said_a_run_has_one_source_and_replaces_nothing(spec: ModelSpec, tmp_path: Path) -> None:
    mine = tmp_path / "a.jsonl"
    mine.write_text("mine\n")
    with pytest.raises(ForeignFileError):
        sink_from_uri(f"jsonl://{mine}", context(spec))
    assert sink_from_uri("rtsp://127.0.0.1:0/a", context(spec))
    with pytest.raises(UsageError, match="shows one source"):
        sink_from_uri("rtsp://127.0.0.1:0/a", replace(context(spec), by_source=True))


def test_a_video_has_the_rate_of_its_source_and_a_camera_has_none(spec: ModelSpec) -> None:
    run = context(spec)
    assert run.rate("0") == 0
    run.state.sources["0"] = SourceState("0", "a video", is_live=False, announced_fps=25)
    assert run.rate("0") == 25 and run.rate("of a replay") == 25
    run.state.sources["1"] = SourceState("1", "images", is_live=False)
    run.state.sources["2"] = SourceState("2", "a camera", is_live=True, announced_fps=15)
    assert [run.rate(name) for name in ("0", "1", "2", "of a replay")] == [25, 30, 0, 0]


def test_a_value_is_any_where_the_table_names_one_and_else_one_of_its_words() -> None:
    known = {"source": "Name", "pace": "0|1"}
    assert checked_parameters("source=a|b&pace=1", known, "x://") == {"source": "a|b", "pace": "1"}
    for query, message in (
        ("pace=", "x://: pace is 0 or 1, got ''"),
        (f"pace={'2' * 50}", f"x://: pace is 0 or 1, got '{'2' * 40}'"),
        (f"{'y' * 50}=1", f"x:// has no parameter {'y' * 40}; it has source, pace"),
    ):
        with pytest.raises(UsageError) as refused:
            checked_parameters(query, known, "x://")
        assert str(refused.value) == message
    with pytest.raises(UsageError, match="no parameter a; it has none"):
        checked_parameters("a=1", {}, "x://")


def test_what_is_in_no_table_is_refused_with_the_table(spec: ModelSpec) -> None:
    with pytest.raises(SourceError, match=re.escape(f"there are {sources_help()}")):
        source_from_uri("kafka://x")
    for uri in ("kafka://x", "://x"):
        with pytest.raises(SinkError, match=re.escape(f"there are {sinks_help()}")):
            sink_from_uri(uri, context(spec))


def test_only_addresses_hide_what_is_before_an_at() -> None:
    for scheme, kind in chain(SOURCES.items(), SINKS.items()):
        if scheme and kind.is_path:
            shown = redacted(f"{scheme}://me:secret@there")
            assert shown == f"{scheme}://me:secret@there", f"name {scheme} in _PATHS of edgeseg/credentials.py"
    for scheme in ("rtsp", "rtsps", "http", "https", "mqtt", "mqtts"):
        assert "secret" not in redacted(f"{scheme}://me:secret@there")


def test_only_paths_are_made_absolute() -> None:
    here = Path.cwd()
    assert absolute_uri("replay://a?pace=1", SOURCES) == f"replay://{here}/a?pace=1"
    assert absolute_uri("coco://a?format=rle", SINKS) == f"coco://{here}/a?format=rle"
    assert absolute_uri("a.mp4", SINKS) == f"{here}/a.mp4"
    assert absolute_uri("odd://a", SOURCES) == "odd://a"
    for uri in ("0", "csi://0", "rtsp://a/b", "gst://x", "demo://street"):
        assert absolute_uri(uri, SOURCES) == uri


def test_reading_the_tables_costs_no_heavy_import() -> None:
    code = "import sys\nfrom edgeseg.runtime.sinks import uri\nfrom edgeseg.runtime.sources import uri\n"
    code += "import edgeseg.runtime.frame, edgeseg.uris\n"
    code += "mine = {name for name in sys.modules if name.startswith('edgeseg.runtime')}\n"
    code += "assert not mine & {'edgeseg.runtime.sinks.video', 'edgeseg.runtime.sources.gstreamer'}, mine\n"
    subprocess.run([sys.executable, "-c", code], check=True)
