"""``edgeseg run``: frames in, masks and ms/frame out."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import typer
from typing_extensions import Annotated

from edgeseg.app.data import size_hw_from
from edgeseg.cli.arguments import (
    EngineName,
    EngineOption,
    FallbackOption,
    GraphOption,
    ProgramOption,
    RequireSignatureOption,
)
from edgeseg.cli.argus import ArgusDaemon
from edgeseg.cli.console import JsonFlag, print_json, say, say_aside
from edgeseg.cli.models import bundle_or_default, chosen_path
from edgeseg.cli.opening import on_jetson, opened_engine
from edgeseg.cli.run_view import live_view, say_event, say_summary, status_line
from edgeseg.cli.signals import interrupts
from edgeseg.errors import EdgesegError, SinkError, UsageError
from edgeseg.runtime.sinks.uri import sinks_help
from edgeseg.runtime.sources.uri import sources_help

if TYPE_CHECKING:
    from edgeseg.bundle import Bundle
    from edgeseg.runtime.alarms.roi import RoiSet
    from edgeseg.runtime.alarms.sink import AlarmSink
    from edgeseg.runtime.drawing.overlay import Painter
    from edgeseg.runtime.gst.pipelines import CaptureOptions
    from edgeseg.runtime.loop.pipeline import Run
    from edgeseg.runtime.monitoring.sink import FieldSink
    from edgeseg.runtime.policy import Policy
    from edgeseg.runtime.recording.comparison import ReplayComparison
    from edgeseg.runtime.sources import FrameSource
    from edgeseg.runtime.sources.uri import Stream
    from edgeseg.runtime.state import Event, RunState

_SOURCES = "Sources and how they are read"
_SINKS = "Sinks and pictures"
_PAGE = "Page, alarms, accuracy in the field"
_ENGINE = "Engine"
_NOTHING_KEPT = (
    "no result was kept, for no --sink was named: --sink out keeps masks and overlays in the folder out, "
    "--sink out.mp4 a video; --preview 127.0.0.1:8080 shows them on a page"
)


def run(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    camera: Annotated[
        Optional[int], typer.Option(help="Camera number N of /dev/videoN.", rich_help_panel=_SOURCES)
    ] = None,
    source: Annotated[
        Optional[List[str]],
        typer.Option(
            help=f"{sources_help()}. Several times: one batch.",
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    size: Annotated[
        Optional[str], typer.Option(help="WIDTHxHEIGHT asked of a camera or stream.", rich_help_panel=_SOURCES)
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.0, help="Frames per second asked of a camera.", rich_help_panel=_SOURCES)
    ] = 0.0,
    flip: Annotated[
        str,
        typer.Option(help="none, rotate-90, rotate-180, rotate-270, horizontal or vertical.", rich_help_panel=_SOURCES),
    ] = "none",
    pixel_format: Annotated[
        str,
        typer.Option("--format", help="Of a V4L2 camera: mjpeg, h264, yuyv, nv12, bgr.", rich_help_panel=_SOURCES),
    ] = "",
    capture: Annotated[
        str,
        typer.Option(
            help="What reads cameras and videos: auto, gstreamer, software (GStreamer without the hardware), opencv.",
            rich_help_panel=_SOURCES,
        ),
    ] = "auto",
    rtsp_transport: Annotated[str, typer.Option(help="tcp or udp.", rich_help_panel=_SOURCES)] = "tcp",
    rtsp_latency_ms: Annotated[
        int, typer.Option(min=0, help="How long a stream may wait for late packets.", rich_help_panel=_SOURCES)
    ] = 100,
    show_pipeline: Annotated[
        bool, typer.Option("--show-pipeline", help="Print the GStreamer pipelines and stop.", rich_help_panel=_SOURCES)
    ] = False,
    policy: Annotated[
        Optional[str],
        typer.Option(
            help="latest (default for cameras), every (default for files) or deadline.", rich_help_panel=_SOURCES
        ),
    ] = None,
    deadline_ms: Annotated[
        float,
        typer.Option(
            min=0.0, help="No result older than this leaves; implies --policy deadline.", rich_help_panel=_SOURCES
        ),
    ] = 0.0,
    stall_timeout: Annotated[
        float,
        typer.Option(min=0.5, help="Seconds without a frame until a source is opened again.", rich_help_panel=_SOURCES),
    ] = 5.0,
    max_restarts: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            help="Attempts in a row to open a source, 0 for no limit; default: 30, but none before its first frame "
            "(--argus-restart: three).",
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    argus_restart: Annotated[
        bool,
        typer.Option(
            "--argus-restart",
            help="Restart nvargus-daemon when it holds a CSI camera (sudo; edgeseg service install --argus-restart).",
            rich_help_panel=_SOURCES,
        ),
    ] = False,
    batch_window_ms: Annotated[
        float,
        typer.Option(min=0.0, help="How long a batch waits for other sources.", rich_help_panel=_SOURCES),
    ] = 10.0,
    sink: Annotated[
        Optional[List[str]],
        typer.Option(
            help=f"{sinks_help()}; may be given several times.",
            rich_help_panel=_SINKS,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Let sinks replace files that are there; else videos, recordings and what edgeseg did not write stay.",
            rich_help_panel=_SINKS,
        ),
    ] = False,
    visualize: Annotated[str, typer.Option(help="Some of overlay,mask,contours.", rich_help_panel=_SINKS)] = "overlay",
    alpha: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of class colour in the overlay.", rich_help_panel=_SINKS),
    ] = 0.5,
    ignore_class: Annotated[
        Optional[List[str]],
        typer.Option(help="A class that is not painted; several times.", rich_help_panel=_SINKS),
    ] = None,
    legend: Annotated[
        bool, typer.Option("--legend", help="Class names in the picture.", rich_help_panel=_SINKS)
    ] = False,
    preview: Annotated[
        Optional[str],
        typer.Option(help="HOST:PORT of the page with the live picture and /metrics.", rich_help_panel=_PAGE),
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            envvar="EDGESEG_TOKEN",
            help="For --preview on other addresses than loopback; better in EDGESEG_TOKEN.",
            rich_help_panel=_PAGE,
        ),
    ] = "",
    snapshots: Annotated[Path, typer.Option(help="Where the page's snapshots go.", rich_help_panel=_PAGE)] = Path(
        "snapshots"
    ),
    alarm: Annotated[
        Optional[List[str]],
        typer.Option(help="A rule: 'area(car) > 20% of roi(road) for 5 frames'.", rich_help_panel=_PAGE),
    ] = None,
    on_alarm: Annotated[
        Optional[List[str]],
        typer.Option(
            help="log, jsonl:FILE, snapshot:FOLDER, mqtt://HOST/TOPIC, https://...; several times.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
    rois: Annotated[
        Optional[Path], typer.Option(help="Regions of the rules, as JSON; the page draws them.", rich_help_panel=_PAGE)
    ] = None,
    shadow: Annotated[
        int,
        typer.Option(min=0, help="Compare 1 of N results with the higher precision.", rich_help_panel=_PAGE),
    ] = 0,
    drift: Annotated[
        int,
        typer.Option(min=0, help="Measure 1 of N frames against the calibration set.", rich_help_panel=_PAGE),
    ] = 0,
    drift_frames: Annotated[
        Optional[Path], typer.Option(help="Folder for frames that drift.", rich_help_panel=_PAGE)
    ] = None,
    graph: GraphOption = None,
    engine: EngineOption = EngineName.auto,
    fallback: FallbackOption = False,
    program: ProgramOption = None,
    cuda_graph: Annotated[str, typer.Option(help="TensorRT: auto, on or off.", rich_help_panel=_ENGINE)] = "auto",
    memory: Annotated[str, typer.Option(help="TensorRT: auto, mapped or copy.", rich_help_panel=_ENGINE)] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, 0 for all.", rich_help_panel=_ENGINE)] = 0,
    frames: Annotated[int, typer.Option(min=0, help="Stop after so many frames, 0 for no limit.")] = 0,
    require_signature: RequireSignatureOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Stream frames through a model and report ms/frame. Ctrl-C stops and prints the summary.

    Example: edgeseg run --camera 0 --sink out.mp4
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.device.telemetry import Telemetry, throttled_between
    from edgeseg.runtime.drawing.overlay import Painter
    from edgeseg.runtime.gst.pipelines import CaptureOptions
    from edgeseg.runtime.loop.feed import Supervision
    from edgeseg.runtime.loop.pipeline import Run
    from edgeseg.runtime.monitoring.systemd import Notifier
    from edgeseg.runtime.sinks.clash import refuse_overwriting

    bundle, name = bundle_or_default(model, require_signature)
    chosen_policy = _policy(policy, deadline_ms)
    streams = _streams(camera, source)
    size_hw = size_hw_from(size) if size else None
    options = CaptureOptions(
        size_hw, rate, flip, pixel_format, rtsp_latency_ms, rtsp_transport, on_jetson(), bundle.spec.size_hw
    )
    lists = [Path(uri) for uri in source or [] if uri.endswith(".streams")]
    inputs = [model or chosen_path(), rois, program, require_signature, *lists]
    refuse_overwriting(streams, sink or [], [path for path in inputs if path is not None], on_alarm or [])
    daemon = ArgusDaemon() if argus_restart else None
    source_from = partial(_source, options=options, capture=capture, daemon=daemon)
    origins = [(stream, source_from(stream.uri)) for stream in streams]
    if show_pipeline:
        _show_pipelines(origins)
        return
    painter = Painter(bundle.spec, alpha, tuple(visualize.split(",")), tuple(ignore_class or ()), legend)
    wanted = _sink_uris(sink, preview)
    rules, regions = _rules(bundle, alarm, rois, preview)
    device = detected_device()
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"), int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 or None)
    tell = say_aside if as_json else say
    with interrupts() as signals, opened_engine(
        bundle,
        name,
        engine,
        graph,
        threads=threads,
        fallback=fallback,
        program=program,
        cuda_graph=cuda_graph,
        memory=memory,
        tell=tell,
    ) as opened, live_view(", ".join(origin.description for _, origin in origins), quiet=as_json) as show:
        head = _Head([f"model:  {name}, classes: {', '.join(bundle.spec.classes)}"], quiet=as_json)
        if bundle.signer is not None:
            head.lines.append(f"signed: by {bundle.signer}, a key of {require_signature}")
        head.lines += [f"engine: {opened.description}", f"device: {device.describe()}"]

        def on_frame(state: Any, result: Any) -> None:
            head.say()
            if state.frames == 1:
                notifier.ready("frames flow")
            show(state, result)

        def on_tick() -> None:
            notifier.alive()
            notifier.status(lambda: status_line(running.state))

        running = Run(
            opened,
            bundle.spec,
            policy=chosen_policy,
            supervision=Supervision(stall_timeout, max_restarts),
            window_s=batch_window_ms / 1e3,
            max_frames=frames,
            source_from=source_from,
            on_frame=on_frame,
            on_tick=on_tick,
        )
        running.state.on_event = lambda event: _say(event, running.state, head)
        for stream, origin in origins:
            running.add(origin, stream.name, stream.policy)
        try:
            alarms = _alarms(running, painter, rules, regions, on_alarm, overwrite)
            field = _field(bundle, running, shadow, drift, drift_frames)
            comparison = _comparison(running, streams)
            _add_sinks(running, wanted, painter, opened.description, overwrite)
            if preview:
                _add_preview(running, painter, preview, token, regions, alarms, field, snapshots, tell)
        except BaseException:
            running.abandon()
            raise
        telemetry = Telemetry()
        before = telemetry.sample()
        failure: Optional[BaseException] = None
        signals.hand_over(running)
        try:
            running.run()
        except EdgesegError as error:
            failure = error
        finally:
            signals.over()
            notifier.stopping()
            throttled = throttled_between(before, telemetry.sample())
            summary = {
                "model": name,
                "signed_by": bundle.signer,
                "engine": opened.description,
                "source": ", ".join(item.description for item in running.state.sources.values()),
                "device": device.to_json(),
                "throttled": throttled,
                **running.state.to_json(),
            }
            if alarms:
                summary["alarms"] = alarms.to_json()
            if field:
                summary["field"] = field.to_json()
            if comparison:
                summary["replay"] = comparison.to_json()
    if as_json:
        print_json(summary)
    elif running.state.frames or failure is None:
        say_summary(running.state)
        for reason in throttled:
            say(f"throttled: {reason}")
        watched = wanted != ["null://"] and any(origin.is_live for _, origin in origins)
        if not (sink or preview or alarms or field or comparison or watched):
            say(_NOTHING_KEPT)
    if failure is not None:
        raise failure


class _Head:
    """What runs where: said with the first frame or event, so that a camera that never opens leaves its error alone."""

    def __init__(self, lines: List[str], *, quiet: bool) -> None:
        self.lines = lines
        self._pending = not quiet

    def say(self) -> None:
        """Say it, once."""
        if self._pending:
            self._pending = False
            for line in self.lines:
                say(line)


def _say(event: "Event", state: "RunState", head: _Head) -> None:
    """Print an event, unless it is the failure of the only source, which is the command's own last line."""
    if event.level != "error" or list(state.sources) != [event.who]:
        head.say()
        say_event(event)


