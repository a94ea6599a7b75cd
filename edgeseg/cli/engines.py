"""``edgeseg engines``: what TensorRT built on this machine."""

import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List

import typer
from typing_extensions import Annotated

from edgeseg.app.config import REQUIRE_SIGNATURE
from edgeseg.app.engines import engine_cache
from edgeseg.cli.console import Commands, JsonFlag, print_json, say, table
from edgeseg.errors import EngineError, UsageError

app = typer.Typer(cls=Commands, no_args_is_help=True, help="List, delete and take in built TensorRT engines.")


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """Show every built engine: for what, in which precision, and whether it passed its self-test.

    Example: edgeseg engines list
    """
    cache = engine_cache()
    found: List[Dict[str, Any]] = []
    for path, entry in cache.entries():
        if isinstance(entry, EngineError):
            found.append({"file": path.name, "bytes": path.stat().st_size, "problem": str(entry)})
        elif not _whole(entry):
            found.append({"file": path.name, "bytes": path.stat().st_size, "problem": "truncated or altered"})
        else:
            found.append(
                {"file": path.name, "bytes": entry.plan_bytes, **entry.to_json(), "built_for": entry.key.describe()}
            )
    if as_json:
        print_json({"folder": str(cache.folder), "engines": found})
        return
    if not found:
        say(f"no engines in {cache.folder}; 'edgeseg compile --int8' builds one on a Jetson")
        return
    rows = [_row(one) for one in found]
    table(
        f"engines in {cache.folder}", ["file", "precision", "built for", "INT8 convs", "MB", "built", "self-test"], rows
    )


@app.command("prune")
def prune(
    everything: Annotated[bool, typer.Option("--all", help="Every engine, timing cache and choice of tune.")] = False,
    older_than: Annotated[float, typer.Option(min=0.0, help="Engines built more than so many days ago.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete engines that are damaged or lack their sidecar, and those that the options name. Foreign files stay.

    Example: edgeseg engines prune --older-than 90
    """
    from edgeseg.engines.tensorrt.cache import NewerEngine

    cache = engine_cache()
    before = time.time() - older_than * 86400 if older_than else 0.0
    freed = count = 0
    for path, entry in [one for one in cache.entries() if cache.is_ours(one[0])]:
        broken = not isinstance(entry, NewerEngine) and (isinstance(entry, EngineError) or not _whole(entry))
        old = not isinstance(entry, EngineError) and entry.created < before
        if everything or broken or old:
            why = "as asked" if everything else "damaged" if broken else "old"
            say(f"{'would delete' if dry_run else 'deleted'} {path.name} ({why})")
            freed += path.stat().st_size if dry_run else cache.remove(path)
            count += 1
    if everything and not dry_run:
        for left in cache.clear():
            say(f"kept {left}: edgeseg did not write it")
    say(f"{count} engines, {freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")


@app.command("add")
def add(
    engine: Annotated[Path, typer.Argument(help="NAME.engine with NAME.engine.json beside it.")],
) -> None:
    """Take in an engine that was built ahead of time, so that 'edgeseg run --engine rtx' finds it.

    Example: edgeseg engines add street-sm86.engine
    """
    if not engine.is_file():
        raise UsageError(f"{engine} does not exist; pass an engine that 'edgeseg compile --flavour rtx' wrote")
    if REQUIRE_SIGNATURE in os.environ:
        raise UsageError(
            f"{REQUIRE_SIGNATURE} is set, and no signature covers an engine from elsewhere; build it here of a signed "
            "bundle: edgeseg compile BUNDLE"
        )
    added = engine_cache().add(engine)
    say(f"added {added.path.name}, built for {added.key.describe()}")


def _whole(entry: Any) -> bool:
    try:
        entry.plan()
    except EngineError:
        return False
    return True


def _row(one: Dict[str, Any]) -> List[str]:
    megabytes = f"{one['bytes'] / 1e6:.1f}"
    if "problem" in one:
        return [one["file"], "-", one["problem"], "-", megabytes, "-", "-"]
    convolutions = one["precisions"]["convolutions"]
    test = one["self_test"]
    dla = json.loads(one["key"]["options"]).get("dla")
    return [
        one["file"],
        one["key"]["precision"] + ("" if dla is None else f" on DLA {dla}"),
        one["built_for"],
        f"{convolutions.get('INT8', 0)} / {sum(convolutions.values())}",
        megabytes,
        time.strftime("%Y-%m-%d", time.localtime(one["created"])),
        "not run yet" if test is None else "passed" if test["passed"] else "FAILED",
    ]
