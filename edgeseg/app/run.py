"""Compose a run of its configuration: model, engine, sources, sinks, alarms, monitoring, page. Prints nothing."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from edgeseg.app.argus import ArgusDaemon
from edgeseg.app.config import RunConfig, SourceConfig
from edgeseg.app.data import size_hw_from
from edgeseg.app.engines import on_jetson, opened_engine
from edgeseg.app.models import bundle_or_default, chosen_path
from edgeseg.errors import SinkError, UsageError

if TYPE_CHECKING:
    from edgeseg.bundle import Bundle
    from edgeseg.device.detect import Device
    from edgeseg.engines.base import Engine
    from edgeseg.runtime.alarms.roi import RoiSet
    from edgeseg.runtime.alarms.sink import AlarmSink
    from edgeseg.runtime.drawing.overlay import Painter
    from edgeseg.runtime.frame import Segmentation
    from edgeseg.runtime.monitoring.sink import FieldSink
    from edgeseg.runtime.policy import Policy
    from edgeseg.runtime.recording.comparison import ReplayComparison
    from edgeseg.runtime.sinks import FrameSink
    from edgeseg.runtime.sources import FrameSource
    from edgeseg.runtime.sources.uri import Stream
    from edgeseg.runtime.state import Event, RunState

__all__ = ["Inputs", "Listener", "Plan", "Session", "inputs_of", "plan_of", "run"]


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Callbacks of a run.

    Attributes:
        on_result: takes each result, in the loop's thread: the loop waits for it.
        on_event: takes each event with the state of the run, from any thread.
        on_tick: called at least every 0.2 s while the loop is alive.
        on_note: takes a line for people at a time, before the loop begins.
    """

    on_result: "Callable[[RunState, Segmentation], None]" = _nothing
    on_event: "Callable[[Event, RunState], None]" = _nothing
    on_tick: "Callable[[RunState], None]" = _nothing
    on_note: Callable[[str], None] = _nothing


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes:
        bundle: the model.
        name: of the model, with the reason why it was taken.
        origins: each stream with its source, not yet opened.
        source_from: makes a source of a URI, as these were made.
    """

    bundle: "Bundle"
    name: str
    origins: "Tuple[Tuple[Stream, FrameSource], ...]"
    source_from: "Callable[[str], FrameSource]"

    @property
    def description(self) -> str:
        """Return the sources, for people."""
        return ", ".join(source.description for _, source in self.origins)

    def is_replay(self) -> bool:
        """Return whether a recording is replayed, so that results can be compared with it."""
        return len(self.origins) == 1 and self.origins[0][0].uri.startswith("replay://")


@dataclass(frozen=True)
class Plan:
    """A run that was checked as far as that goes without its engine.

    Attributes:
        config: what was asked for.
        inputs: what it reads.
        painter: draws pictures.
        sinks: URIs, with the default where none was named.
        rules: of alarms, parsed.
        regions: of the rules and the page; None where there is neither.
        device: this machine.
    """

    config: RunConfig
    inputs: Inputs
    painter: "Painter"
    sinks: Tuple[str, ...]
    rules: Tuple[Any, ...]
    regions: "Optional[RoiSet]"
    device: "Device"

    def shows_nothing(self) -> bool:
        """Return whether nobody sees or keeps a result of this run, and no window or camera is all that was wanted."""
        config = self.config
        asked = config.sinks or config.page.preview or config.alarm.rules
        watched = config.monitoring.shadow or config.monitoring.drift or self.inputs.is_replay()
        in_window = self.sinks != ("null://",) and any(source.is_live for _, source in self.inputs.origins)
        return not (asked or watched or in_window)


def run(
    config: RunConfig,
    *,
    sources: "Sequence[FrameSource]" = (),
    sinks: "Sequence[FrameSink]" = (),
    on_result: "Callable[[Segmentation], None]" = _nothing,
    on_event: "Callable[[Event], None]" = _nothing,
    on_note: Callable[[str], None] = _nothing,
) -> Dict[str, Any]:
    """Segment frames until the sources end, ``frames`` are done, or Ctrl-C.

    Args:
        config: where frames come from, what segments them and where results go.
        sources: more of them, of your own.
        sinks: more of them, of your own. No window is opened by default where there are any, or an ``on_result``.
        on_result: takes each ``Segmentation``, in order, in the calling thread; the loop waits for it. What it raises
            ends the run.
        on_event: takes what happens to sources, sinks and alarms; called from several threads.
        on_note: takes a line for people at a time, while the engine is opened.

    Returns:
        The summary that ``edgeseg run --json`` prints: frames, times, drops and what came of each source and sink.

    Raises:
        EdgesegError: something cannot be opened, or the last source, the engine or a sink failed. UsageError names the
            field of the configuration in backticks.
    """
    from edgeseg.runtime.sinks import FrameSink
    from edgeseg.runtime.sources import FrameSource

    if not isinstance(config, RunConfig):
        raise UsageError(f"a run takes a RunConfig, got a {type(config).__name__}")
    sources, sinks = _own(sources, FrameSource, "sources"), _own(sinks, FrameSink, "sinks")
    if (sinks or on_result is not _nothing) and not (config.sinks or config.page.preview):
        config = replace(config, sinks=("null://",))
    plan = plan_of(config, inputs_of(config, sources, on_warning=on_note))
    listener = Listener(
        on_result=lambda state, result: on_result(result),
        on_event=lambda event, state: on_event(event),
        on_note=on_note,
    )
    with opened_engine(plan.inputs.bundle, plan.inputs.name, config.engine, tell=on_note) as engine:
        session = Session(plan, engine, listener, sinks)
        session.run()
        return session.summary()


def _own(items: "Iterable[Any]", kind: type, field: str) -> Tuple[Any, ...]:
    """Return the caller's own sources or sinks. Raises UsageError: one is something else, or is there twice."""
    mine = tuple(items)
    for one in mine:
        if not isinstance(one, kind):
            said = f"`{field}` of a run are objects of {kind.__name__}, got a {type(one).__name__}"
            raise UsageError(f"{said}; what is named goes into RunConfig({field}=[...])")
    if len(set(map(id, mine))) < len(mine):
        raise UsageError(f"one of `{field}` is given twice; make an object for each")
    return mine