def _policy(kind: Optional[str], deadline_ms: float) -> "Optional[Policy]":
    from edgeseg.runtime.policy import Policy

    kind = kind or ("deadline" if deadline_ms else None)
    return Policy(kind, deadline_ms) if kind else None


def _streams(camera: Optional[int], sources: Optional[List[str]]) -> "List[Stream]":
    from edgeseg.runtime.sources.uri import Stream, streams_from_uri

    if (camera is None) == (not sources):
        raise UsageError(
            "say where frames come from: --camera 0, or --source FILE|FOLDER|rtsp://...|demo://street (not both)"
        )
    if camera is not None:
        return [Stream(str(camera))]
    return [stream for uri in sources or [] for stream in streams_from_uri(uri)]


def _source(uri: str, options: "CaptureOptions", capture: str, daemon: "Optional[ArgusDaemon]") -> "FrameSource":
    from edgeseg.runtime.sources import source_from_uri

    def mend(kind: str) -> bool:
        return (
            daemon is not None and kind == "busy" and "nvarguscamerasrc" in _pipeline_text(source) and daemon.restart()
        )

    source = source_from_uri(uri, options, capture, mend)
    return source


def _pipeline_text(source: "FrameSource") -> str:
    from edgeseg.runtime.sources.gstreamer import GstSource

    return source.pipeline.text if isinstance(source, GstSource) else ""


