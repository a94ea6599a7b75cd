"""``edgeseg run``: frames in, masks and ms/frame out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.config import RunConfig
from edgeseg.app.config_file import save_config
from edgeseg.app.engines import opened_engine
from edgeseg.app.run import Inputs, Listener, Plan, Session, inputs_of, plan_of
from edgeseg.cli.console import JsonFlag, percent, print_json, say, say_aside
from edgeseg.cli.opening import tensorrt_factory
from edgeseg.cli.options import command
from edgeseg.cli.run_view import live_view, say_event, say_summary, status_line
from edgeseg.cli.signals import interrupts
from edgeseg.errors import EdgesegError

if TYPE_CHECKING:
    from edgeseg.engines.base import Engine
    from edgeseg.runtime.frame import Segmentation
    from edgeseg.runtime.monitoring.systemd import Notifier
    from edgeseg.runtime.state import Event, RunState

_NOTHING_KEPT = (
    "no result was kept, for no --sink was named: --sink out keeps masks and overlays in the folder out, "
    "--sink out.mp4 a video; --preview 127.0.0.1:8080 shows them on a page"
)


def _run(
    config: RunConfig,
    show_pipeline: Annotated[
        bool, typer.Option("--show-pipeline", help="Print the GStreamer pipelines and stop.")
    ] = False,
    save: Annotated[
        Optional[Path],
        typer.Option("--save-config", help="Also write this to a .toml or .json file, for 'edgeseg run FILE'."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Stream frames through a model and report ms/frame. Ctrl-C stops and prints the summary.

    Example: edgeseg run --camera 0 --sink out.mp4
    """
    from edgeseg.runtime.monitoring.systemd import Notifier

    inputs = inputs_of(config, on_warning=say_aside)
    plan = plan_of(config, inputs)
    tell = say_aside if as_json else say
    if save is not None:
        tell(save_config(config, save))
    if show_pipeline:
        _show_pipelines(inputs)
        return
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"), int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 or None)
    failure: Optional[BaseException] = None
    picked: List[str] = []
    with interrupts() as signals, opened_engine(
        inputs.bundle,
        inputs.name,
        config.engine,
        tell=tell,
        factory_from=tensorrt_factory,
        on_pick=tell if as_json else picked.append,
    ) as engine, live_view(inputs.description, quiet=as_json) as show:
        view = _View(_Head(_head_lines(plan, engine, picked), quiet=as_json), notifier, show)
        session = Session(plan, engine, Listener(view.on_result, view.on_event, view.on_tick, tell))
        signals.hand_over(session.loop)
        try:
            session.run()
        except EdgesegError as error:
            failure = error
        finally:
            signals.over()
            notifier.stopping()
            summary = session.summary()
    if as_json:
        print_json(summary)
    elif session.state.frames or failure is None:
        say_summary(session.state)
        agreement = summary.get("replay", {}).get("agreement")
        if agreement is not None:
            say(f"replay: {percent(agreement)} % of pixels have the class that was recorded")
        for reason in summary["throttled"]:
            say(f"throttled: {reason}")
        if plan.shows_nothing():
            say(_NOTHING_KEPT)
    if failure is not None:
        raise failure


FILE_IN = "model"
"""Where a configuration may stand."""

run = command(RunConfig, _run, file_in=FILE_IN)


class _Head:
    """What runs where: said with the first frame or event, so that a camera that never opens leaves its error alone."""

    def __init__(self, lines: List[str], *, quiet: bool) -> None:
        self._lines = lines
        self._pending = not quiet

    def say(self) -> None:
        """Say it, once."""
        if self._pending:
            self._pending = False
            for line in self._lines:
                say(line)


class _View:
    """What people and systemd hear of a run while it goes on."""

    def __init__(self, head: _Head, notifier: "Notifier", show: "Callable[[RunState, Segmentation], None]") -> None:
        self._head, self._notifier, self._show = head, notifier, show

    def on_result(self, state: "RunState", result: "Segmentation") -> None:
        """Show that frames flow."""
        self._head.say()
        if state.frames == 1:
            self._notifier.ready("frames flow")
        self._show(state, result)

    def on_event(self, event: "Event", state: "RunState") -> None:
        """Print an event, unless it is the failure of the only source, which is the command's own last line."""
        if event.level != "error" or list(state.sources) != [event.who]:
            self._head.say()
            say_event(event)

    def on_tick(self, state: "RunState") -> None:
        """Feed the watchdog."""
        self._notifier.alive()
        self._notifier.status(lambda: status_line(state))


def _head_lines(plan: Plan, engine: "Engine", picked: List[str]) -> List[str]:
    bundle = plan.inputs.bundle
    lines = [f"model:  {plan.inputs.name}, classes: {', '.join(bundle.spec.classes)}"]
    if bundle.signer is not None:
        lines.append(f"signed: by {bundle.signer}, a key of {plan.config.require_signature}")
    return [*lines, f"engine: {engine.description}", *picked, f"device: {plan.device.describe()}"]


def _show_pipelines(inputs: Inputs) -> None:
    from edgeseg.runtime.sources.gstreamer import GstSource

    for _, origin in inputs.origins:
        say(origin.pipeline.shown() if isinstance(origin, GstSource) else f"no GStreamer: {origin.description}")
