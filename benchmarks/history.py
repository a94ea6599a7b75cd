"""Was it ever faster? The shipped model on this machine, release after release.

    python benchmarks/history.py               # make bench: measure, and compare with the last result of this machine
    python benchmarks/history.py --keep        # the same, and keep the result for the version of the package
    python benchmarks/history.py --page        # write history.md from what is kept

A result is kept as ``history/VERSION-MACHINE.json``, what ``edgeseg bench --result`` writes. Results of other machines
are not compared: ``edgeseg bench --compare`` refuses them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgeseg import __version__
from edgeseg.bench.compare import compared, result_from_file
from edgeseg.device.detect import detected_device
from edgeseg.errors import EdgesegError, InputError, UsageError
from edgeseg.files import atomic_write, write_new

HERE = Path(__file__).resolve().parent
KEPT = HERE / "history"
PAGE = HERE / "history.md"
_HEAD = """# The shipped model, release after release

`make bench` measures the shipped model and prints the change against the last result of the same machine.
Median ms per frame, end to end, 640x480 frames. Machines are not compared with each other.
"""
_WIDTH = 40


def machine_of(result: Any) -> str:
    """Return eight letters for a machine: what ``edgeseg bench --compare`` holds to be one."""
    device = result["device"]
    what = [str(device.get(key)) for key in ("board", "cpu", "cores", "power_mode")]
    return hashlib.sha256("|".join(what).encode()).hexdigest()[:8]


def kept_results() -> list[tuple[str, Any]]:
    """Return (version, result) of all that is kept, oldest first."""
    results, refused = [], []
    for path in sorted(KEPT.glob("*.json")):
        try:
            result = result_from_file(path)
            _refuse_incomplete(path, result)
            results.append((result["edgeseg"], result))
        except EdgesegError as error:
            refused.append(str(error))
    if refused:
        raise InputError("; ".join(refused))
    return sorted(results, key=lambda one: _order(one[0]))


def _refuse_incomplete(path: Path, result: Any) -> None:
    """Raise InputError for what `--compare` reads and the page does not: no version, or no p99."""
    if not isinstance(result.get("edgeseg"), str):
        raise InputError(f"{path} has no version `edgeseg`; remove it, or keep it anew")
    if not all(isinstance(one["ms_per_frame"].get("p99_ms"), (int, float)) for one in result["contenders"]):
        raise InputError(f"{path} has a contender without `p99_ms`; remove it, or keep it anew")


def _order(version: str) -> tuple[list[int], bool, str]:
    """Sort versions by number; what comes before a release, such as 0.4.0rc1, is before it."""
    numbers = re.match(r"[0-9.]*", version)
    known = numbers.group().strip(".") if numbers else ""
    return [int(part) for part in known.split(".") if part], known == version, version


def measured(seconds: float) -> dict[str, Any]:
    """Run ``edgeseg bench`` on the shipped model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        words = ["bench", "street", "--no-torch", "--no-memory", "--seconds", str(seconds), "--result", str(path)]
        code = subprocess.run([sys.executable, "-m", "edgeseg", *words]).returncode
        if code:
            raise EdgesegError(f"'edgeseg bench' ended with {code}; nothing is compared or kept")
        return dict(result_from_file(path))


def print_change(result: Any) -> None:
    """Print the change against the last kept result of this machine that is not of a later version."""
    of_machine = [
        one
        for one in kept_results()
        if machine_of(one[1]) == machine_of(result) and _order(one[0]) <= _order(result["edgeseg"])
    ]
    if not of_machine:
        print(f"nothing is kept of this machine ({result['device']['cpu']}), so there is no change to tell")
        return
    version, before = of_machine[-1]
    try:
        found = compared(before, result)
    except UsageError as error:
        print(f"not compared with {version}: {error}")
        return
    for change in found.changes:
        low, high = (100 * (value - 1) for value in (change.low, change.high))
        seen = f"{100 * (change.times_slower - 1):+.1f} % ({low:+.1f} to {high:+.1f})"
        print(f"{change.name}: {seen} since {version}: {change.verdict}")
    for names, where in ((found.only_before, f"in {version}"), (found.only_after, "now")):
        if names:
            print(f"only {where}: {', '.join(names)}")
    for note in found.notes:
        print(f"NOTE: {note}")


def write_page() -> None:
    """Write a table with bars for each machine."""
    lines = [_HEAD]
    results = kept_results()
    for machine in dict.fromkeys(machine_of(result) for _, result in results):
        of_machine = [(version, result) for version, result in results if machine_of(result) == machine]
        device = of_machine[-1][1]["device"]
        rows = [
            (version, one["name"], one["ms_per_frame"]["p50_ms"], one["ms_per_frame"]["p99_ms"])
            for version, result in of_machine
            for one in result["contenders"]
        ]
        longest = max(row[2] for row in rows)
        lines += [f"## {device.get('board') or device['cpu']}, {device.get('cores', '?')} cores\n"]
        lines += ["| contender | version | p50 ms | p99 ms | |", "| --- | --- | --- | --- | --- |"]
        for version, name, p50, p99 in sorted(rows, key=lambda row: (row[1], _order(row[0]))):
            lines.append(
                f"| {name} | {version} | {p50:.2f} | {p99:.2f} | `{'█' * max(1, round(_WIDTH * p50 / longest))}` |"
            )
        lines.append("")
    atomic_write(PAGE, "\n".join(lines).encode())


def keep(result: Any, path: Path, *, overwrite: bool) -> None:
    """Write a result whole or not at all. Raises FileExistsError where one is there that is not to be replaced."""
    path.parent.mkdir(exist_ok=True)
    content = (json.dumps(result, indent=1) + "\n").encode()
    write_new(path, content, replaces=lambda _: overwrite)
    print(f"kept as {path}")


def main() -> None:
    """Measure, keep, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="measuring time per contender")
    parser.add_argument("--keep", action="store_true", help="keep the result for this version")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--overwrite", action="store_true", help="with --keep: replace the result of this version")
    options = parser.parse_args()
    if not options.page:
        path = KEPT / f"{__version__}-{machine_of({'device': detected_device().to_json()})}.json"
        if options.keep and path.exists() and not options.overwrite:
            raise UsageError(f"{path} is there already; pass --overwrite to replace it")
        kept_results()  # what cannot be read is said before minutes are spent
        result = measured(options.seconds)
        print_change(result)
        if options.keep:
            keep(result, path, overwrite=options.overwrite)
    if options.page or options.keep:
        write_page()


if __name__ == "__main__":
    try:
        main()
    except (EdgesegError, OSError) as error:
        sys.exit(f"history: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