def _show_pipelines(origins: "List[Tuple[Stream, FrameSource]]") -> None:
    from edgeseg.runtime.sources.gstreamer import GstSource

    for _, origin in origins:
        say(origin.pipeline.shown() if isinstance(origin, GstSource) else f"no GStreamer: {origin.description}")


def _sink_uris(wanted: Optional[List[str]], preview: Optional[str]) -> List[str]:
    """The sinks asked for; without any, and without a page, a window where there is a display."""
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not wanted:
        return ["display://"] if has_display and not preview else ["null://"]
    if any(uri.startswith("display://") for uri in wanted) and not has_display:
        raise SinkError(
            "display:// needs a desktop, but neither DISPLAY nor WAYLAND_DISPLAY is set; use --preview 127.0.0.1:8080, "
            "out.mp4 or a folder"
        )
    return wanted


def _add_sinks(running: "Run", uris: List[str], painter: "Painter", engine: str, overwrite: bool) -> None:
    from edgeseg.runtime.sinks.uri import SinkContext, sink_from_uri

    several = len(running.state.sources) > 1
    context = SinkContext(running.spec, painter, running.state, engine, several, overwrite)
    for uri in uris:
        running.add_sink(sink_from_uri(uri, context))


def _rules(
    bundle: "Bundle", alarm: Optional[List[str]], rois: Optional[Path], preview: Optional[str]
) -> "Tuple[List[Any], Optional[RoiSet]]":
    if not (alarm or rois or preview):
        return [], None
    from edgeseg.runtime.alarms.parser import parse
    from edgeseg.runtime.alarms.roi import RoiSet

    regions = RoiSet(bundle.spec.classes, rois)
    return [parse(text, bundle.spec.classes, regions.names) for text in alarm or []], regions