def inputs_of(
    config: RunConfig, sources: "Sequence[FrameSource]" = (), *, on_warning: Callable[[str], None] = _nothing
) -> Inputs:
    """Read the model and find the sources, without opening them.

    Args:
        config: of the run.
        sources: of the caller, besides those that the configuration names.
        on_warning: takes a line for people at a time, at any time, from any thread.

    Raises:
        EdgesegError: the model cannot be read, a source is not known, or a sink would overwrite what the run reads.
    """
    from edgeseg.runtime.sources.uri import Stream

    bundle, name = bundle_or_default(config.model, config.require_signature)
    _policy(config.source)
    streams = _streams(config, required=not sources)
    source_from = _source_maker(config.source, bundle, on_warning)
    _refuse_overwriting(config, streams)
    origins = [(stream, source_from(stream.uri)) for stream in streams]
    return Inputs(bundle, name, (*origins, *((Stream(""), source) for source in sources)), source_from)


def plan_of(config: RunConfig, inputs: Inputs) -> Plan:
    """Check everything else that needs no engine.

    Args:
        config: of the run.
        inputs: of the same configuration.

    Raises:
        EdgesegError: a field makes no sense, or a sink needs a desktop that is not there.
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.runtime.drawing.overlay import Painter

    _refuse_idle(config)
    sink, bundle = config.sink, inputs.bundle
    painter = Painter(bundle.spec, sink.alpha, tuple(sink.visualize.split(",")), tuple(sink.ignore_class), sink.legend)
    sinks = _sink_uris(config)
    rules, regions = _rules(config, bundle)
    return Plan(config, inputs, painter, sinks, rules, regions, detected_device())


class Session:
    """A run with its engine open and its sinks made.

    Args:
        plan: of the run.
        engine: open; whoever opened it closes it.
        listener: is told what happens.
        sinks: of the caller, besides those that the configuration names.

    Attributes:
        loop: what may be stopped from other threads and by signals.

    Raises:
        EdgesegError: a sink cannot be made; those before it left nothing.
    """

    def __init__(
        self, plan: Plan, engine: "Engine", listener: Listener = Listener(), sinks: "Sequence[FrameSink]" = ()
    ) -> None:
        from edgeseg.device.telemetry import Telemetry
        from edgeseg.runtime.loop.feed import Supervision
        from edgeseg.runtime.loop.pipeline import LoopOptions, Run

        source = plan.config.source
        supervision = Supervision(source.stall_timeout, source.max_restarts)
        options = LoopOptions(_policy(source), supervision, source.batch_window_ms / 1e3, plan.config.frames)
        self._plan, self._engine = plan, engine
        self.loop = Run(
            engine,
            plan.inputs.bundle.spec,
            options,
            source_from=plan.inputs.source_from,
            on_frame=listener.on_result,
            on_tick=lambda: listener.on_tick(self.loop.state),
        )
        self.loop.state.on_event = lambda event: listener.on_event(event, self.loop.state)
        for stream, origin in plan.inputs.origins:
            self.loop.add(origin, stream.name, stream.policy)
        try:
            self._add_sinks(listener.on_note)
            for sink in sinks:
                self.loop.add_sink(sink)
        except BaseException:
            self.loop.abandon()
            raise
        self._telemetry = Telemetry()
        self._before = self._telemetry.sample()

    @property
    def state(self) -> "RunState":
        """Return what the run knows about itself; live."""
        return self.loop.state

    def run(self) -> None:
        """Segment frames until the sources end or the loop is stopped. Raises EdgesegError as ``Run.run`` does."""
        self.loop.run()

    def summary(self) -> Dict[str, Any]:
        """Return what ``edgeseg run --json`` prints, as a JSON-serialisable dict."""
        from edgeseg.device.telemetry import throttled_between

        plan, state = self._plan, self.loop.state
        summary = {
            "model": plan.inputs.name,
            "signed_by": plan.inputs.bundle.signer,
            "engine": self._engine.description,
            "source": ", ".join(item.description for item in state.sources.values()),
            "device": plan.device.to_json(),
            "throttled": throttled_between(self._before, self._telemetry.sample()),
            **state.to_json(),
        }
        parts = {"alarms": self._alarms, "field": self._field, "replay": self._comparison}
        summary.update({name: part.to_json() for name, part in parts.items() if part is not None})
        return summary

    def _add_sinks(self, tell: Callable[[str], None]) -> None:
        plan, loop = self._plan, self.loop
        self._alarms = _alarms(plan, loop)
        self._field = _field(plan, loop)
        self._comparison = _comparison(plan, loop)
        _named_sinks(plan, loop, self._engine.description)
        if plan.config.page.preview:
            tell(f"page:   {self._page(plan.config.page.preview)}")

    def _page(self, address: str) -> str:
        """Add the page and return its address."""
        from edgeseg.runtime.preview.sink import PreviewSink

        plan = self._plan
        page = PreviewSink(
            self.loop,
            plan.painter,
            address,
            token=plan.config.page.token,
            rois=plan.regions,
            alarms=self._alarms,
            snapshots=plan.config.page.snapshots,
            extra_metrics=[self._field.metrics] if self._field else [],
        )
        self.loop.add_sink(page)
        return page.url


def _policy(source: SourceConfig) -> "Optional[Policy]":
    from edgeseg.runtime.policy import Policy

    kind = source.policy or ("deadline" if source.deadline_ms else None)
    return Policy(kind, source.deadline_ms) if kind else None


def _streams(config: RunConfig, *, required: bool) -> "List[Stream]":
    from edgeseg.runtime.sources.uri import Stream, streams_from_uri

    named = (config.camera is not None) + bool(config.sources)
    if named > 1 or (required and not named):
        raise UsageError(
            "say where frames come from: `camera` 0, or `sources` FILE|FOLDER|rtsp://...|demo://street (not both)"
        )
    if config.camera is not None:
        return [Stream(str(config.camera))]
    return [stream for uri in config.sources for stream in streams_from_uri(uri)]


def _source_maker(
    source: SourceConfig, bundle: "Bundle", on_warning: Callable[[str], None]
) -> "Callable[[str], FrameSource]":
    from edgeseg.runtime.gst.pipelines import CaptureOptions

    size_hw = size_hw_from(source.size) if source.size else None
    options = CaptureOptions(
        size_hw,
        source.rate,
        source.flip,
        source.format,
        source.rtsp_latency_ms,
        source.rtsp_transport,
        on_jetson(),
        bundle.spec.size_hw,
    )
    daemon = ArgusDaemon(on_warning) if source.argus_restart else None
    return partial(_source, options=options, capture=source.capture, daemon=daemon)


def _source(uri: str, options: Any, capture: str, daemon: Optional[ArgusDaemon]) -> "FrameSource":
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


def _refuse_overwriting(config: RunConfig, streams: "List[Stream]") -> None:
    from edgeseg.runtime.sinks.clash import refuse_overwriting

    lists = [Path(uri) for uri in config.sources if uri.lower().endswith(".streams")]
    read = [chosen_path(config.model), config.alarm.rois, config.engine.program, config.require_signature, *lists]
    refuse_overwriting(streams, config.sinks, [path for path in read if path is not None], config.alarm.actions)


def _refuse_idle(config: RunConfig) -> None:
    """Refuse fields that need another one, and an address of the page that is none, before an engine is built."""
    if config.alarm.actions and not config.alarm.rules:
        raise UsageError("`actions` needs a rule; add `rules` 'area(car) > 20% for 5 frames'")
    if config.monitoring.drift_frames and not config.monitoring.drift:
        raise UsageError("`drift_frames` needs `drift` N")
    if config.page.preview:
        from edgeseg.runtime.preview.address import place_of

        place_of(config.page.preview)


def _sink_uris(config: RunConfig) -> Tuple[str, ...]:
    """Return the sinks asked for; without any, and without a page, a window where there is a display."""
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not config.sinks:
        return ("display://",) if has_display and not config.page.preview else ("null://",)
    if any(uri.startswith("display://") for uri in config.sinks) and not has_display:
        raise SinkError(
            "display:// needs a desktop, but neither DISPLAY nor WAYLAND_DISPLAY is set; use `preview` 127.0.0.1:8080, "
            "out.mp4 or a folder"
        )
    return tuple(config.sinks)


def _rules(config: RunConfig, bundle: "Bundle") -> "Tuple[Tuple[Any, ...], Optional[RoiSet]]":
    alarm = config.alarm
    if not (alarm.rules or alarm.rois or config.page.preview):
        return (), None
    from edgeseg.runtime.alarms.parser import parse
    from edgeseg.runtime.alarms.roi import RoiSet

    regions = RoiSet(bundle.spec.classes, alarm.rois)
    return tuple(parse(text, bundle.spec.classes, regions.names) for text in alarm.rules), regions


def _named_sinks(plan: Plan, loop: Any, engine: str) -> None:
    from edgeseg.runtime.sinks.uri import SinkContext, sink_from_uri

    several = len(loop.state.sources) > 1
    context = SinkContext(loop.spec, plan.painter, loop.state, engine, several, plan.config.sink.overwrite)
    for uri in plan.sinks:
        loop.add_sink(sink_from_uri(uri, context))


def _alarms(plan: Plan, loop: Any) -> "Optional[AlarmSink]":
    actions = plan.config.alarm.actions
    if not plan.rules:
        return None
    from edgeseg.runtime.alarms.actions import ActionContext, action_from_text
    from edgeseg.runtime.alarms.sink import AlarmSink
    from edgeseg.runtime.state import FINAL

    assert plan.regions is not None
    tell, sources = loop.state.tell, loop.state.sources
    context = ActionContext(plan.painter, tell, plan.config.sink.overwrite)
    chosen = [action_from_text(text, context) for text in actions or ("log",)]
    sink = AlarmSink(
        list(plan.rules), loop.spec, plan.regions, chosen, tell, lambda name: sources[name].status in FINAL
    )
    loop.add_sink(sink)
    return sink


def _field(plan: Plan, loop: Any) -> "Optional[FieldSink]":
    asked = plan.config.monitoring
    if not (asked.shadow or asked.drift):
        return None
    from edgeseg.compiler.calibration.drift_probe import with_drift_probe
    from edgeseg.runtime.monitoring.sink import FieldSink

    bundle = with_drift_probe(plan.inputs.bundle) if asked.drift else plan.inputs.bundle
    sink = FieldSink(bundle, loop.state, shadow=asked.shadow, drift=asked.drift, drift_frames=asked.drift_frames)
    loop.add_sink(sink)
    return sink


def _comparison(plan: Plan, loop: Any) -> "Optional[ReplayComparison]":
    """Add the sink that compares a replay with what was recorded."""
    if not plan.inputs.is_replay():
        return None
    from edgeseg.runtime.recording.replay import comparison_from_uri

    sink = comparison_from_uri(plan.inputs.origins[0][0].uri, loop.spec)
    loop.add_sink(sink)
    return sink
