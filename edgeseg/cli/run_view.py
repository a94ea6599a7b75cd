"""What people see of a run: a live table on a terminal, a line every two seconds in a pipe, a summary at the end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

from edgeseg.cli.console import on_terminal, percent, say, say_aside, table

if TYPE_CHECKING:
    from rich.table import Table

    from edgeseg.runtime.frame import Segmentation
    from edgeseg.runtime.state import Event, RunState

    OnFrame = Callable[[RunState, Segmentation], None]

__all__ = ["live_view", "say_event", "say_summary", "status_line"]

_PLAIN_EVERY_S = 2.0


@contextmanager
def live_view(title: str, *, quiet: bool) -> Iterator[OnFrame]:
    """Show the run while frames come; give the result to ``Run`` as ``on_frame``."""
    if quiet:
        yield lambda state, result: None
    elif on_terminal():
        from rich.live import Live

        with Live(refresh_per_second=4, transient=True) as live:
            yield _every(0.25, lambda state: live.update(_live_table(title, state)))
    else:
        yield _every(_PLAIN_EVERY_S, lambda state: say(_plain_line(state)))


def say_event(event: Event) -> None:
    """Print one event on stderr with its time, so that results on stdout stay clean."""
    say_aside(f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {event.level}: {event.who}: {event.text}")


def say_summary(state: RunState) -> None:
    """Return the stage table, and where every frame and result went."""
    for source in state.sources.values():
        say(f"source: {source.name}: {source.description}")
    if state.frames:
        at_once = f", {state.in_flight} frames at a time" if state.in_flight > 1 else ""
        table(f"ms per frame by stage{at_once}", ["stage", "p50 ms", "p90 ms", "p99 ms", "max ms"], _stage_rows(state))
    for source in state.sources.values():
        many = f"source {source.name}: " if len(state.sources) > 1 else ""
        dropped = ", ".join(f"{count} {cause}" for cause, count in source.dropped.items() if count) or "none"
        restarts = f"; {source.restarts} restarts" if source.restarts else ""
        say(f"{many}{source.produced} frames came, {source.segmented} segmented; dropped: {dropped}{restarts}")
    for sink in state.sinks:
        lost = ", ".join(f"{count} {cause}" for cause, count in sink.lost.items()) or "none"
        kept = "" if sink.kept in (None, sink.written) else f" ({sink.kept} of them safe)"
        say(f"sink:   {sink.description}: {sink.written} written{kept}, lost: {lost}")
    say(f"{state.frames} frames, {state.fps():.1f} fps, {state.ended}")
    if state.confusion.counts.any():
        say(f"live mIoU {percent(state.confusion.miou())} against the rendered ground truth of these frames")


def status_line(state: RunState) -> str:
    """Return the line that ``systemctl status`` shows."""
    streaming = sum(source.status == "streaming" for source in list(state.sources.values()))
    if not state.frames:
        return f"{streaming} sources stream, no frame yet"
    failing = "".join(f"; {sink.description} fails" for sink in state.sinks if sink.status == "failing")
    return f"{streaming} sources stream; {_plain_line(state)}{failing}"


def _every(seconds: float, show: Callable[[RunState], Any]) -> OnFrame:
    due = [0.0]

    def maybe(state: RunState, result: Segmentation) -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + seconds
            show(state)

    return maybe


def _plain_line(state: RunState) -> str:
    latencies = state.latencies()
    miou = f"  mIoU {percent(state.confusion.miou())}" if state.confusion.counts.any() else ""
    frame = latencies["frame"]
    at_once = f", {state.in_flight} at a time" if state.in_flight > 1 else ""
    return (
        f"frame {state.frames}  {frame.p50_ms:.1f} ms/frame (p99 {frame.p99_ms:.1f}){at_once}  "
        f"{state.fps():.1f} fps  age {latencies['age'].p50_ms:.1f} ms  dropped {state.dropped}{miou}"
    )


def _stage_rows(state: RunState) -> List[List[str]]:
    return [
        [stage, *(f"{value:.2f}" for value in (s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms))]
        for stage, s in state.latencies().items()
    ]


def _live_table(title: str, state: RunState) -> Table:
    from rich.table import Table

    grid = Table(title=title, caption=_plain_line(state), title_justify="left", caption_justify="left")
    for column in ("stage", "p50 ms", "p90 ms", "p99 ms", "max ms"):
        grid.add_column(column, justify="left" if column == "stage" else "right")
    for row in _stage_rows(state):
        grid.add_row(*row)
    return grid