def _alarms(
    running: "Run",
    painter: "Painter",
    rules: List[Any],
    regions: "Optional[RoiSet]",
    actions: Optional[List[str]],
    overwrite: bool,
) -> "Optional[AlarmSink]":
    if not rules:
        if actions:
            raise UsageError("--on-alarm needs a rule; add --alarm 'area(car) > 20% for 5 frames'")
        return None
    from edgeseg.runtime.alarms.actions import action_from_text
    from edgeseg.runtime.alarms.sink import AlarmSink
    from edgeseg.runtime.state import FINAL

    assert regions is not None
    tell = running.state.tell
    chosen = [action_from_text(text, painter, tell, overwrite=overwrite) for text in actions or ["log"]]
    sources = running.state.sources
    sink = AlarmSink(rules, running.spec, regions, chosen, tell, lambda name: sources[name].status in FINAL)
    running.add_sink(sink)
    return sink


def _field(
    bundle: "Bundle", running: "Run", shadow: int, drift: int, drift_frames: Optional[Path]
) -> "Optional[FieldSink]":
    if not (shadow or drift):
        if drift_frames:
            raise UsageError("--drift-frames needs --drift N")
        return None
    from edgeseg.compiler.calibration.drift_probe import with_drift_probe
    from edgeseg.runtime.monitoring.sink import FieldSink

    if drift:
        bundle = with_drift_probe(bundle)
    sink = FieldSink(bundle, running.state, shadow=shadow, drift=drift, drift_frames=drift_frames)
    running.add_sink(sink)
    return sink


def _comparison(running: "Run", streams: "List[Stream]") -> "Optional[ReplayComparison]":
    """A replay is compared with what was recorded."""
    if len(streams) != 1 or not streams[0].uri.startswith("replay://"):
        return None
    from edgeseg.runtime.recording.replay import comparison_from_uri

    sink = comparison_from_uri(streams[0].uri, running.spec)
    running.add_sink(sink)
    return sink


def _add_preview(
    running: "Run",
    painter: "Painter",
    address: str,
    token: str,
    regions: "Optional[RoiSet]",
    alarms: "Optional[AlarmSink]",
    field: "Optional[FieldSink]",
    snapshots: Path,
    tell: Any,
) -> None:
    from edgeseg.runtime.preview.sink import PreviewSink

    page = PreviewSink(
        running,
        painter,
        address,
        token=token,
        rois=regions,
        alarms=alarms,
        snapshots=snapshots,
        extra_metrics=[field.metrics] if field else [],
    )
    running.add_sink(page)
    tell(f"page:   {page.url}")
