"""``edgeseg calibrate``: calibration data. ``select`` chooses the frames."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.calibrate import export_cache, select_frames
from edgeseg.app.calibrate_config import SelectConfig
from edgeseg.cli.arguments import RequireSignatureOption
from edgeseg.cli.console import Commands, JsonFlag, on_terminal, print_json, say, table
from edgeseg.cli.options import command
from edgeseg.cli.signals import stop_on_signals
from edgeseg.progress import Progress

if TYPE_CHECKING:
    from edgeseg.selection.choice import Selection
    from edgeseg.selection.chooser import FrameChooser

    Report = Callable[[FrameChooser], None]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Calibration data for INT8. Example: edgeseg calibrate select --camera 0 --seconds 600 -o frames",
)


@app.callback()
def _group() -> None:
    pass


def _select(config: SelectConfig, as_json: JsonFlag = False) -> None:
    """Choose frames for --calib that are sharp, well exposed and differ. Ctrl-C ends early and keeps the chosen.

    Example: edgeseg calibrate select --camera 0 --seconds 600 -o frames
    """
    progress = Progress() if as_json else Progress(step=say)
    with stop_on_signals(), _view(config.count, as_json) as report:
        selection = select_frames(config, progress, report=report)
    folder = str(config.out)
    if as_json:
        print_json({"folder": folder, **selection.to_json()})
    else:
        _summary(selection, folder)


app.command("select")(command(SelectConfig, _select))


@contextmanager
def _view(count: int, quiet: bool) -> Iterator["Report"]:
    """What is shown while frames are watched: a line that renews itself on a terminal, one now and then in a pipe."""
    if quiet:
        yield lambda chooser: None
    elif on_terminal():
        from rich.live import Live
        from rich.text import Text

        with Live(refresh_per_second=4, transient=True) as live:
            yield _every(0.25, lambda chooser: live.update(Text(_plain_line(chooser, count))))
    else:
        yield _every(2.0, lambda chooser: say(_plain_line(chooser, count)))


def _every(seconds: float, show: "Report") -> "Report":
    due = [0.0]

    def maybe(chooser: "FrameChooser") -> None:
        if time.monotonic() >= due[0]:
            due[0] = time.monotonic() + seconds
            show(chooser)

    return maybe


def _plain_line(chooser: "FrameChooser", count: int) -> str:
    rejected = "  ".join(f"{reason} {number}" for reason, number in chooser.rejections().items() if number)
    return f"frame {chooser.seen}  kept {len(chooser.kept())} of {count}  {rejected}".rstrip()


def _summary(selection: "Selection", folder: str) -> None:
    from edgeseg.selection.choice import REPORT_NAME
    from edgeseg.selection.chooser import REJECTIONS

    rows = [[f"{reason}: {REJECTIONS[reason]}", str(number)] for reason, number in selection.rejected.items()]
    rows = [[f"seen ({selection.ended})", str(selection.seen)], *rows, ["chosen", str(len(selection.chosen))]]
    table(f"source: {selection.source}", ["", "frames"], rows)
    if selection.dropped:
        say(f"{selection.dropped} more came while another was looked at (latest-frame policy)")
    if selection.ended == "interrupted":
        say("interrupted: the choice is of what was seen until then")
    chosen = len(selection.chosen)
    if chosen < selection.count:
        say(f"{chosen} of {selection.count} frames: there were no more that are usable and differ")
    say(
        f"spread {selection.spread:.4f}: no two chosen frames are nearer than that; evenly spaced ones would have "
        f"{selection.uniform_spread:.4f}"
    )
    say(f"{chosen} frames and {REPORT_NAME} are in {folder}: edgeseg compile MODEL --int8 --calib {folder}")


@app.command("export")
def export(
    model: Annotated[
        Optional[Path], typer.Argument(help="A bundle; else your newest *.edgeseg here, else the shipped one.")
    ] = None,
    tensorrt: Annotated[
        str, typer.Option(help="Version of the TensorRT that will read it, e.g. 8.5.2; 11 has no calibration cache.")
    ] = "8.5.2",
    out: Annotated[Optional[Path], typer.Option("-o", "--out", help="File to write, e.g. street.cache.")] = None,
    require_signature: RequireSignatureOption = None,
) -> None:
    """Write a bundle's ranges as TensorRT's INT8 calibration cache.

    Example: edgeseg calibrate export street.edgeseg --tensorrt 8.5.2 -o street.cache
    """
    say(export_cache(model, tensorrt, out, require_signature))
