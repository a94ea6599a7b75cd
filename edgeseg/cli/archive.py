"""``edgeseg archive``: a plan, shards, done-files; on this machine or a cluster."""

from decimal import Decimal
from typing import Any, List

import typer

from edgeseg.app.archive import archive, archive_state
from edgeseg.app.archive_config import ArchiveConfig, ArchiveQueryConfig
from edgeseg.app.archive_query import query_archive
from edgeseg.archive.state import State
from edgeseg.cli.console import Commands, JsonFlag, print_json, say, say_aside, table
from edgeseg.cli.options import command
from edgeseg.cli.progress import told_progress
from edgeseg.cli.signals import stop_on_signals
from edgeseg.errors import EdgesegError, GateRefused

_MOST_FAILURES = 20


class _Archive(Commands):
    """The commands; what begins with none of them is for ``segment``."""

    default = "segment"

    def parse_args(self, ctx: Any, args: List[str]) -> List[str]:
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Archive,
    no_args_is_help=True,
    help="Segment an archive of pictures and videos, on this machine or a cluster; a kill loses nothing.\n\n"
    "Example: edgeseg archive photos/ -o masks",
)


@app.callback()
def _group() -> None:
    pass


def _segment(config: ArchiveConfig, as_json: JsonFlag = False) -> None:
    """Segment what is not done yet; 'edgeseg archive SOURCES' is the same.

    Example: edgeseg archive photos/ ride.mp4 -m street -o masks --format both
    """
    if config.status is not None:
        state = archive_state(config.status)
        print_json(state.to_json()) if as_json else _show(state)
        return
    with stop_on_signals(), told_progress(say_aside if as_json else say) as progress:
        done = archive(config, progress)
    if as_json:
        print_json(done.to_json())
    else:
        _show(done.state)
        say(f"-> {done.output}")
        if done.compared:
            say(f"compared: {done.compared} frames segmented again, {len(done.different)} differ")
    if done.lost:
        task, why = done.lost[0]
        raise EdgesegError(f"{len(done.lost)} tasks are left out, the first is task {task}: {why}; run it again")
    if done.different:
        raise GateRefused(
            f"{len(done.different)} of {done.compared} frames give another result than is stored, the first is "
            f"{done.different[0]}"
        )


app.command("segment")(command(ArchiveConfig, _segment))


def _query(config: ArchiveQueryConfig, as_json: JsonFlag = False) -> None:
    """Ask the table of an archive in SQL, through DuckDB; the table is called frames.

    Example: edgeseg archive query masks "SELECT source, count(*) FROM frames GROUP BY source"
    """
    found = query_archive(config)
    if as_json:
        print_json([{name: _plain(value) for name, value in zip(found.columns, row)} for row in found.rows])
        return
    table("frames", found.columns, [[str(value) for value in row] for row in found.rows])


app.command("query")(command(ArchiveQueryConfig, _query))


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it: decimals as numbers, times as texts."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if isinstance(value, Decimal) else str(value)


def _show(state: State) -> None:
    """Say how far an archive is."""
    for name, worker in sorted(state.workers.items()):
        slow = ", slow" if name in state.stragglers() else ""
        say(f"{name}: {worker.frames} frames, {worker.fps:.1f} per second{slow}, {worker.engine}")
    for name, source, why in state.failures[:_MOST_FAILURES]:
        say(f"no result: {name} of {source}: {why}")
    more = state.failed + state.skipped - _MOST_FAILURES
    if more > 0:
        say(f"... and {more} more without a result; --json lists a thousand")
    waits = f" + {state.pictures} waiting" if state.pictures else ""
    videos = f", and {state.videos} videos that are not read to their end" if state.videos else ""
    say(
        f"planned {state.planned} = {state.segmented} segmented + {state.failed} failed + {state.skipped} skipped"
        f"{waits}{videos}"
    )
