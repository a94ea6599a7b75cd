"""``edgeseg calibrate``: calibration data. ``select`` chooses the frames."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional

import typer
from typing_extensions import Annotated

from edgeseg.app.targets import is_calibration_cache, refuse_foreign
from edgeseg.cli.arguments import RequireSignatureOption
from edgeseg.cli.console import Commands, JsonFlag, on_terminal, print_json, say, stop_on_signals, table
from edgeseg.errors import UsageError

if TYPE_CHECKING:
    from edgeseg.selection.choice import FrameChooser, Selection

    Report = Callable[[FrameChooser], None]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Calibration data for INT8. Example: edgeseg calibrate select --camera 0 --seconds 600 -o frames",
)


@app.callback()
def _group() -> None:
    pass


@app.command("select")
def select(
    camera: Annotated[Optional[int], typer.Option(help="Camera number N of /dev/videoN.")] = None,
    source: Annotated[
        Optional[str], typer.Option(help="Camera (0), video file, image, folder, glob, or demo://street?frames=300.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("-o", "--out", help="New or empty folder for the PNG files and selection.json.")
    ] = None,
    count: Annotated[int, typer.Option(help="Most frames to choose.")] = 300,
    min_count: Annotated[
        Optional[int], typer.Option(help="Fewer usable frames are an error; else the least that compile takes.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Watch a live source for so long, 0 until Ctrl-C.")] = 0.0,
    frames: Annotated[int, typer.Option(help="Stop after so many frames seen, 0 for no limit.")] = 0,
    policy: Annotated[
        Optional[str],
        typer.Option(help="latest (default for cameras) or every (default for files; the same choice each time)."),
    ] = None,
    min_distance: Annotated[
        Optional[float], typer.Option(help="Frames this near to a chosen one are duplicates; else 0.02.")
    ] = None,
    min_sharpness: Annotated[
        Optional[float], typer.Option(help="Share of the median below which a frame is blurred; else 0.35.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Choose frames for --calib that are sharp, well exposed and differ. Ctrl-C ends early and keeps the chosen.

    Example: edgeseg calibrate select --camera 0 --seconds 600 -o frames
    """
    if (camera is None) == (source is None):
        raise UsageError(
            "say where frames come from: --camera 0, or --source FILE|FOLDER|demo://street (just one of them)"
        )
    if out is None:
        raise UsageError("say where the frames go: --out FOLDER, a new or empty one")
    if policy not in (None, "latest", "every"):
        raise UsageError(f"--policy is latest or every, got {policy!r}")
    from edgeseg.compiler.calibration.collect import MINIMUM_FRAMES
    from edgeseg.runtime.sources import source_from_uri
    from edgeseg.selection.choice import MIN_DISTANCE, MIN_SHARPNESS, selected_frames

    origin = source_from_uri(str(camera) if camera is not None else str(source))
    if origin.is_live and not (seconds or frames or as_json):
        say("watching until the source ends or Ctrl-C, which keeps what was chosen; --seconds or --frames set a limit")
    with stop_on_signals(), _view(count, as_json) as report:
        selection = selected_frames(
            origin,
            out,
            count=count,
            min_count=MINIMUM_FRAMES if min_count is None else min_count,
            latest=None if policy is None else policy == "latest",
            seconds=seconds,
            frames=frames,
            min_distance=MIN_DISTANCE if min_distance is None else min_distance,
            min_sharpness=MIN_SHARPNESS if min_sharpness is None else min_sharpness,
            report=report,
        )
    if as_json:
        print_json({"folder": str(out), **selection.to_json()})
    else:
        _summary(selection, out)


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
    rejected = "  ".join(f"{reason} {number}" for reason, number in chooser.rejected().items() if number)
    return f"frame {chooser.seen}  kept {len(chooser.kept())} of {count}  {rejected}".rstrip()


def _summary(selection: "Selection", folder: Path) -> None:
    from edgeseg.selection.choice import REJECTIONS, REPORT_NAME

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
    if out is None or not out.parent.is_dir():
        raise UsageError(f"pass -o FILE in an existing folder, got {out}")
    refuse_foreign(out, "calibration cache", is_calibration_cache)
    from edgeseg.app.models import bundle_or_default
    from edgeseg.compiler.calibration.tensorrt_cache import cache_from_ranges, text_from_cache
    from edgeseg.files import atomic_write

    bundle, name = bundle_or_default(model, require_signature)
    if bundle.ranges is None:
        raise UsageError(f"{name} holds no ranges: it was compiled without --int8")
    cache = cache_from_ranges(bundle.ranges, tensorrt)
    atomic_write(out, text_from_cache(cache).encode())
    say(f"{name}: {len(cache.scales)} scales for TensorRT {tensorrt} (header {cache.version_code}): {out}")
