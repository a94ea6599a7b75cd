"""``edgeseg run``: frames in, masks and ms/frame out."""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

import typer
from typing_extensions import Annotated

from edgeseg.cli.arguments import EngineName, EngineOption, FallbackOption, GraphOption, ProgramOption
from edgeseg.cli.console import JsonFlag, on_terminal, percent, print_json, say, say_aside, stop_on_signals, table
from edgeseg.cli.models import bundle_or_default
from edgeseg.cli.opening import opened_engine
from edgeseg.errors import SinkError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from edgeseg.runtime.frame import Segmentation
    from edgeseg.runtime.pipeline import RunState

    OnFrame = Callable[[RunState, Segmentation], None]

_PLAIN_EVERY_S = 2.0


def run(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else the newest *.edgeseg here, else the shipped one.")
    ] = None,
    camera: Annotated[Optional[int], typer.Option(help="Camera number N of /dev/videoN.")] = None,
    source: Annotated[
        Optional[str], typer.Option(help="Camera (0), video file, image, folder, glob, or demo://street?frames=300.")
    ] = None,
    sink: Annotated[
        Optional[List[str]],
        typer.Option(help="display://, out.mp4, a folder, jsonl://FILE, null://; may be given several times."),
    ] = None,
    policy: Annotated[
        Optional[str], typer.Option(help="latest (default for cameras) or every (default for files).")
    ] = None,
    graph: GraphOption = None,
    engine: EngineOption = EngineName.auto,
    fallback: FallbackOption = False,
    program: ProgramOption = None,
    cuda_graph: Annotated[str, typer.Option(help="TensorRT: auto, on or off.")] = "auto",
    memory: Annotated[str, typer.Option(help="TensorRT: auto, mapped or copy.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, 0 for all.")] = 0,
    alpha: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of class colour in the overlay.")] = 0.5,
    frames: Annotated[int, typer.Option(min=0, help="Stop after so many frames, 0 for no limit.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Stream frames through a model and report ms/frame. Ctrl-C stops and prints the summary.

    Example: edgeseg run --camera 0 --sink out.mp4
    """
    from edgeseg.device.detect import detected_device
    from edgeseg.device.telemetry import Telemetry, throttled_between
    from edgeseg.runtime.overlay import Painter
    from edgeseg.runtime.pipeline import run_pipeline
    from edgeseg.runtime.sinks import sink_from_uri
    from edgeseg.runtime.sources import source_from_uri

    bundle, name = bundle_or_default(model)
    if (camera is None) == (source is None):
        raise UsageError(
            "say where frames come from: --camera 0, or --source FILE|FOLDER|demo://street (just one of them)"
        )
    if policy not in (None, "latest", "every"):
        raise UsageError(f"--policy is latest or every, got {policy!r}")
    device = detected_device()
    _refuse_overwriting(source, sink or [])
    origin = source_from_uri(str(camera) if camera is not None else str(source))
    latest = origin.is_live if policy is None else policy == "latest"
    painter = Painter(bundle.spec, alpha)
    sinks = [sink_from_uri(uri, bundle.spec, painter, origin.fps or 30.0) for uri in _sink_uris(sink)]
    tell = say_aside if as_json else say
    with stop_on_signals(), opened_engine(
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
    ) as opened:
        if not as_json:
            say(f"model:  {name}, classes: {', '.join(bundle.spec.classes)}")
            say(f"engine: {opened.description}")
            say(f"device: {device.describe()}")
        telemetry = Telemetry()
        before = telemetry.sample()
        with _view(origin.description, as_json) as show:
            state = run_pipeline(origin, opened, bundle.spec, sinks, latest=latest, max_frames=frames, on_frame=show)
        summary = {
            "model": name,
            "engine": opened.description,
            "source": origin.description,
            "device": device.to_json(),
            "throttled": throttled_between(before, telemetry.sample()),
            **state.to_json(),
        }
    if as_json:
        print_json(
            {**summary, "sinks": [item.description for item in sinks], "policy": "latest" if latest else "every"}
        )
        return
    say(f"source: {origin.description}; {'latest frame' if latest else 'every frame'}")
    for item in sinks:
        say(f"sink:   {item.description}")
    _summary(state, latest)
    for reason in summary["throttled"]:
        say(f"throttled: {reason}")


def _refuse_overwriting(source: Optional[str], sinks: List[str]) -> None:
    """A result must not replace what it was made from."""
    for uri in sinks:
        if (
            source is not None
            and "://" not in uri
            and Path(uri).exists()
            and Path(uri).resolve() == Path(source).resolve()
        ):
            raise UsageError(f"--sink {uri} is the source itself and would be overwritten; name another file or folder")


def _sink_uris(wanted: Optional[List[str]]) -> List[str]:
    """The sinks asked for; without any, a window where there is a display."""
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not wanted:
        return ["display://"] if has_display else ["null://"]
    if any(uri.startswith("display://") for uri in wanted) and not has_display:
        raise SinkError(
            "display:// needs a desktop, but neither DISPLAY nor WAYLAND_DISPLAY is set; use out.mp4 or a folder"
        )
    return wanted


@contextmanager
def _view(source: str, quiet: bool) -> Iterator["OnFrame"]:
    """What is shown while frames run: a live table on a terminal, a line every two seconds in a pipe."""
    if quiet:
        yield lambda state, result: None
    elif on_terminal():
        from rich.live import Live

        with Live(refresh_per_second=4, transient=True) as live:
            yield _every(0.25, lambda state: live.update(_live_table(source, state)))
    else:
        yield _every(_PLAIN_EVERY_S, lambda state: say(_plain_line(state)))


def _every(seconds: float, show: "Callable[[RunState], Any]") -> "OnFrame":
    due = [0.0]

    def maybe(state: "RunState", result: "Segmentation") -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + seconds
            show(state)

    return maybe


def _plain_line(state: "RunState") -> str:
    latencies = state.latencies()
    miou = f"  mIoU {percent(state.confusion.miou())}" if state.confusion.counts.any() else ""
    return (
        f"frame {state.frames}  {latencies['frame'].p50_ms:.1f} ms/frame (p99 {latencies['frame'].p99_ms:.1f})  "
        f"{state.fps():.1f} fps  age {latencies['age'].p50_ms:.1f} ms  dropped {state.dropped}{miou}"
    )


def _stage_rows(state: "RunState") -> List[List[str]]:
    return [
        [stage, *(f"{value:.2f}" for value in (s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms))]
        for stage, s in state.latencies().items()
    ]


def _live_table(source: str, state: "RunState") -> "Table":
    from rich.table import Table

    grid = Table(title=source, caption=_plain_line(state), title_justify="left", caption_justify="left")
    for column in ("stage", "p50 ms", "p90 ms", "p99 ms", "max ms"):
        grid.add_column(column, justify="left" if column == "stage" else "right")
    for row in _stage_rows(state):
        grid.add_row(*row)
    return grid


def _summary(state: "RunState", latest: bool) -> None:
    if not state.frames:
        say(f"no frame was segmented ({state.ended})")
        return
    table("ms per frame by stage", ["stage", "p50 ms", "p90 ms", "p99 ms", "max ms"], _stage_rows(state))
    policy = f"{state.dropped} dropped (latest-frame policy)" if latest else "none dropped (every frame)"
    say(f"{state.frames} frames, {state.fps():.1f} fps, {policy}, {state.ended}")
    if state.confusion.counts.any():
        say(f"live mIoU {percent(state.confusion.miou())} against the rendered ground truth of these frames")
